#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moongate beside its peers: one proxy at a time alone on one core, wrk and the origin on another,
rounds interleaved. CPU time comes from the kernel's scheduler and counts all processes of the proxy."""

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import accounting
import peers

PLAIN = ("moongate", "nginx", "haproxy")
LUA = ("moongate", "nginx-lua")
WAF = ("moongate", "moongate-api", "nginx-modsecurity")
SELF = ("moongate", "base")


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    conf: str
    goal: float                 # Moongate's CPU per request over the peer's, at most
    against: tuple              # whose; several: the better of them
    peers: tuple = PLAIN
    path: str = "/"
    request: str = "plain"
    connections: int = 32
    client: str = "wrk"         # wrk, h2load, full, resume, idle
    is_caching_tokens: bool = False
    own_conf: str = ""          # Moongate's, where it is another than the peer's
    is_refused: bool = False    # the answer is to be an error status
    base_path: str = ""         # of the peer "base": Moongate itself, without the policy
    base_request: str = ""
    goal_us: float = 0          # CPU that Moongate may need beyond the peer's, instead of a ratio
    goal_bytes: int = 0         # memory per idle connection, instead of a ratio
    metric: str = "cpu_us"      # what the ratio is of
    is_reloading: bool = False  # SIGHUP every second, but for the peer "base"

    def of_peer(self, name):
        if name != "base":
            return self
        return dataclasses.replace(self, path=self.base_path or self.path, is_reloading=False,
                                   request=self.base_request or self.request)


SCENARIOS = [
    Scenario("small", "small response, keep-alive", "plain", 1.0, ("nginx",)),
    Scenario("headers", "browser-sized headers", "plain", 1.0, ("nginx",), request="browser"),
    Scenario("body_10k", "10 KiB body", "plain", 1.0, ("nginx", "haproxy"), path="/body/10k"),
    Scenario("body_1m", "1 MiB body", "plain", 1.0, ("nginx", "haproxy"), path="/body/1m",
             connections=8),
    Scenario("tls", "TLS, keep-alive", "tls", 1.0, ("nginx",)),
    Scenario("tls_new", "new TLS connection per request", "tls", 1.0, ("nginx",), client="full",
             connections=4),
    Scenario("tls_resume", "new TLS connection per request, resumed", "tls", 1.0, ("nginx",),
             client="resume", connections=4),
    Scenario("cache", "cached response", "cache", 0.75, ("nginx",), ("moongate", "nginx")),
    Scenario("cache_varnish", "cached response", "cache", 1.0, ("varnish",), ("moongate", "varnish")),
    Scenario("cache_10k", "cached 10 KiB body", "cache", 0.75, ("nginx",), ("moongate", "nginx"),
             path="/body/10k"),
    Scenario("conns", "2,000 connections", "plain", 1.0, ("nginx",), connections=2000),
    Scenario("idle", "memory of 10,000 idle connections", "plain", 0, ("nginx",), client="idle",
             connections=10000, goal_bytes=6144),
    Scenario("h2", "HTTP/2 in clear, small response", "h2", 0.9, ("nginx",), client="h2load"),
    Scenario("h2_tls", "HTTP/2 over TLS, small response", "h2_tls", 0.9, ("nginx",),
             client="h2load"),
    Scenario("reload", "p99 during a reload every second, beside none", "plain", 1.5, ("base",),
             ("moongate", "base", "nginx"), metric="p99_us", is_reloading=True),
    Scenario("lua_chain", "Lua policy chain", "lua_chain", 0.8, ("nginx-lua",), LUA,
             request="lua_chain"),
    Scenario("api_chain", "API chain", "api_chain", 0.65, ("nginx-lua",), LUA, path="/orders/1",
             request="api_chain"),
    Scenario("api_chain_lua", "API chain, with functions of one's own", "api_chain", 0.65,
             ("nginx-lua",), LUA, path="/orders/1", request="api_chain", own_conf="api_chain_lua"),
    Scenario("api_chain_cached", "API chain, nginx-lua caching verified tokens", "api_chain", 1.0,
             ("nginx-lua",), LUA, path="/orders/1", request="api_chain", is_caching_tokens=True),
    Scenario("waf_get", "CRS 3.3.4, PL1: GET with 11 fields, 5 arguments, 3 cookies", "waf", 1 / 25,
             ("nginx-modsecurity",), WAF, request="waf_get", connections=16),
    Scenario("waf_json", "CRS 3.3.4, PL1: 1 KiB of JSON", "waf", 1 / 30, ("nginx-modsecurity",), WAF,
             request="waf_json", connections=16),
    Scenario("waf_form", "CRS 3.3.4, PL1: 10 KiB urlencoded form", "waf", 1 / 30,
             ("nginx-modsecurity",), WAF, request="waf_form", connections=16),
    Scenario("waf_attack", "CRS 3.3.4, PL1: GET with SQL, refused", "waf", 1 / 25,
             ("nginx-modsecurity",), WAF, request="waf_attack", connections=16, is_refused=True),
    Scenario("waf_none", "rule engine without rules beside none", "waf_none", 1.3,
             ("moongate-plain",), ("moongate", "moongate-plain"), request="waf_get", connections=16),
    Scenario("limit_exact", "rate limit over Redis, a question a request", "catalog", 1.0,
             ("nginx-lua",), LUA, path="/exact", request="client"),
    Scenario("limit_redis", "rate limit over Redis, shared mode", "catalog", 1.0,
             ("nginx-lua",), LUA, path="/shared", request="client"),
    Scenario("limit_shared", "shared-mode limit beside the local one", "catalog", 1.03, ("base",),
             SELF, path="/shared", base_path="/local", request="client"),
    Scenario("schema", "1 KiB body validated, beside one that is read", "catalog", 0, ("base",),
             SELF, path="/schema", base_path="/read", request="order", goal_us=5),
    Scenario("quota", "subscription and quota, beside neither", "quota", 0, ("base",), SELF,
             path="/orders/1", base_path="/plain", request="key", goal_us=5),
    Scenario("rs256", "RS256 token that was seen before, beside HS256", "catalog", 1.1, ("base",),
             SELF, path="/rs256", request="rs256", base_path="/hs256", base_request="hs256"),
]


def signature(algorithm, signed, rsa_key):
    if algorithm == "HS256":
        return hmac.new(b"bench-signing-key-0123456789abcdef", signed, hashlib.sha256).digest()
    return subprocess.run(["openssl", "dgst", "-sha256", "-sign", rsa_key], input=signed, check=True,
                          capture_output=True).stdout


def token(subject, algorithm="HS256", rsa_key=None):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    claims = {"iss": "https://id.contoso.test", "aud": "api://orders", "sub": subject,
              "scope": "orders.list orders.read", "exp": int(time.time()) + 86400,
              "nbf": int(time.time()) - 60, "name": "Ada Example", "tid": "contoso"}
    signed = part({"alg": algorithm, "typ": "JWT", "kid": "k1"}) + b"." + part(claims)
    mac = signature(algorithm, signed, rsa_key)
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def make_tokens(rsa_key, count=64):
    """Two files: tokens.txt (HS256), and beside it tokens.txt.rs256."""
    path = os.path.join(peers.BUILD, "tokens.txt")
    peers.write(path + ".rs256",
                "".join(token(f"user-{i}", "RS256", rsa_key) + "\n" for i in range(count)))
    return peers.write(path, "".join(token(f"user-{i}") + "\n" for i in range(count)))


class Load:
    """Drives one scenario against one port, from the core that the proxy does not have."""

    def __init__(self, scenario, core, tokens):
        self.scenario, self.core = scenario, core
        self.env = {**os.environ, "BENCH_REQUEST": scenario.request, "BENCH_TOKENS": tokens}
        self.log = os.path.join(peers.BUILD, "h2load.log")

    def argv(self, port, seconds):
        s = self.scenario
        if s.client == "h2load":
            scheme = "https" if s.conf.endswith("tls") else "http"
            return ["h2load", "-t1", f"-c{s.connections}", "-m4", f"-D{seconds}",
                    "--log-file=" + self.log, f"{scheme}://127.0.0.1:{port}{s.path}"]
        if s.client in ("full", "resume"):
            return [os.path.join(peers.BUILD, "tls_client"), str(port), s.path, str(seconds),
                    str(s.connections), s.client]
        scheme = "https" if s.conf == "tls" else "http"
        return ["wrk", "-t1", f"-c{s.connections}", f"-d{seconds}s", "--latency", "--timeout", "10s",
                "-s", os.path.join(peers.HERE, "wrk", "report.lua"),
                f"{scheme}://127.0.0.1:{port}{s.path}"]

    def run(self, port, seconds, sample=None):
        """sample is called once, when three quarters of the time are over."""
        if os.path.exists(self.log):
            os.unlink(self.log)  # h2load appends
        started = time.monotonic()
        process = subprocess.Popen(["taskset", "-c", str(self.core), *self.argv(port, seconds)],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=self.env)
        if sample:
            time.sleep(seconds * 0.75)
            sample()
        text, _ = process.communicate(timeout=seconds + 60)
        return self.parse(text, time.monotonic() - started)

    def parse_h2load(self, took_s):
        """Its log has a line for each answer: when, status, microseconds."""
        took_us, errors = [], 0
        with open(self.log, encoding="ascii") as file:
            for line in file:
                _, status, one_us = line.split()
                took_us.append(int(one_us))
                errors += status != "200"
        took_us.sort()
        count = len(took_us)
        return {"requests": count, "rps": count / took_s, "errors": errors,
                "p50_us": took_us[count // 2] if count else 0,
                "p99_us": took_us[count * 99 // 100] if count else 0}

    def parse(self, text, took_s):
        if self.scenario.client == "h2load":
            return self.parse_h2load(took_s)
        if self.scenario.client in ("full", "resume"):
            got = json.loads(text)
            if self.scenario.client == "resume" and got["resumed"] < 0.9 * got["requests"]:
                print(f"  note: only {got['resumed']} of {got['requests']} handshakes were resumed")
            return {"requests": got["requests"], "rps": got["requests"] / took_s,
                    "p50_us": got["p50_us"], "p99_us": got["p99_us"], "errors": got["errors"]}
        lines = [line for line in text.splitlines() if line.startswith("BENCH ")]
        if not lines:
            raise RuntimeError("wrk said: " + text.strip()[-400:])
        requests, duration_us, p50, p99, bad_status, broken = map(int, lines[-1].split()[1:])
        if self.scenario.is_refused:
            bad_status = requests - bad_status
        return {"requests": requests, "rps": requests / (duration_us / 1e6), "p50_us": p50,
                "p99_us": p99, "errors": bad_status + broken}


@contextlib.contextmanager
def reloading(server):
    """Asks for a reload every second."""
    is_over = threading.Event()

    def ask():
        while not is_over.wait(1):
            os.kill(server.process.pid, signal.SIGHUP)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def measure(server, load, seconds):
    load.run(server.port, 1)  # warm: pools filled, code compiled
    pids = server.pids()
    assert accounting.is_pinned(pids, server.core), "the proxy left its core"
    memory = []
    before = accounting.cpu_ns(pids)
    with reloading(server) if load.scenario.is_reloading else contextlib.nullcontext():
        result = load.run(server.port, seconds,
                          lambda: memory.append(accounting.memory_bytes(server.pids())))
    after = accounting.cpu_ns(pids)
    if not result["requests"]:
        raise RuntimeError("no request was answered")
    # Processes that ended meanwhile took their account along: of reloads, nginx' time is not known.
    result["cpu_us"] = max(0, after - before) / 1000 / result["requests"]
    result["memory_bytes"] = memory[0]
    return result


def measure_idle(server, count):
    """Memory that connections cost which have had one answer and now wait."""
    pids = server.pids()
    request = b"GET / HTTP/1.1\r\nHost: api.contoso.test\r\n\r\n"
    open_sockets, errors = [], 0
    before = accounting.memory_bytes(pids)
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", server.port), 5)
        client.sendall(request)
        errors += not client.recv(4096).startswith(b"HTTP/1.1 200")
        open_sockets.append(client)
    time.sleep(1)
    after = accounting.memory_bytes(pids)
    for client in open_sockets:
        client.close()
    return {"requests": count, "rps": 0, "p50_us": 0, "p99_us": 0, "errors": errors, "cpu_us": 0,
            "memory_bytes": after, "bytes_per_connection": (after - before) / count}


def syscalls(server, load, seconds=2):
    """System calls per request, counted by strace (which slows everything: take no times from it)."""
    load.run(server.port, 1)
    options = [word for pid in server.pids() for word in ("-p", str(pid))]
    out = os.path.join(peers.BUILD, "strace.txt")
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", out, *options], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    result = load.run(server.port, seconds)
    tracer.send_signal(2)
    tracer.wait(10)
    counts = {}
    with open(out, encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
                counts[words[-1]] = round(int(words[3]) / max(1, result["requests"]), 3)
    return {name: n for name, n in sorted(counts.items(), key=lambda kv: -kv[1]) if n >= 0.005}


def median(rounds, field):
    return statistics.median(one[field] for one in rounds)


def verdict(scenario, summary):
    """Ratio of Moongate to the better of the peers that the goal names, or None."""
    field = "bytes_per_connection" if scenario.client == "idle" else scenario.metric
    others = [summary[name][field] for name in scenario.against if name in summary]
    if "moongate" not in summary or not others:
        return None
    return summary["moongate"][field] / min(others)


def added_us(scenario, summary):
    """CPU beyond that of the peer, or None."""
    if "moongate" not in summary or scenario.against[0] not in summary:
        return None
    return summary["moongate"]["cpu_us"] - summary[scenario.against[0]]["cpu_us"]


def memory_ratio(scenario, summary):
    others = [summary[name]["memory_bytes"] for name in scenario.against if name in summary]
    return summary["moongate"]["memory_bytes"] / min(others)


def show(scenario, summary):
    print(f"\n{scenario.name}: {scenario.title}")
    if scenario.client == "idle":
        for name, row in summary.items():
            print(f"  {name:10} {row['bytes_per_connection']:9.0f} bytes per connection "
                  f"{row['memory_bytes'] / 2**20:8.1f} MiB in all  errors {row['errors']}")
    else:
        print(f"  {'':10} {'requests/s':>11} {'CPU us/req':>11} {'p50 us':>8} {'p99 us':>8} "
              f"{'MiB':>7} {'errors':>7}  CPU spread")
        for name, row in summary.items():
            print(f"  {name:10} {row['rps']:11.0f} {row['cpu_us']:11.2f} {row['p50_us']:8.0f} "
                  f"{row['p99_us']:8.0f} {row['memory_bytes'] / 2**20:7.1f} {row['errors']:7d}  "
                  f"{row['cpu_low']:.2f}-{row['cpu_high']:.2f}")
    ratio = verdict(scenario, summary)
    if scenario.goal_us:
        added = added_us(scenario, summary)
        if added is not None:
            word = "reached" if added <= scenario.goal_us else "not reached"
            print(f"  added: {added:.2f} us (goal: at most {scenario.goal_us}, {word})")
    elif scenario.goal_bytes and "moongate" in summary:
        word = "reached" if summary["moongate"]["bytes_per_connection"] <= scenario.goal_bytes \
            else "not reached"
        print(f"  goal: at most {scenario.goal_bytes} bytes per connection, {word}")
    elif ratio is not None:
        word = "reached" if ratio <= scenario.goal else "not reached"
        print(f"  moongate / {' or '.join(scenario.against)}: {ratio:.3f} "
              f"(goal: at most {scenario.goal:.3g}, {word})")
        memory = memory_ratio(scenario, summary)
        if scenario.client != "idle":
            print(f"  in memory: {memory:.2f}")
    sys.stdout.flush()


def run_scenario(bench, scenario, args, tokens):
    names = [name for name in scenario.peers if not args.peer or name in args.peer]
    rounds = {name: [] for name in names}
    for _ in range(1 if scenario.client == "idle" else args.rounds):
        for name in names:
            if rounds[name] is None:
                continue
            load = Load(scenario.of_peer(name), bench.other_core, tokens)
            try:
                server = bench.gateway(name, scenario)
                try:
                    if scenario.client == "idle":
                        rounds[name].append(measure_idle(server, scenario.connections))
                    else:
                        rounds[name].append(measure(server, load, args.seconds))
                        if args.syscalls and len(rounds[name]) == 1:
                            rounds[name][0]["syscalls"] = syscalls(server, load)
                finally:
                    server.stop()
            except (peers.Missing, RuntimeError, OSError) as error:
                print(f"  {scenario.name}: {name} left out: {error}")
                rounds[name] = None
    summary = {}
    for name, done in rounds.items():
        if done:
            row = {field: median(done, field) for field in done[0] if field != "syscalls"}
            row["errors"] = sum(one["errors"] for one in done)
            row["cpu_low"] = min(one["cpu_us"] for one in done)
            row["cpu_high"] = max(one["cpu_us"] for one in done)
            if "syscalls" in done[0]:
                row["syscalls"] = done[0]["syscalls"]
                print(f"  {scenario.name}: {name}: system calls per request: {row['syscalls']}")
            summary[name] = row
    return summary


def versions():
    said = {}
    for name, argv in {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "wrk": ["wrk", "-v"],
                       "moongate": ["build/release/moongate", "version"]}.items():
        try:
            run = subprocess.run(argv, cwd=peers.ROOT, text=True, capture_output=True, check=False,
                                 env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
            said[name] = (run.stdout + run.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            said[name] = "absent"
    return said


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="all where none is named: "
                        + ", ".join(s.name for s in SCENARIOS))
    parser.add_argument("--peer", action="append", help="only this one (repeatable)")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("BENCH_SECONDS", 4)))
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", 3)))
    parser.add_argument("--syscalls", action="store_true", help="count system calls too (strace)")
    parser.add_argument("--json", default=os.path.join(peers.BUILD, "result.json"))
    args = parser.parse_args()
    unknown = set(args.scenario) - {s.name for s in SCENARIOS}
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}")
    args.seconds = max(1, round(args.seconds))  # wrk takes whole seconds
    return args


def main():
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench: needs two cores", file=sys.stderr)
        return 1
    bench = peers.Bench(proxy_core=cores[1], other_core=cores[0])
    tokens = make_tokens(bench.rsa_key)
    report = {"machine": {"cpu": cpu_model(), "kernel": platform.release(), "cores": len(cores)},
              "versions": versions(), "seconds": args.seconds, "rounds": args.rounds,
              "scenarios": {}}
    print(f"{report['machine']['cpu']}, kernel {platform.release()}; {args.rounds} rounds of "
          f"{args.seconds} s; medians")
    servers = [bench.origin()]
    if any(s.conf == "catalog" and (not args.scenario or s.name in args.scenario)
           for s in SCENARIOS):
        servers.append(bench.redis())
    try:
        for scenario in SCENARIOS:
            if args.scenario and scenario.name not in args.scenario:
                continue
            summary = run_scenario(bench, scenario, args, tokens)
            show(scenario, summary)
            report["scenarios"][scenario.name] = {
                "title": scenario.title, "goal": scenario.goal, "against": scenario.against,
                "ratio": verdict(scenario, summary),
                "added_us": added_us(scenario, summary), "peers": summary}
    finally:
        for server in servers:
            server.stop()
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
    print(f"\nresults: {os.path.relpath(args.json, peers.ROOT)}")
    return 0


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
