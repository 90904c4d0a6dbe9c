/* SPDX-License-Identifier: Apache-2.0 */
#include "script/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BUNDLE_FILE_BYTES = 1 << 20,
    BUNDLE_BYTES = 64 << 20,
    BUNDLE_DEPTH = 6,
    BUNDLE_FILES = 20000,
};

struct bundle_file {
    struct moon_slice path, text; // own memory, NUL-terminated
};

struct moon_bundle {
    char *dir;
    struct bundle_file *files;
    size_t count, cap;
    size_t bytes;
};

struct bundle_walk {
    struct moon_bundle *bundle;
    char *error;
    size_t error_cap;
};

static enum moon_rc bundle_error(struct bundle_walk *walk, const char *path, const char *why)
{
    (void)snprintf(walk->error, walk->error_cap, "%s: %s", path, why);
    return MOON_ERR_CONFIG;
}

// Takes both texts.
static enum moon_rc bundle_add(struct moon_bundle *bundle, char *path, char *text, size_t len)
{
    if (bundle->count == bundle->cap) {
        size_t cap = bundle->cap == 0 ? 32 : bundle->cap * 2;
        struct bundle_file *files = realloc(bundle->files, cap * sizeof(*files));
        if (files == NULL) {
            free(path);
            free(text);
            return MOON_ERR_MEMORY;
        }
        bundle->files = files;
        bundle->cap = cap;
    }
    bundle->files[bundle->count++] =
        (struct bundle_file){moon_slice_text(path), moon_slice(text, len)};
    bundle->bytes += len;
    return MOON_OK;
}

static char *bundle_read_all(int fd, size_t size, size_t *len)
{
    char *text = malloc(size + 1);
    size_t n = 0;
    while (text != NULL && n < size) {
        ssize_t got = read(fd, text + n, size - n);
        if (got == -1 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (text != NULL)
        text[n] = '\0';
    *len = n;
    return text;
}

static bool bundle_is_lua(const char *path)
{
    return moon_slice_ends(moon_slice_text(path), MOON_S(".lua"));
}

static enum moon_rc bundle_add_file(struct bundle_walk *walk, const char *full,
                                    const char *relative, size_t size)
{
    if (walk->bundle->count >= BUNDLE_FILES || walk->bundle->bytes + size > BUNDLE_BYTES)
        return bundle_error(walk, full, "the directory holds more than 64 MiB or 20,000 files");
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    // What is no Lua is read where a field names it, and complained of there.
    if (fd == -1 && errno == EACCES && !bundle_is_lua(relative))
        return MOON_OK;
    if (fd == -1)
        return bundle_error(walk, full, strerror(errno));
    size_t len;
    char *text = bundle_read_all(fd, size, &len);
    (void)close(fd);
    char *path = strdup(relative);
    if (text == NULL || path == NULL) {
        free(text);
        free(path);
        return MOON_ERR_MEMORY;
    }
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): both are the bundle's now
    return bundle_add(walk->bundle, path, text, len);
}

static enum moon_rc bundle_walk_dir(struct bundle_walk *walk, const char *relative, int depth);

static bool bundle_is_skipped(const char *name, const char *relative)
{
    bool is_top = relative[0] == '\0';
    return name[0] == '.' || (is_top && strcmp(name, "spec") == 0) ||
           strcmp(name, "node_modules") == 0 || strcmp(name, "lost+found") == 0;
}

// NOLINTNEXTLINE(misc-no-recursion): of bounded depth
static enum moon_rc bundle_visit(struct bundle_walk *walk, const char *relative, const char *name,
                                 int depth)
{
    char path[PATH_MAX];
    char full[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof(path), "%s%s%s", relative, relative[0] == '\0' ? "" : "/", name);
    int m = snprintf(full, sizeof(full), "%s/%s", walk->bundle->dir, path);
    if (n < 0 || m < 0 || (size_t)n >= sizeof(path) || (size_t)m >= sizeof(full))
        return bundle_error(walk, name, "the path is too long");
    bool is_lua = bundle_is_lua(name);
    if (stat(full, &st) == -1) {
        // Gone meanwhile, or a link to nothing: without its file an API would be gone, too.
        bool is_link = is_lua && lstat(full, &st) == 0;
        return is_link ? bundle_error(walk, full, "is a link to nothing") : MOON_OK;
    }
    if (S_ISDIR(st.st_mode))
        return depth >= BUNDLE_DEPTH ? MOON_OK : bundle_walk_dir(walk, path, depth + 1);
    if (!S_ISREG(st.st_mode))
        return is_lua ? bundle_error(walk, full, "is no regular file") : MOON_OK;
    if (st.st_size > BUNDLE_FILE_BYTES && !is_lua)
        return MOON_OK;
    return bundle_add_file(walk, full, path, (size_t)st.st_size);
}

// misc-no-recursion: bounded by BUNDLE_DEPTH.
// NOLINTNEXTLINE(misc-no-recursion): of bounded depth
static enum moon_rc bundle_walk_dir(struct bundle_walk *walk, const char *relative, int depth)
{
    char full[PATH_MAX];
    struct dirent **names;
    enum moon_rc rc = MOON_OK;
    (void)snprintf(full, sizeof(full), "%s/%s", walk->bundle->dir, relative);
    int n = scandir(full, &names, NULL, alphasort);
    if (n == -1)
        return bundle_error(walk, full, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (rc == MOON_OK && !bundle_is_skipped(names[i]->d_name, relative))
            rc = bundle_visit(walk, relative, names[i]->d_name, depth);
        free(names[i]);
    }
    free(names);
    return rc;
}

enum moon_rc moon_bundle_read(const char *dir, char *error, size_t error_cap,
                              struct moon_bundle **out)
{
    struct moon_bundle *bundle = calloc(1, sizeof(*bundle));
    if (bundle == NULL)
        return MOON_ERR_MEMORY;
    struct bundle_walk walk = {bundle, error, error_cap};
    enum moon_rc rc;
    bundle->dir = realpath(dir, NULL);
    if (bundle->dir == NULL)
        rc = bundle_error(&walk, dir, strerror(errno));
    else
        rc = bundle_walk_dir(&walk, "", 0);
    struct moon_slice text;
    if (rc == MOON_OK && !moon_bundle_find(bundle, MOON_S("gateway.lua"), &text))
        rc = bundle_error(&walk, bundle->dir, "there is no gateway.lua in this directory");
    if (rc != MOON_OK) {
        moon_bundle_free(bundle);
        return rc;
    }
    *out = bundle;
    return MOON_OK;
}

enum moon_rc moon_bundle_of_text(const char *dir, const char *gateway, struct moon_bundle **out)
{
    struct moon_bundle *bundle = calloc(1, sizeof(*bundle));
    if (bundle == NULL)
        return MOON_ERR_MEMORY;
    enum moon_rc rc = MOON_ERR_MEMORY;
    char *path = strdup("gateway.lua");
    char *text = strdup(gateway);
    bundle->dir = strdup(dir);
    if (bundle->dir == NULL || path == NULL || text == NULL) {
        free(path);
        free(text);
        goto fail;
    }
    rc = bundle_add(bundle, path, text, strlen(gateway));
    if (rc != MOON_OK)
        goto fail;
    *out = bundle;
    return MOON_OK;
fail:
    moon_bundle_free(bundle);
    return rc;
}

void moon_bundle_free(struct moon_bundle *bundle)
{
    if (bundle == NULL)
        return;
    for (size_t i = 0; i < bundle->count; i++) {
        free((void *)(uintptr_t)bundle->files[i].path.data);
        free((void *)(uintptr_t)bundle->files[i].text.data);
    }
    free(bundle->files);
    free(bundle->dir);
    free(bundle);
}

static bool bundle_write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool bundle_write_text(int fd, struct moon_slice text)
{
    uint64_t len = text.len;
    return bundle_write_all(fd, &len, sizeof(len)) && bundle_write_all(fd, text.data, text.len);
}

int moon_bundle_to_fd(const struct moon_bundle *bundle)
{
    int fd = memfd_create("moongate-bundle", MFD_CLOEXEC);
    if (fd == -1)
        return -1;
    uint64_t count = bundle->count;
    bool is_written = bundle_write_all(fd, &count, sizeof(count)) &&
                      bundle_write_text(fd, moon_slice_text(bundle->dir));
    for (size_t i = 0; is_written && i < bundle->count; i++)
        is_written = bundle_write_text(fd, bundle->files[i].path) &&
                     bundle_write_text(fd, bundle->files[i].text);
    if (!is_written) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static char *bundle_take_text(struct moon_slice *rest, size_t *len)
{
    uint64_t n;
    if (rest->len < sizeof(n))
        return NULL;
    memcpy(&n, rest->data, sizeof(n));
    *rest = moon_slice_from(*rest, sizeof(n));
    if (n > rest->len)
        return NULL;
    char *text = malloc((size_t)n + 1);
    if (text == NULL)
        return NULL;
    memcpy(text, rest->data, (size_t)n);
    text[n] = '\0';
    *len = (size_t)n;
    *rest = moon_slice_from(*rest, (size_t)n);
    return text;
}

static enum moon_rc bundle_decode(struct moon_bundle *bundle, struct moon_slice rest)
{
    uint64_t count;
    size_t len;
    if (rest.len < sizeof(count))
        return MOON_ERR_SYSTEM;
    memcpy(&count, rest.data, sizeof(count));
    rest = moon_slice_from(rest, sizeof(count));
    bundle->dir = bundle_take_text(&rest, &len);
    if (bundle->dir == NULL)
        return MOON_ERR_SYSTEM;
    for (uint64_t i = 0; i < count; i++) {
        size_t path_len, text_len = 0;
        char *path = bundle_take_text(&rest, &path_len);
        char *text = path == NULL ? NULL : bundle_take_text(&rest, &text_len);
        if (text == NULL) {
            free(path);
            return MOON_ERR_SYSTEM;
        }
        enum moon_rc rc = bundle_add(bundle, path, text, text_len);
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

enum moon_rc moon_bundle_from_fd(int fd, struct moon_bundle **out)
{
    struct stat st;
    if (fstat(fd, &st) == -1 || st.st_size <= 0)
        return MOON_ERR_SYSTEM;
    size_t size = (size_t)st.st_size;
    void *mapped = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED)
        return MOON_ERR_SYSTEM;
    struct moon_bundle *bundle = calloc(1, sizeof(*bundle));
    enum moon_rc rc =
        bundle == NULL ? MOON_ERR_MEMORY : bundle_decode(bundle, moon_slice(mapped, size));
    (void)munmap(mapped, size);
    if (rc != MOON_OK) {
        moon_bundle_free(bundle);
        return rc;
    }
    *out = bundle;
    return MOON_OK;
}

const char *moon_bundle_dir(const struct moon_bundle *bundle)
{
    return bundle->dir;
}

bool moon_bundle_find(const struct moon_bundle *bundle, struct moon_slice path,
                      struct moon_slice *text)
{
    for (size_t i = 0; i < bundle->count; i++) {
        if (moon_slice_is(bundle->files[i].path, path)) {
            *text = bundle->files[i].text;
            return true;
        }
    }
    return false;
}

size_t moon_bundle_count(const struct moon_bundle *bundle)
{
    return bundle->count;
}

struct moon_slice moon_bundle_path(const struct moon_bundle *bundle, size_t i)
{
    MOON_ASSERT(i < bundle->count);
    return bundle->files[i].path;
}
