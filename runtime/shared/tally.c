/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/tally.h"

#include "base/hash.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TALLY_CELLS = 1 << 16,
    TALLY_RUN = 32,
    TALLY_PATH = 512,
    TALLY_FILES = 64,     // one a gateway's name; a suite of specs has many
    TALLY_BEING_MADE = 1, // as a tag
};

#define TALLY_MAGIC UINT64_C(0x31594c4c4154474d) // "MGTALLY1"

struct tally_cell {
    _Atomic uint64_t tag;  // 0: unused
    _Atomic uint64_t rest; // further bits of the key
    _Atomic int64_t expires_s, calls, bytes;
    int64_t unused[3];
};

struct moon_tally {
    uint64_t magic;
    uint64_t cell_count;
    uint64_t unused[6];
    struct tally_cell cells[TALLY_CELLS + TALLY_RUN];
};

static struct {
    char path[TALLY_PATH];
    struct moon_tally *tally;
} tally_open_files[TALLY_FILES];

// FNV-1a: the same in every process and after every restart, unlike moon_hash.
static uint64_t tally_hash(struct moon_slice key, uint64_t h)
{
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (uint8_t)key.data[i]) * UINT64_C(0x100000001b3);
    return moon_hash_mix(h);
}

static enum moon_rc tally_fail(int fd, const char *path, const char *why, char *error, size_t cap)
{
    (void)snprintf(error, cap, "%s: %s", path, why);
    if (fd >= 0)
        (void)close(fd);
    return MOON_ERR_IO;
}

static enum moon_rc tally_map(const char *path, char *error, size_t cap, struct moon_tally **out)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1 || fstat(fd, &st) == -1)
        return tally_fail(fd, path, strerror(errno), error, cap);
    bool is_new = st.st_size == 0;
    if (!is_new && st.st_size != (off_t)sizeof(struct moon_tally))
        return tally_fail(fd, path, "is no file of counts", error, cap);
    if (is_new && ftruncate(fd, (off_t)sizeof(struct moon_tally)) == -1)
        return tally_fail(fd, path, strerror(errno), error, cap);
    // All of it now: where a full disk has no block for a page, writing to that would be a SIGBUS. Not
    // every file system can.
    if (fallocate(fd, 0, 0, (off_t)sizeof(struct moon_tally)) == -1 && errno != EOPNOTSUPP)
        return tally_fail(fd, path, strerror(errno), error, cap);
    struct moon_tally *tally =
        mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (tally == MAP_FAILED)
        return tally_fail(fd, path, strerror(errno), error, cap);
    (void)close(fd);
    // A file of zeros is a new table, whoever of the workers gets here first.
    if (tally->magic == 0) {
        tally->cell_count = TALLY_CELLS;
        tally->magic = TALLY_MAGIC;
    }
    if (tally->magic != TALLY_MAGIC || tally->cell_count != TALLY_CELLS) {
        (void)munmap(tally, sizeof(*tally));
        return tally_fail(-1, path, "is no file of counts", error, cap);
    }
    *out = tally;
    return MOON_OK;
}

enum moon_rc moon_tally_open(const char *path, char *error, size_t error_cap,
                             struct moon_tally **out)
{
    for (size_t i = 0; i < TALLY_FILES; i++) {
        if (tally_open_files[i].tally == NULL) {
            if (strlen(path) >= TALLY_PATH)
                return tally_fail(-1, path, "the path is too long", error, error_cap);
            enum moon_rc rc = tally_map(path, error, error_cap, &tally_open_files[i].tally);
            if (rc != MOON_OK)
                return rc;
            memcpy(tally_open_files[i].path, path, strlen(path) + 1);
        }
        if (strcmp(tally_open_files[i].path, path) == 0) {
            *out = tally_open_files[i].tally;
            return MOON_OK;
        }
    }
    return tally_fail(-1, path, "too many files of counts are open", error, error_cap);
}

static struct tally_cell *tally_find(struct tally_cell *run, uint64_t tag, uint64_t rest)
{
    for (size_t i = 0; i < TALLY_RUN; i++) {
        if (atomic_load_explicit(&run[i].tag, memory_order_acquire) == tag &&
            atomic_load_explicit(&run[i].rest, memory_order_relaxed) == rest)
            return &run[i];
    }
    return NULL;
}

// Makes a cell of one that is unused or has expired. Of two workers that make one for the same key,
// the later in the run gives way.
static struct tally_cell *tally_make(struct tally_cell *run, uint64_t tag, uint64_t rest,
                                     int64_t expires_s, int64_t now_s)
{
    for (size_t i = 0; i < TALLY_RUN; i++) {
        struct tally_cell *cell = &run[i];
        uint64_t old = atomic_load(&cell->tag);
        bool is_free = old == 0 || atomic_load(&cell->expires_s) <= now_s;
        if (!is_free || !atomic_compare_exchange_strong(&cell->tag, &old, TALLY_BEING_MADE))
            continue;
        atomic_store(&cell->rest, rest);
        atomic_store(&cell->calls, 0);
        atomic_store(&cell->bytes, 0);
        atomic_store(&cell->expires_s, expires_s);
        atomic_store_explicit(&cell->tag, tag, memory_order_release);
        struct tally_cell *first = tally_find(run, tag, rest);
        if (first != cell && first != NULL) {
            atomic_store(&cell->tag, 0);
            return first;
        }
        return cell;
    }
    return NULL;
}

// Where a key's cell may lie, and how it is known.
struct tally_place {
    struct tally_cell *run;
    uint64_t tag, rest;
};

static struct tally_place tally_place(struct moon_tally *tally, struct moon_slice key)
{
    uint64_t rest = tally_hash(key, UINT64_C(0xcbf29ce484222325));
    return (struct tally_place){
        .run = &tally->cells[rest % TALLY_CELLS],
        .tag = tally_hash(key, UINT64_C(0x9e3779b97f4a7c15)) | 2,
        .rest = rest,
    };
}

void moon_tally_give_back(struct moon_tally *tally, struct moon_slice key, int64_t calls)
{
    struct tally_place p = tally_place(tally, key);
    struct tally_cell *cell = tally_find(p.run, p.tag, p.rest);
    if (cell == NULL)
        return;
    int64_t counted = atomic_load(&cell->calls);
    while (!atomic_compare_exchange_weak(&cell->calls, &counted,
                                         counted > calls ? counted - calls : 0))
        ;
}

enum moon_rc moon_tally_add(struct moon_tally *tally, struct moon_slice key, int64_t expires_s,
                            int64_t now_s, struct moon_tally_count amount, int64_t max_calls,
                            int64_t max_bytes, struct moon_tally_count *now)
{
    struct tally_place p = tally_place(tally, key);
    struct tally_cell *cell = tally_find(p.run, p.tag, p.rest);
    if (cell == NULL)
        cell = tally_make(p.run, p.tag, p.rest, expires_s, now_s);
    if (cell == NULL)
        return MOON_ERR_MEMORY;
    int64_t calls = atomic_load(&cell->calls), bytes = atomic_load(&cell->bytes);
    enum moon_rc rc = max_bytes >= 0 && bytes >= max_bytes ? MOON_ERR_LIMIT : MOON_OK;
    while (rc == MOON_OK) {
        if (max_calls >= 0 && calls + amount.calls > max_calls)
            rc = MOON_ERR_LIMIT;
        else if (atomic_compare_exchange_weak(&cell->calls, &calls, calls + amount.calls))
            break;
    }
    if (rc == MOON_OK) {
        calls += amount.calls;
        bytes = atomic_fetch_add(&cell->bytes, amount.bytes) + amount.bytes;
    }
    *now = (struct moon_tally_count){calls, bytes};
    return rc;
}
