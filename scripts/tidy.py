#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy over the sources of a compilation database, and remembers what was clean.

A file is looked at again when it, a header of ours that it includes, .clang-tidy or its flags changed.
Last line: `tally: P passed, F failed, S not reached` (S only with a budget of seconds).
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

KEPT_FLAGS = re.compile(r"^(-I|-D|-isystem|-std|-f(?!sanitize)|-W)")


def flags_of(entry):
    words = shlex.split(entry["command"])
    flags = []
    for i, word in enumerate(words):
        if word == "-isystem":
            flags += [word, words[i + 1]]
        elif KEPT_FLAGS.match(word):
            flags.append(word)
    return flags


def fingerprint(path, flags, directory):
    """None when the file's own includes cannot be listed (it does not compile)."""
    listed = subprocess.run(["gcc", "-MM", *flags, path], cwd=directory, text=True,
                            capture_output=True, check=False)
    if listed.returncode != 0:
        return None
    text = listed.stdout.split(":", 1)[1].replace("\\\n", " ")
    digest = hashlib.sha256(" ".join(flags).encode())
    for name in [".clang-tidy", *sorted(text.split())]:
        with open(os.path.join(directory, name) if name != ".clang-tidy" else name, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def look_at(entry, args, deadline):
    path = entry["file"]
    flags = flags_of(entry)
    mark = fingerprint(path, flags, entry["directory"])
    cached = mark and os.path.join(args.cache, mark)
    if cached and os.path.exists(cached):
        return "passed", path, ""
    if deadline and time.monotonic() > deadline:
        return "left", path, ""
    fix = ["--fix", "--format-style=file"] if args.fix else []
    run = subprocess.run(["clang-tidy", "--quiet", *fix, path, "--", *flags], text=True,
                         capture_output=True, check=False)
    if run.returncode == 0:
        if cached:
            with open(cached, "w", encoding="utf-8"):
                pass
        return "passed", path, ""
    return "failed", path, run.stdout or run.stderr


def changed_last(root):
    """A rank by path, 0 for what changed last: not committed, then by commit. A clone's file times tell nothing."""
    listed = [subprocess.run(["git", *words, "--", "runtime", "plugins"], cwd=root, text=True, capture_output=True,
                             check=False).stdout
              for words in (["diff", "--name-only", "HEAD"], ["log", "--format=", "--name-only", "-n", "500"])]
    names = dict.fromkeys("\n".join(listed).split("\n"))
    return {root + name: rank for rank, name in enumerate(names)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--cache", default="build/tidy")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0, help="0: no budget")
    parser.add_argument("--fix", action="store_true", help="write what clang-tidy can mend by itself")
    parser.add_argument("only", nargs="*", help="parts of paths")
    args = parser.parse_args()
    if args.fix:
        args.jobs = 1  # two files may want to mend the same header

    os.makedirs(args.cache, exist_ok=True)
    root = os.getcwd() + os.sep
    with open(os.path.join(args.build, "compile_commands.json"), encoding="utf-8") as file:
        entries = {entry["file"]: entry for entry in json.load(file)}
    ours = [entry for path, entry in entries.items()
            if path.startswith((root + "runtime/", root + "plugins/")) and os.path.exists(path)
            and (not args.only or any(part in path for part in args.only))]
    ranks = changed_last(root)
    ours.sort(key=lambda entry: (ranks.get(entry["file"], len(ranks)), -os.path.getmtime(entry["file"])))
    deadline = time.monotonic() + args.seconds if args.seconds else None

    tally = {"passed": 0, "failed": 0, "left": 0}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for verdict, path, text in pool.map(lambda entry: look_at(entry, args, deadline), ours):
            tally[verdict] += 1
            if verdict == "failed":
                print("FAIL  clang-tidy: " + path.removeprefix(root))
                print("\n".join("      " + line for line in text.replace(root, "").splitlines()[:60]))
            elif verdict == "left":
                print("left  clang-tidy: " + path.removeprefix(root))
    print(f"tally: {tally['passed']} passed, {tally['failed']} failed, {tally['left']} not reached")
    return 1 if tally["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
