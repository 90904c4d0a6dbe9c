/* SPDX-License-Identifier: Apache-2.0 */
#include "process/privilege.h"

#include "base/log.h"

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

bool moon_user_find(const char *name, struct moon_user *user)
{
    char space[16384];
    struct passwd entry;
    struct passwd *found = NULL;
    *user = (struct moon_user){.uid = getuid(), .gid = getgid()};
    if (name[0] == '\0')
        return true;
    if (geteuid() != 0) {
        moon_log_warn("user \"%s\" is left alone: only root can become somebody else", name);
        return true;
    }
    int rc = getpwnam_r(name, &entry, space, sizeof(space), &found);
    if (found == NULL) {
        moon_log_error("gateway.lua: user: expected a user of this system, got \"%s\"%s%s", name,
                       rc == 0 ? "" : ": ", rc == 0 ? "" : strerrordesc_np(rc));
        return false;
    }
    (void)snprintf(user->name, sizeof(user->name), "%s", name);
    user->uid = found->pw_uid;
    user->gid = found->pw_gid;
    return true;
}

bool moon_user_become(const struct moon_user *user)
{
    bool is_done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    if (is_done && user->name[0] != '\0')
        is_done = initgroups(user->name, user->gid) == 0 &&
                  setresgid(user->gid, user->gid, user->gid) == 0 &&
                  setresuid(user->uid, user->uid, user->uid) == 0;
    if (!is_done)
        moon_log_error("cannot become user \"%s\": %m", user->name);
    return is_done;
}

void moon_privilege_raise_files(size_t connections)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
        moon_log_warn("the limit on open files cannot be raised: %m");
    // A client's connection and its backend's, and what else a worker holds open.
    size_t wanted = 2 * connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
        moon_log_warn("limits.connections of %zu may need %zu open files, and %llu are allowed "
                      "(ulimit -n, LimitNOFILE=)",
                      connections, wanted, (unsigned long long)limit.rlim_cur);
}

void moon_privilege_allow_core(bool is_allowed)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) == -1)
        return;
    limit.rlim_cur = is_allowed ? limit.rlim_max : 0;
    (void)setrlimit(RLIMIT_CORE, &limit);
    // A change of user clears it.
    if (is_allowed)
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

bool moon_privilege_follow_parent(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    return getppid() == parent;
}
