/* SPDX-License-Identifier: Apache-2.0 */
#include "script/listfile.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LISTFILE_BYTES = 256 << 20,
    LISTFILE_CHECK_US = 1000 * 1000,
    LISTFILE_PATH_BYTES = 4096,
    LISTFILE_ERROR_BYTES = 256,
};

// What tells one file from its successor.
struct listfile_stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

// One reading. The thread writes it, and then `is_done`; the worker reads it after that.
struct listfile_reading {
    char path[LISTFILE_PATH_BYTES];
    char error[LISTFILE_ERROR_BYTES];
    struct listfile_stamp stamp;
    struct moon_ipset *set; // NULL: failed
    _Atomic bool is_done;
};

struct moon_listfile {
    struct moon_list link;
    size_t users;
    struct moon_ipset *set;
    struct listfile_stamp stamp;      // of the set, or of the file that could not be read
    struct listfile_reading *reading; // NULL: none under way
    pthread_t thread;
    int64_t checked_us;
    unsigned loads;
    char path[LISTFILE_PATH_BYTES];
};

static struct moon_list listfiles = {&listfiles, &listfiles};

// ---- reading -----------------------------------------------------------------------------------

static void listfile_say(struct listfile_reading *r, size_t line, const char *what)
{
    if (line > 0)
        (void)snprintf(r->error, sizeof(r->error), "%.120s:%zu: %s", r->path, line, what);
    else
        (void)snprintf(r->error, sizeof(r->error), "%.120s: %s", r->path, what);
}

static size_t listfile_word(struct moon_slice line)
{
    size_t n = 0;
    while (n < line.len && strchr(" \t\r;,#", line.data[n]) == NULL)
        n++;
    return n;
}

static bool listfile_parse_lines(struct listfile_reading *r, struct moon_slice text)
{
    for (size_t line = 1; text.len > 0; line++) {
        size_t end = moon_slice_find(text, '\n');
        struct moon_slice row = moon_slice_trim(moon_slice(text.data, end));
        row.len = listfile_word(row);
        text = moon_slice_from(text, end < text.len ? end + 1 : end);
        if (row.len == 0)
            continue;
        if (moon_ipset_add(r->set, row) != MOON_OK) {
            listfile_say(r, line, "no network (an address, a CIDR without host bits, or a range)");
            return false;
        }
    }
    return true;
}

static bool listfile_parse_json(struct listfile_reading *r, struct moon_slice text)
{
    size_t found = 0;
    while (text.len > 0) {
        size_t open = moon_slice_find(text, '"');
        if (open == text.len)
            break;
        text = moon_slice_from(text, open + 1);
        size_t close = moon_slice_find(text, '"');
        if (close < 64 && moon_ipset_add(r->set, moon_slice(text.data, close)) == MOON_OK)
            found++;
        text = moon_slice_from(text, close < text.len ? close + 1 : close);
    }
    if (found == 0)
        listfile_say(r, 0, "JSON without a network");
    return found > 0;
}

static char *listfile_slurp(struct listfile_reading *r, size_t *len)
{
    struct stat st;
    char *text = NULL;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd == -1 || fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
        listfile_say(r, 0, fd == -1 ? "cannot be opened" : "is no regular file");
        goto end;
    }
    r->stamp = (struct listfile_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
    if (st.st_size > LISTFILE_BYTES || (text = malloc((size_t)st.st_size + 1)) == NULL) {
        listfile_say(r, 0, "is larger than 256 MiB, or than memory");
        goto end;
    }
    *len = 0;
    while (*len < (size_t)st.st_size) {
        ssize_t n = read(fd, text + *len, (size_t)st.st_size - *len);
        if (n <= 0)
            break;
        *len += (size_t)n;
    }
end:
    if (fd != -1)
        (void)close(fd);
    return text;
}

static void listfile_read(struct listfile_reading *r)
{
    size_t len = 0;
    char *text = listfile_slurp(r, &len);
    if (text == NULL)
        return;
    struct moon_slice all = moon_slice_trim(moon_slice(text, len));
    bool is_json = all.len > 0 && (all.data[0] == '{' || all.data[0] == '[') &&
                   moon_slice_find(all, '"') < all.len;
    r->set = moon_ipset_new();
    bool is_good = r->set != NULL && (is_json ? listfile_parse_json(r, all)
                                              : listfile_parse_lines(r, moon_slice(text, len)));
    free(text);
    if (!is_good) {
        moon_ipset_free(r->set);
        r->set = NULL;
        return;
    }
    moon_ipset_seal(r->set);
}

static void *listfile_run(void *arg)
{
    struct listfile_reading *r = arg;
    listfile_read(r);
    atomic_store_explicit(&r->is_done, true, memory_order_release);
    return NULL;
}

// ---- reading again -----------------------------------------------------------------------------

static struct listfile_reading *listfile_reading_new(const char *path)
{
    struct listfile_reading *r = calloc(1, sizeof(*r));
    if (r != NULL)
        (void)snprintf(r->path, sizeof(r->path), "%s", path);
    return r;
}

static void listfile_take(struct moon_listfile *list)
{
    struct listfile_reading *r = list->reading;
    (void)pthread_join(list->thread, NULL); // it has ended, or is about to
    list->reading = NULL;
    list->stamp = r->stamp;
    if (r->set != NULL) {
        moon_ipset_free(list->set);
        list->set = r->set;
        list->loads++;
        moon_log_info("address list %s: %zu ranges", list->path, moon_ipset_count(list->set));
    } else {
        moon_log_error("address list %s; the one before stays", r->error);
    }
    free(r);
}

static void listfile_start(struct moon_listfile *list)
{
    struct stat st;
    if (stat(list->path, &st) == -1)
        return; // being replaced, or gone: the old set stays
    if (st.st_ino == list->stamp.inode && st.st_dev == list->stamp.device &&
        st.st_size == list->stamp.bytes && st.st_mtim.tv_sec == list->stamp.changed.tv_sec &&
        st.st_mtim.tv_nsec == list->stamp.changed.tv_nsec)
        return;
    struct listfile_reading *r = listfile_reading_new(list->path);
    if (r == NULL)
        return;
    if (pthread_create(&list->thread, NULL, listfile_run, r) != 0) {
        free(r);
        return;
    }
    list->reading = r;
}

static void listfile_check(struct moon_listfile *list)
{
    if (list->reading != NULL) {
        if (atomic_load_explicit(&list->reading->is_done, memory_order_acquire))
            listfile_take(list);
        return;
    }
    int64_t now = moon_clock_us();
    if (MOON_LIKELY(now - list->checked_us < LISTFILE_CHECK_US))
        return;
    list->checked_us = now;
    listfile_start(list);
}

// ---- the list ----------------------------------------------------------------------------------

static struct moon_listfile *listfile_known(struct moon_slice path)
{
    MOON_LIST_EACH(at, after, &listfiles)
    {
        struct moon_listfile *list = MOON_LIST_ENTRY(at, struct moon_listfile, link);
        if (moon_slice_is(path, moon_slice_text(list->path)))
            return list;
    }
    return NULL;
}

enum moon_rc moon_listfile_acquire(struct moon_slice path, char *error, size_t error_cap,
                                   struct moon_listfile **out)
{
    struct moon_listfile *list = listfile_known(path);
    if (list != NULL) {
        list->users++;
        *out = list;
        return MOON_OK;
    }
    struct listfile_reading *r = NULL;
    enum moon_rc rc = MOON_ERR_MEMORY;
    (void)snprintf(error, error_cap, "out of memory");
    if ((list = calloc(1, sizeof(*list))) == NULL)
        return rc;
    rc = MOON_ERR_CONFIG;
    (void)snprintf(error, error_cap, "the path is too long");
    if (!moon_slice_copy_text(path, list->path, sizeof(list->path)) ||
        (r = listfile_reading_new(list->path)) == NULL)
        goto fail;
    listfile_read(r);
    (void)snprintf(error, error_cap, "%s", r->error);
    if (r->set == NULL)
        goto fail;
    list->users = 1;
    list->set = r->set;
    list->stamp = r->stamp;
    list->loads = 1;
    list->checked_us = moon_clock_us();
    moon_list_push_back(&listfiles, &list->link);
    free(r);
    *out = list;
    return MOON_OK;
fail:
    free(r);
    free(list);
    return rc;
}

void moon_listfile_release(struct moon_listfile *list)
{
    if (list == NULL || --list->users > 0)
        return;
    if (list->reading != NULL) {
        (void)pthread_join(list->thread, NULL);
        moon_ipset_free(list->reading->set);
        free(list->reading);
    }
    moon_list_remove(&list->link);
    moon_ipset_free(list->set);
    free(list);
}

bool moon_listfile_has(struct moon_listfile *list, const struct moon_ip *ip)
{
    listfile_check(list);
    return moon_ipset_has(list->set, ip);
}

size_t moon_listfile_count(struct moon_listfile *list)
{
    listfile_check(list);
    return moon_ipset_count(list->set);
}

unsigned moon_listfile_loads(struct moon_listfile *list)
{
    listfile_check(list);
    return list->loads;
}
