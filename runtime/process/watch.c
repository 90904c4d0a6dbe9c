/* SPDX-License-Identifier: Apache-2.0 */
#include "process/watch.h"

#include "base/log.h"
#include "base/slice.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WATCH_QUIET_MS = 200,
    WATCH_GONE_MS = 500, // between two looks whether the directory is back
    WATCH_DEPTH = 6,
    WATCH_EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
};

struct moon_watch {
    char *dir;
    struct moon_io io;
    struct moon_timer quiet;
    void (*on_change)(void *owner);
    void *owner;
    int link_at;   // the watched directory that holds `dir`, where that is a symbolic link; else -1
    bool is_moved; // the link points elsewhere now
    bool was_full; // the shortage has been logged
    bool is_gone;  // the directory is: another may be on its way to its place
};

// "..data" is what Kubernetes renames when it replaces a mounted configuration.
static bool watch_is_ignored(const char *name)
{
    static const char *const ends[] = {"~", ".swp", ".tmp", ".log", ".sock"};
    struct moon_slice slice = moon_slice_text(name);
    if (strcmp(name, "..data") == 0)
        return false;
    for (size_t i = 0; i < MOON_COUNT(ends); i++) {
        if (moon_slice_ends(slice, moon_slice_text(ends[i])))
            return true;
    }
    return name[0] == '.' || strcmp(name, "4913") == 0; // vim tries whether it may write
}

static bool watch_is_passed_over(const char *name, int depth)
{
    return name[0] == '.' || strcmp(name, "node_modules") == 0 ||
           (depth == 0 && strcmp(name, "spec") == 0);
}

// Watching a directory again changes nothing. misc-no-recursion: bounded by WATCH_DEPTH.
// NOLINTNEXTLINE(misc-no-recursion): of bounded depth
static void watch_add(struct moon_watch *watch, const char *path, int depth)
{
    if (inotify_add_watch(watch->io.fd, path, WATCH_EVENTS) == -1) {
        if (!watch->was_full && errno != ENOENT && errno != ENOTDIR)
            moon_log_warn("changes in %s are not seen: %m", path);
        watch->was_full = watch->was_full || errno == ENOSPC;
        return;
    }
    DIR *dir = depth < WATCH_DEPTH ? opendir(path) : NULL;
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) { // NOLINT(concurrency-mt-unsafe)
        char below[PATH_MAX];
        struct stat st;
        if (watch_is_passed_over(entry->d_name, depth))
            continue;
        int n = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
        if (n > 0 && (size_t)n < sizeof(below) && stat(below, &st) == 0 && S_ISDIR(st.st_mode))
            watch_add(watch, below, depth + 1);
    }
    (void)closedir(dir);
}

// The last name of the directory's path.
static const char *watch_name(const struct moon_watch *watch)
{
    const char *slash = strrchr(watch->dir, '/');
    return slash == NULL ? watch->dir : slash + 1;
}

// A release is put in place by a symbolic link that is made anew: what happens to that shows where it lies.
static void watch_add_link(struct moon_watch *watch)
{
    struct stat st;
    watch->link_at = -1;
    if (lstat(watch->dir, &st) == -1 || !S_ISLNK(st.st_mode))
        return;
    size_t above = (size_t)(watch_name(watch) - watch->dir);
    char *parent = above == 0 ? strdup(".") : strndup(watch->dir, above);
    if (parent != NULL)
        watch->link_at =
            inotify_add_watch(watch->io.fd, parent, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    free(parent);
}

// Reads what has come. @return whether there was a change that counts
static bool watch_take(struct moon_watch *watch)
{
    _Alignas(struct inotify_event) char bytes[16384];
    ssize_t n;
    bool is_changed = false;
    while ((n = read(watch->io.fd, bytes, sizeof(bytes))) > 0) {
        for (const char *at = bytes; at < bytes + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            if (event->wd == watch->link_at)
                watch->is_moved |= event->len > 0 && strcmp(event->name, watch_name(watch)) == 0;
            else
                is_changed |= event->len == 0 || !watch_is_ignored(event->name);
            at += sizeof(*event) + event->len;
        }
    }
    return is_changed || watch->is_moved;
}

static void watch_readable(struct moon_io *io, int events)
{
    (void)events;
    struct moon_watch *watch = io->owner;
    if (watch_take(watch))
        moon_timer_set(&watch->quiet, WATCH_QUIET_MS);
}

// Whether the directory is there; else it is looked for again.
static bool watch_has_dir(struct moon_watch *watch)
{
    bool was_gone = watch->is_gone;
    watch->is_gone = access(watch->dir, F_OK) == -1 && errno == ENOENT;
    if (watch->is_gone && !was_gone)
        moon_log_warn("%s is gone: the configuration stays as it is until it is back", watch->dir);
    if (watch->is_gone)
        moon_timer_set(&watch->quiet, WATCH_GONE_MS);
    return !watch->is_gone;
}

// Watches what lies there now: new directories, and no more what the link pointed to before.
static void watch_again(struct moon_watch *watch)
{
    int fd = watch->is_moved ? inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1;
    if (fd != -1) {
        moon_io_stop(&watch->io);
        (void)close(watch->io.fd);
        moon_io_init(&watch->io, watch->io.loop, fd, watch_readable, watch);
        moon_io_watch(&watch->io, MOON_IO_READ);
    }
    watch->is_moved = false;
    watch_add_link(watch);
    watch_add(watch, watch->dir, 0);
}

static void watch_rested(struct moon_timer *timer)
{
    struct moon_watch *watch = timer->owner;
    if (!watch_has_dir(watch))
        return;
    watch_again(watch);
    watch->on_change(watch->owner);
}

struct moon_watch *moon_watch_new(struct moon_loop *loop, const char *dir,
                                  void (*on_change)(void *owner), void *owner)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct moon_watch *watch = fd == -1 ? NULL : calloc(1, sizeof(*watch));
    char *copy = watch == NULL ? NULL : strdup(dir);
    if (copy == NULL) {
        moon_log_warn("changes of files are not seen: %m");
        if (fd != -1)
            (void)close(fd);
        free(watch);
        return NULL;
    }
    watch->dir = copy;
    watch->on_change = on_change;
    watch->owner = owner;
    moon_io_init(&watch->io, loop, fd, watch_readable, watch);
    moon_timer_init(&watch->quiet, loop, watch_rested, watch);
    watch_add_link(watch);
    watch_add(watch, watch->dir, 0);
    moon_io_watch(&watch->io, MOON_IO_READ);
    return watch;
}

void moon_watch_forget(struct moon_watch *watch)
{
    if (watch == NULL)
        return;
    (void)watch_take(watch);
    moon_timer_stop(&watch->quiet);
    if (watch_has_dir(watch))
        watch_again(watch);
}

void moon_watch_free(struct moon_watch *watch)
{
    if (watch == NULL)
        return;
    moon_timer_stop(&watch->quiet);
    moon_io_stop(&watch->io);
    (void)close(watch->io.fd);
    free(watch->dir);
    free(watch);
}
