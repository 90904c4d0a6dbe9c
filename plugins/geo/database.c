/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/database.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <maxminddb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK_EVERY_MS 5000
#define FILE_MAX ((off_t)1 << 30)
#define COUNTRY_SLOTS 1024 // a power of two; a country database has some 250 records
#define TEXT_MAX 256       // of a name; longer ones are cut off

// Which contents of the file were read.
struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
};

struct country_slot {
    uint32_t offset; // of the record, plus 1; 0: empty
    char code[2];    // NUL: the record names no country
};

struct database {
    struct database *next; // all that are open
    size_t references;
    char *path;
    struct stamp stamp;  // of what is open
    struct stamp failed; // of what was found wrong, so that it is reported once
    int64_t check_at_ms;
    int fd; // of the copy, while MMDB holds it open
    MMDB_s mmdb;
    struct country_slot countries[COUNTRY_SLOTS];
};

static struct database *databases;

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

// Copies the file into memory that only we hold. Returns its descriptor, or -1.
static int copy_file(int from, off_t size)
{
    char chunk[65536];
    off_t left = size;
    int to = memfd_create("moongate-geo", MFD_CLOEXEC);
    while (to != -1 && left > 0) {
        ssize_t n = read(from, chunk, sizeof chunk);
        if (n == -1 && errno == EINTR) {
            continue;
        }
        if (n <= 0 || write(to, chunk, (size_t)n) != n) {
            (void)close(to);
            return -1;
        }
        left -= n;
    }
    return to;
}

// Opens the contents that the path has now.
static const char *load(const char *path, MMDB_s *mmdb, int *fd, struct stamp *stamp)
{
    struct stat st;
    char name[40];
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO would be waited for
    if (from == -1 || fstat(from, &st) == -1) {
        const char *why = strerrordesc_np(errno);
        if (from != -1) {
            (void)close(from);
        }
        return why;
    }
    *stamp = stamp_of(&st);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        (void)close(from);
        return "not a regular file of at most 1 GiB";
    }
    *fd = copy_file(from, st.st_size);
    (void)close(from);
    if (*fd == -1) {
        return "cannot be read";
    }
    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", *fd);
    int status = MMDB_open(name, MMDB_MODE_MMAP, mmdb);
    if (status != MMDB_SUCCESS) {
        (void)close(*fd);
        *fd = -1;
        return MMDB_strerror(status);
    }
    return NULL;
}

struct database *geo_database_acquire(const struct moon_host *host, const char *path,
                                      const char **error)
{
    for (struct database *db = databases; db != NULL; db = db->next) {
        if (strcmp(db->path, path) == 0) {
            db->check_at_ms = 0; // who opens it wants what is there now
            geo_database_refresh(host, db);
            db->references++;
            return db;
        }
    }
    struct database *db = calloc(1, sizeof *db);
    *error = "no memory";
    if (db == NULL) {
        return NULL;
    }
    db->path = strdup(path);
    if (db->path != NULL) {
        *error = load(path, &db->mmdb, &db->fd, &db->stamp);
    }
    if (*error != NULL) {
        free(db->path);
        free(db);
        return NULL;
    }
    db->references = 1;
    db->check_at_ms = host->wall_ms() + CHECK_EVERY_MS;
    db->next = databases;
    databases = db;
    return db;
}

void geo_database_release(struct database *db)
{
    if (db == NULL || --db->references > 0) {
        return;
    }
    for (struct database **at = &databases; *at != NULL; at = &(*at)->next) {
        if (*at == db) {
            *at = db->next;
            break;
        }
    }
    MMDB_close(&db->mmdb);
    (void)close(db->fd);
    free(db->path);
    free(db);
}

void geo_database_refresh(const struct moon_host *host, struct database *db)
{
    struct stat st;
    int64_t now = host->wall_ms();
    if (now < db->check_at_ms && db->check_at_ms - now <= CHECK_EVERY_MS) {
        return;
    }
    db->check_at_ms = now + CHECK_EVERY_MS;
    if (stat(db->path, &st) == -1) {
        return; // gone for a moment, while it is replaced
    }
    struct stamp stamp = stamp_of(&st);
    if (is_same(&stamp, &db->stamp) || is_same(&stamp, &db->failed)) {
        return;
    }
    MMDB_s fresh = {0};
    int fd = -1;
    const char *error = load(db->path, &fresh, &fd, &stamp);
    if (error != NULL) {
        db->failed = stamp;
        host->log(MOON_LOG_ERROR, "geo: %s was replaced by what cannot be used: %s", db->path,
                  error);
        return;
    }
    MMDB_close(&db->mmdb);
    (void)close(db->fd);
    db->mmdb = fresh;
    db->fd = fd;
    db->stamp = stamp;
    memset(db->countries, 0, sizeof db->countries);
    host->log(MOON_LOG_INFO, "geo: %s was replaced and read again", db->path);
}

static bool find_entry(struct database *db, struct moon_slice ip, MMDB_lookup_result_s *out)
{
    char text[64];
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    const struct sockaddr *address;
    int error = MMDB_SUCCESS;
    if (ip.len >= sizeof text) {
        return false;
    }
    memcpy(text, ip.data, ip.len);
    text[ip.len] = '\0';
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        address = (const struct sockaddr *)&v4;
    } else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
            memcpy(&v4.sin_addr, v6.sin6_addr.s6_addr + 12, 4);
            address = (const struct sockaddr *)&v4;
        } else {
            address = (const struct sockaddr *)&v6;
        }
    } else {
        return false;
    }
    *out = MMDB_lookup_sockaddr(&db->mmdb, address, &error);
    return error == MMDB_SUCCESS && out->found_entry;
}

// The text at a path in the record; empty when it is not there or no text.
static struct moon_slice text_at(MMDB_entry_s *entry, const char *const *path)
{
    MMDB_entry_data_s data;
    struct moon_slice s = {"", 0};
    if (MMDB_aget_value(entry, &data, path) == MMDB_SUCCESS && data.has_data &&
        data.type == MMDB_DATA_TYPE_UTF8_STRING) {
        s.data = data.utf8_string;
        s.len = data.data_size < TEXT_MAX ? data.data_size : TEXT_MAX;
    }
    return s;
}

static bool is_code(struct moon_slice s)
{
    return s.len == 2;
}

static struct moon_slice first_code(MMDB_entry_s *entry, const char *const *const *paths)
{
    for (; *paths != NULL; paths++) {
        struct moon_slice s = text_at(entry, *paths);
        if (is_code(s)) {
            return s;
        }
    }
    return (struct moon_slice){"", 0};
}

static const char *const COUNTRY[] = {"country", "iso_code", NULL};
static const char *const REGISTERED[] = {"registered_country", "iso_code", NULL};
static const char *const COUNTRY_CODE[] = {"country_code", NULL};
static const char *const COUNTRY_FLAT[] = {"country", NULL};

// MaxMind's own form first, then the flat ones of free databases.
static const char *const *const COUNTRY_PATHS[] = {COUNTRY, REGISTERED, COUNTRY_CODE, COUNTRY_FLAT,
                                                   NULL};

static struct moon_slice continent_of(MMDB_entry_s *entry)
{
    static const char *const CODE[] = {"continent", "code", NULL};
    static const char *const FLAT_CODE[] = {"continent_code", NULL};
    static const char *const FLAT[] = {"continent", NULL};
    static const char *const *const PATHS[] = {CODE, FLAT_CODE, FLAT, NULL};
    return first_code(entry, PATHS);
}

static uint32_t digits(struct moon_slice s)
{
    uint64_t value = 0;
    size_t i = s.len > 2 && (s.data[0] | 0x20) == 'a' && (s.data[1] | 0x20) == 's' ? 2 : 0;
    for (; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' || value > UINT32_MAX) {
            return 0;
        }
        value = value * 10 + (uint64_t)(s.data[i] - '0');
    }
    return value <= UINT32_MAX ? (uint32_t)value : 0;
}

static uint32_t asn_of(MMDB_entry_s *entry)
{
    static const char *const NUMBER[] = {"autonomous_system_number", NULL};
    static const char *const FLAT[] = {"asn", NULL};
    MMDB_entry_data_s data;
    if (MMDB_aget_value(entry, &data, NUMBER) != MMDB_SUCCESS || !data.has_data) {
        if (MMDB_aget_value(entry, &data, FLAT) != MMDB_SUCCESS || !data.has_data) {
            return 0;
        }
    }
    if (data.type == MMDB_DATA_TYPE_UINT32) {
        return data.uint32;
    }
    if (data.type == MMDB_DATA_TYPE_UTF8_STRING) {
        return digits((struct moon_slice){data.utf8_string, data.data_size});
    }
    return 0;
}

static struct moon_slice org_of(MMDB_entry_s *entry)
{
    static const char *const LONG[] = {"autonomous_system_organization", NULL};
    static const char *const AS_NAME[] = {"as_name", NULL};
    static const char *const ORG[] = {"org", NULL};
    struct moon_slice s = text_at(entry, LONG);
    if (s.len == 0) {
        s = text_at(entry, AS_NAME);
    }
    return s.len > 0 ? s : text_at(entry, ORG);
}

static bool is_true(MMDB_entry_s *entry, const char *name)
{
    const char *const path[] = {name, NULL};
    const char *const trait[] = {"traits", name, NULL};
    MMDB_entry_data_s data;
    return ((MMDB_aget_value(entry, &data, path) == MMDB_SUCCESS && data.has_data) ||
            (MMDB_aget_value(entry, &data, trait) == MMDB_SUCCESS && data.has_data)) &&
           data.type == MMDB_DATA_TYPE_BOOLEAN && data.boolean;
}

bool geo_database_find(struct database *db, struct moon_slice ip, struct place *out)
{
    static const char *const CITY[] = {"city", "names", "en", NULL};
    MMDB_lookup_result_s found;
    if (!find_entry(db, ip, &found)) {
        return false;
    }
    out->country = first_code(&found.entry, COUNTRY_PATHS);
    out->registered_country = text_at(&found.entry, REGISTERED);
    out->continent = continent_of(&found.entry);
    out->city = text_at(&found.entry, CITY);
    out->org = org_of(&found.entry);
    out->asn = asn_of(&found.entry);
    out->is_anonymous =
        is_true(&found.entry, "is_anonymous") || is_true(&found.entry, "is_anonymous_proxy");
    return true;
}

bool geo_database_country(struct database *db, struct moon_slice ip, char out[2])
{
    MMDB_lookup_result_s found;
    if (!find_entry(db, ip, &found)) {
        return false;
    }
    uint32_t key = found.entry.offset + 1;
    struct country_slot *slot = &db->countries[(key * 2654435761U >> 16) & (COUNTRY_SLOTS - 1)];
    if (slot->offset != key) {
        struct moon_slice code = first_code(&found.entry, COUNTRY_PATHS);
        slot->offset = key;
        memset(slot->code, 0, sizeof slot->code);
        if (code.len == sizeof slot->code) {
            memcpy(slot->code, code.data, sizeof slot->code);
        }
    }
    memcpy(out, slot->code, 2);
    return out[0] != '\0';
}

const char *geo_database_type(const struct database *db)
{
    return db->mmdb.metadata.database_type != NULL ? db->mmdb.metadata.database_type : "";
}

uint64_t geo_database_built_at(const struct database *db)
{
    return db->mmdb.metadata.build_epoch;
}
