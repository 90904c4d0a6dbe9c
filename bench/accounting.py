# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about the processes of one proxy: CPU time, memory, system calls."""

import glob
import os
import re


def pids_of_session(session):
    """All processes of a session: a proxy is started as the leader of its own."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                after_name = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        if int(after_name[3]) == session:
            found.append(int(path.split("/")[2]))
    return found


def cpu_ns(pids):
    """Nanoseconds on a CPU, from the scheduler, of every thread."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path, encoding="ascii") as file:
                    total += int(file.read().split()[0])
            except OSError:
                pass
    return total


def memory_bytes(pids):
    """Proportional set size: pages that processes share count once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                match = re.search(r"^Pss:\s+(\d+) kB", file.read(), re.M)
        except OSError:
            continue
        total += int(match.group(1)) * 1024 if match else 0
    return total


def is_pinned(pids, core):
    return all(os.sched_getaffinity(pid) == {core} for pid in pids)
