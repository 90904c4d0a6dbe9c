# SPDX-License-Identifier: Apache-2.0
"""Starts the origin and, one at a time, the gateways that are compared. All are configured by hand
for speed: keep-alive to the origin, no access log, one worker."""

import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time

import accounting

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.path.join(ROOT, "build", "bench")
UNPACKED = os.path.join(BUILD, "peers")
MODSECURITY_MODULE = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so"
CRS = "/usr/share/modsecurity-crs/rules/REQUEST-901-INITIALIZATION.conf"
NGINX_LUA_MODULE = os.path.join(UNPACKED, "usr/lib/nginx/modules/ngx_http_lua_module.so")


class Missing(Exception):
    """A peer that this machine does not have, or that has no configuration for the scenario."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fill(path, values):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return (file.read().strip().splitlines() or ["no output"])[-1]


def wait_until_it_accepts(port, process, output, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Missing(f"ended at once with status {process.returncode}: {last_line(output)}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Missing(f"does not listen on port {port} after {seconds} s")


class Server:
    """A process group of its own, pinned to one core."""

    def __init__(self, name, argv, core, port, env=None):
        self.name, self.port, self.core = name, port, core
        self.log = open(os.path.join(BUILD, f"{name}.out"), "wb")
        try:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *argv], stdout=self.log, stderr=self.log,
                stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **(env or {})})
            wait_until_it_accepts(port, self.process, self.log.name)
        except FileNotFoundError as error:
            raise Missing(str(error)) from error
        except Missing:
            self.stop()
            raise

    def pids(self):
        return accounting.pids_of_session(self.process.pid)

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
        except ProcessLookupError:
            pass
        self.log.close()


class Bench:
    """Files, ports and cores that all servers share."""

    def __init__(self, proxy_core, other_core):
        self.proxy_core, self.other_core = proxy_core, other_core
        os.makedirs(BUILD, exist_ok=True)
        self.values = {
            "DIR": BUILD, "PEERS": UNPACKED, "WWW": os.path.join(BUILD, "www"),
            "CONF": os.path.join(HERE, "conf", "nginx-lua"),
            "USER": pwd.getpwuid(os.getuid()).pw_name, "ORIGIN": free_port(),
            "CERTIFICATE": os.path.join(BUILD, "tls", "api.pem"),
            "KEY": os.path.join(BUILD, "tls", "api.key"), "MODULES": "", "CACHE_TOKENS": "false",
        }
        self.make_bodies()
        self.make_certificate()
        self.rsa_key = os.path.join(BUILD, "rsa.key")
        self.make_rsa_key()
        self.values["REDIS"] = os.path.join(BUILD, "redis.sock")

    def make_bodies(self):
        for name, size in (("10k", 10 << 10), ("1m", 1 << 20)):
            write(os.path.join(self.values["WWW"], "body", name), "m" * size)

    def make_certificate(self):
        certificate, key = self.values["CERTIFICATE"], self.values["KEY"]
        if os.path.exists(certificate):
            return
        os.makedirs(os.path.dirname(certificate), exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "3650", "-subj", "/CN=api.contoso.test", "-keyout", key,
             "-out", certificate, "-addext", "subjectAltName=DNS:api.contoso.test"],
            check=True, capture_output=True)
        with open(certificate + ".all", "w", encoding="ascii") as both:
            for part in (certificate, key):
                with open(part, encoding="ascii") as file:
                    both.write(file.read())

    def make_rsa_key(self):
        if not os.path.exists(self.rsa_key):
            subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
                            "rsa_keygen_bits:2048", "-out", self.rsa_key],
                           check=True, capture_output=True)
        self.values["RSA"] = subprocess.run(["openssl", "pkey", "-in", self.rsa_key, "-pubout"],
                                            check=True, capture_output=True, text=True).stdout

    def redis(self):
        path = self.values["REDIS"]
        if os.path.exists(path):
            os.unlink(path)
        port = free_port()
        return Server("redis", ["redis-server", "--bind", "127.0.0.1", "--port", str(port),
                                "--unixsocket", path, "--save", "", "--appendonly", "no"],
                      self.other_core, port)

    def origin(self):
        conf = write(os.path.join(BUILD, "run", "origin.conf"),
                     fill(os.path.join(HERE, "conf", "origin.conf"), self.values))
        return Server("origin", [nginx(), "-p", BUILD, "-c", conf], self.other_core,
                      self.values["ORIGIN"])

    def gateway(self, name, scenario):
        kind = scenario.conf
        port = free_port()
        values = {**self.values, "PORT": port}
        argv, env = STARTERS[name](kind, values, scenario)
        return Server(name, argv, self.proxy_core, port, env)


def nginx():
    path = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not path:
        raise Missing("nginx is not installed")
    return path


def nginx_conf(folder, kind, values, name):
    server = os.path.join(HERE, "conf", folder, kind + ".conf")
    if not os.path.exists(server):
        raise Missing(f"has no configuration {kind}")
    common = fill(os.path.join(HERE, "conf", "nginx", "common.conf"), values)
    return write(os.path.join(BUILD, "run", f"{name}.conf"),
                 common.replace("@SERVER@", fill(server, values)))


def start_nginx(kind, values, _):
    conf = nginx_conf("nginx", kind, values, "nginx")
    return [nginx(), "-p", BUILD, "-c", conf], None


def start_nginx_lua(kind, values, scenario):
    if not os.path.exists(NGINX_LUA_MODULE):
        raise Missing("nginx's Lua module is not unpacked (bench/peers.sh)")
    modules = os.path.dirname(NGINX_LUA_MODULE)
    values = {**values, "MODULES": f"load_module {modules}/ndk_http_module.so;\n"
                                   f"load_module {NGINX_LUA_MODULE};",
              "CACHE_TOKENS": "true" if scenario.is_caching_tokens else "false"}
    conf = nginx_conf("nginx-lua", kind, values, "nginx-lua")
    libraries = os.path.join(UNPACKED, "usr/lib/x86_64-linux-gnu")
    return [nginx(), "-p", BUILD, "-c", conf], {"LD_LIBRARY_PATH": libraries}


def start_nginx_modsecurity(kind, values, _):
    for path in (MODSECURITY_MODULE, CRS):
        if not os.path.exists(path):
            raise Missing(f"wants {path} (scripts/deps/bench.txt)")
    rules = os.path.join(HERE, "conf", "nginx-modsecurity", "modsecurity.conf")
    values = {**values, "MODULES": f"load_module {MODSECURITY_MODULE};", "MODSECURITY": rules}
    conf = nginx_conf("nginx-modsecurity", kind, values, "nginx-modsecurity")
    return [nginx(), "-p", BUILD, "-c", conf], None


def start_haproxy(kind, values, _):
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        raise Missing("haproxy is not installed")
    # It wants two descriptors for each, and does not start with fewer.
    connections = min(20000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100) // 2)
    tls = f"ssl crt {values['CERTIFICATE']}.all"
    bind = {"plain": "", "tls": tls, "h2": "proto h2", "h2_tls": tls + " alpn h2"}.get(kind)
    if bind is None:
        raise Missing(f"has no configuration {kind}")
    conf = write(os.path.join(BUILD, "run", "haproxy.cfg"),
                 fill(os.path.join(HERE, "conf", "haproxy", "common.cfg"), {**values, "BIND": bind, "CONNECTIONS": connections}))
    return [program, "-db", "-f", conf], None


def start_varnish(kind, values, _):
    program = shutil.which("varnishd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        raise Missing("varnish is not installed")
    source = os.path.join(HERE, "conf", "varnish", kind + ".vcl")
    if not os.path.exists(source):
        raise Missing(f"has no configuration {kind}")
    conf = write(os.path.join(BUILD, "run", "varnish.vcl"), fill(source, values))
    # One pool of threads, as large as the connections want; its log in memory without what it writes of
    # each request.
    mask = ",".join("-" + tag for tag in (
        "Begin", "End", "Hit", "ReqAcct", "ReqHeader", "ReqMethod", "ReqProtocol", "ReqStart", "ReqURL",
        "RespHeader", "RespProtocol", "RespReason", "RespStatus", "Timestamp", "VCL_call", "VCL_return"))
    return [program, "-F", "-j", "none", "-n", os.path.join(BUILD, "run", "varnish"),
            "-a", f"127.0.0.1:{values['PORT']}", "-f", conf, "-s", "malloc,64m",
            "-p", "thread_pools=1", "-p", "thread_pool_min=50", "-p", f"vsl_mask={mask}"], None


def start_moongate(kind, values, scenario):
    program = os.environ.get("MOONGATE", os.path.join(ROOT, "build", "release", "moongate"))
    if not os.path.exists(program):
        raise Missing("is not built (make build)")
    source = os.path.join(HERE, "conf", "moongate", scenario.own_conf or kind)
    if not os.path.isdir(source):
        raise Missing(f"has no configuration {kind}")
    target = os.path.join(BUILD, "run", "moongate")
    shutil.rmtree(target, ignore_errors=True)
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            write(os.path.join(target, os.path.relpath(path, source)), fill(path, values))
    return [program, "run", target], {"MOONGATE_STATE_DIR": os.path.join(BUILD, "state")}


def start_moongate_plain(_, values, scenario):
    return start_moongate("plain", values, scenario)


def start_moongate_api(_, values, scenario):
    return start_moongate("waf_api", values, scenario)


STARTERS = {"moongate": start_moongate, "moongate-plain": start_moongate_plain,
            "moongate-api": start_moongate_api, "nginx-modsecurity": start_nginx_modsecurity,
            "base": start_moongate, "nginx": start_nginx, "haproxy": start_haproxy,
            "varnish": start_varnish, "nginx-lua": start_nginx_lua}
