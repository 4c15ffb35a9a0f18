"""The servers that are compared, and the upstream behind them: configuration, start, end. Each
cache gets a folder of its own and as many serving processes as there are CPUs."""

import collections
import http.client
import os
import re
import shutil
import ssl
import subprocess

from image import MANIFEST_TYPE, REPOSITORY
from tools import BenchError, Daemon, find_program, free_port, wait_until

LIMIT_RATE = "20m"
MAX_CONNECTIONS = 8192
WORKERS = os.cpu_count()
NGINX_USER = "user root;" if os.geteuid() == 0 else ""

NGINX_HEAD = """
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ }}
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=300s;
    open_file_cache_valid 300s;
"""

UPSTREAM_SERVER = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
        access_log {log} seen;
        add_header Docker-Distribution-Api-Version registry/2.0 always;
        {limit}
        location = /v2/ {{
            default_type application/json;
            return 200 "{{}}";
        }}
        location ~ ^/v2/.+/blobs/(?<digest>sha256:[0-9a-f]+)$ {{
            default_type application/octet-stream;
            add_header Docker-Distribution-Api-Version registry/2.0 always;
            add_header Docker-Content-Digest $digest;
        }}
        location ~ ^/v2/.+/manifests/ {{
            default_type {manifest_type};
            add_header Docker-Distribution-Api-Version registry/2.0 always;
            add_header Docker-Content-Digest {manifest_digest};
        }}
        location = /mark {{ return 204; }}
    }}
"""

CACHE_SERVER = """
    access_log off;
    upstream registry {{
        server 127.0.0.1:{upstream};
        keepalive 128;
        keepalive_requests 100000000;
        keepalive_timeout 300s;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=oci:16m max_size=16g inactive=24h
        use_temp_path=off;
    server {{
        listen 127.0.0.1:{port} {ssl}reuseport backlog=4096;
        {certificate}
        location /v2/ {{
            auth_request /check;
            proxy_pass http://registry;
            proxy_buffer_size 16k;
            proxy_buffers 16 64k;
            proxy_busy_buffers_size 256k;
            proxy_cache oci;
            proxy_cache_key $uri;
            proxy_cache_valid 200 24h;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 120s;
            proxy_cache_lock_age 120s;
        }}
        location = /check {{
            internal;
            proxy_method HEAD;
            proxy_set_header Connection "";
            proxy_pass http://registry$request_uri;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
    }}
}}
"""

DISTRIBUTION_CONFIG = """
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {folder}/storage
  cache:
    blobdescriptor: inmemory
http:
  addr: 127.0.0.1:{port}
proxy:
  remoteurl: http://127.0.0.1:{upstream}
"""

REGISTRY_CACHE_CONFIG = """
dataPath: {folder}/data
server:
  address: 127.0.0.1:{port}
  listeners: {workers}
  workers: 256
  streamers: 0
  drainTimeout: 1s
{tls}  defaultBackend:
    host: 127.0.0.1:{upstream}
    scheme: http
log:
  access: false
"""


def ask(port, path, method="GET", tls=False):
    """The status of one request, or None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10) if not tls else \
        http.client.HTTPSConnection("127.0.0.1", port, timeout=10,
                                    context=ssl._create_unverified_context())
    try:
        connection.request(method, path, headers={"Accept": f"{MANIFEST_TYPE}, */*"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def make_certificate(folder):
    """A chain and its key, self-signed."""
    made = f"{folder}/bench.crt", f"{folder}/bench.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-out", made[0], "-keyout", made[1]], check=True, capture_output=True)
    return made


def start(name, argv, folder, port, tls=False):
    """A daemon that answers on `port`, or BenchError with the end of its log."""
    daemon = Daemon(name, argv, f"{folder}/stderr.log")
    try:
        wait_until(lambda: not daemon.alive() or ask(port, "/v2/", tls=tls) == 200, f"{name} to answer")
        if not daemon.alive():
            raise BenchError(f"{name} did not start: {daemon.log_tail()}")
    except BaseException:
        daemon.stop()
        raise
    return daemon


class Seen:
    """What the upstream's access log says of a stretch of time."""

    def __init__(self, lines):
        self.methods = collections.Counter()
        self.object_gets = 0
        self.credentials = set()
        for line in lines:
            method, path, authorization = line.split(" ", 2)
            if path == "/mark":
                continue
            self.methods[method] += 1
            self.object_gets += method == "GET" and path.startswith(f"/v2/{REPOSITORY}/")
            self.credentials.add(authorization.strip())


class Upstream:
    """The registry behind the caches: an nginx that serves the image's files on two ports, of which
    one is limited to LIMIT_RATE a connection. One process, so that its log keeps the order."""

    def __init__(self, folder, image):
        program = find_program("nginx")
        if program is None:
            raise BenchError("nginx is not installed (Debian: nginx); it is the upstream too")
        self.ports = {"full": free_port(), "limited": free_port()}
        self.logs = {speed: f"{folder}/{speed}.log" for speed in self.ports}
        text = NGINX_HEAD.format(user=NGINX_USER, workers=1, folder=folder,
                                 connections=MAX_CONNECTIONS)
        text += "    log_format seen '$request_method $uri $http_authorization';\n"
        for speed, port in self.ports.items():
            limit = f"limit_rate {LIMIT_RATE};" if speed == "limited" else ""
            text += UPSTREAM_SERVER.format(
                port=port, root=image.root, log=self.logs[speed], limit=limit,
                manifest_type=MANIFEST_TYPE, manifest_digest=image.manifest.digest)
        config = write(f"{folder}/nginx.conf", text + "}\n")
        self.daemon = start("upstream", [program, "-p", folder, "-c", config], folder,
                            self.ports["full"])

    def stop(self):
        self.daemon.stop()

    def mark(self, speed):
        """The length of the log once everything asked before this call is in it."""
        before = os.path.getsize(self.logs[speed])
        if ask(self.ports[speed], "/mark") != 204:
            raise BenchError("the upstream does not answer")

        def marked():
            lines = self._lines(speed, before)
            return any(line.startswith("GET /mark ") for line in lines)
        wait_until(marked, "the upstream's log")
        return os.path.getsize(self.logs[speed])

    def _lines(self, speed, at):
        with open(self.logs[speed], errors="replace") as log:
            log.seek(at)
            return [line for line in log if line.endswith("\n")]

    def seen_since(self, speed, at):
        self.mark(speed)
        return Seen(self._lines(speed, at))


class System:
    """What is compared. `checks`: it asks the upstream for every client."""

    name = ""
    checks = False

    def __init__(self, program=None):
        self.program = program
        self.daemon = None
        self.port = None
        self.certificate = None    # paths of a chain and its key: clients speak TLS

    def start(self, folder, upstream_port):
        """Makes `folder` and starts with an empty cache."""
        os.makedirs(folder)
        self.folder = folder
        self.port = free_port()
        config = write(f"{folder}/config", self.config(folder, upstream_port))
        self.daemon = start(self.name, self.argv(config, folder), folder, self.port,
                            self.certificate is not None)

    def stop(self):
        if self.daemon is not None:
            self.daemon.stop()
            self.daemon = None
            shutil.rmtree(self.folder, ignore_errors=True)

    def config(self, folder, upstream_port):
        raise NotImplementedError

    def argv(self, config, folder):
        raise NotImplementedError


class Direct(System):
    """No cache: the clients talk to the upstream."""

    name = "direct"

    def start(self, folder, upstream_port):
        self.port = upstream_port


class Nginx(System):
    name = "nginx"
    checks = True

    def config(self, folder, upstream_port):
        head = NGINX_HEAD.format(user=NGINX_USER, workers=WORKERS, folder=folder,
                                 connections=MAX_CONNECTIONS)
        tls = self.certificate
        return head + CACHE_SERVER.format(
            folder=folder, port=self.port, upstream=upstream_port, ssl="ssl " if tls else "",
            certificate=f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}; "
                        "ssl_protocols TLSv1.2 TLSv1.3;" if tls else "")

    def argv(self, config, folder):
        return [self.program, "-p", folder, "-c", config]


class Distribution(System):
    name = "docker-registry"

    def config(self, folder, upstream_port):
        return DISTRIBUTION_CONFIG.format(folder=folder, port=self.port, upstream=upstream_port)

    def argv(self, config, folder):
        return [self.program, "serve", config]


class RegistryCache(System):
    name = "registry-cache"
    checks = True

    def config(self, folder, upstream_port):
        tls = self.certificate
        return REGISTRY_CACHE_CONFIG.format(
            folder=folder, port=self.port, upstream=upstream_port, workers=WORKERS,
            tls=f"  tls:\n    certPath: {tls[0]}\n    keyPath: {tls[1]}\n" if tls else "")

    def argv(self, config, folder):
        return [self.program, "-c", config]


def version_of(program, option):
    """What a program says of itself."""
    done = subprocess.run([program, option], capture_output=True, text=True)
    found = re.search(r"\d+\.\d+[\w.+]*", done.stdout + done.stderr)
    return found.group(0) if found else "of unknown version"
