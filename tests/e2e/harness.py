"""The cache under test, started from outside: its configuration, processes, log and store.

REGISTRY_CACHE is the binary (default: src/registry-cache); REGISTRY_CACHE_SLOW stretches every
timeout (sanitizer builds: 4 or so); with REGISTRY_CACHE_AS=nobody root runs caches as that user. Nothing here sleeps: it waits on conditions, with a limit.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import pwd
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from client import KIB, PATIENCE, SLOW, Body, Closed, Connection

HERE = pathlib.Path(__file__).resolve().parent
BINARY = os.environ.get("REGISTRY_CACHE") or str(HERE.parent.parent / "src" / "registry-cache")
SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer",
                     "ERROR: ThreadSanitizer")
UNPRIVILEGED = os.environ.get("REGISTRY_CACHE_AS") if os.geteuid() == 0 else None
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1

_tick = threading.Event()


def wait_until(condition, what, timeout=10):
    """Polls until `condition()` is true and returns its value; fails after `timeout` seconds."""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        assert waited < timeout * SLOW, f"waited {timeout * SLOW:.0f} s in vain until {what}"
        _tick.wait(min(0.002 + waited / 20, 0.02))  # who waits for long leaves the CPU to others


def noise(size, seed=0):
    """Bytes that do not compress and that are the same for the same seed."""
    return Body(random.Random(seed).randbytes(size))


def flip(path, at):
    """One bit of this byte rots."""
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << at % 8]))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def give(folder, user):
    """The folder is the user's with all that is in it, and can be reached."""
    entry = pwd.getpwnam(user)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    paths = [folder, *(pathlib.Path(where) / name for where, folders, files in os.walk(folder)
                       for name in (*folders, *files))]
    for path in paths:
        with contextlib.suppress(OSError):  # of a file system that is read-only, or that is gone
            if path.lstat().st_uid != entry.pw_uid:
                os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


# --- the cache ---------------------------------------------------------------------------------


def put_file(path, text, mode):
    """A file that the cache may read, whoever it runs as; it is there at once with all that is in it."""
    new = path.with_name("new")
    new.touch(mode)
    new.write_text(text)
    new.chmod(mode)
    if UNPRIVILEGED:
        shutil.chown(new, UNPRIVILEGED)
    new.rename(path)
    return path


def is_sanitized():
    """Was the program built with AddressSanitizer?"""
    return b"__asan_init" in pathlib.Path(BINARY).read_bytes()


def yaml(value, indent=0):
    """A configuration as people write it."""
    pad, lines = "  " * indent, []
    for key, v in value.items():
        if isinstance(v, dict):
            lines += [f"{pad}{key}:", yaml(v, indent + 1)] if v else [f"{pad}{key}: {{}}"]
        elif isinstance(v, list):
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}- {json.dumps(item)}" for item in v]
        else:
            lines.append(f"{pad}{key}: {json.dumps(v)}")
    return "\n".join(lines)


def merged(base, over):
    """`over` into `base`, folder by folder; None takes a key away."""
    out = dict(base)
    for key, v in over.items():
        if v is None:
            out.pop(key, None)
        elif isinstance(v, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], v)
        else:
            out[key] = v
    return out


class Cache:
    """A running cache on a folder of its own. Keyword arguments are parts of the configuration."""

    def __init__(self, folder, origin=None, environment=None, **config):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = pathlib.Path(config.get("dataPath", self.folder / "data"))
        base = {"dataPath": str(self.data),
                "server": {"listeners": 2, "drainTimeout": "5s"},
                "log": {"level": "info", "access": True}}
        if origin:
            base["server"]["defaultBackend"] = {"host": origin.host, "scheme": origin.scheme}
        self.config = merged(base, config)
        self.more_addresses = []     # besides the one on self.port
        self.environment = {**os.environ, **(environment or {})}
        self.log_path, self.config_path = self.folder / "log", self.folder / "config.yaml"
        self.process, self.port, self.binary = None, None, BINARY
        self.enter = []        # words before its command: a machine of its own (machine.py)
        self.log_start = 0     # where in the log this run began

    # --- running --------------------------------------------------------------------------------

    def start(self):
        """Starts it and waits until it is ready; with another port when this one was taken."""
        for _ in range(5):
            self.launch()
            wait_until(lambda: self.ready() or self.process.poll() is not None,
                       "the cache is ready", 20)
            if self.process.poll() is None:
                return self
            if "in use" not in self.log().lower():
                break
        raise AssertionError(f"it did not start: status {self.process.returncode}\n{self.log()}")

    def launch(self, port=None):
        """Starts the process only."""
        self.port = port or free_port()
        first = f"127.0.0.1:{self.port}"
        self.config["server"]["address"] = [first, *self.more_addresses] if self.more_addresses \
            else first
        self.config_path.write_text(yaml(self.config) + "\n")
        self.log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(),
                                            stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.environment)

    def command(self):
        """Root's tests may have an unprivileged cache: see REGISTRY_CACHE_AS."""
        command = [*self.enter, self.binary, "-c", str(self.config_path)]
        if not UNPRIVILEGED or "user" in self.config:
            return command
        own = self.folder.parent if re.fullmatch(r"cache\d+", self.folder.name) else self.folder
        for folder in {own, self.data}:  # files that the test made for its caches, too
            if folder.exists():
                give(folder, UNPRIVILEGED)
        return [*self.enter, "setpriv", f"--reuid={UNPRIVILEGED}",
                f"--regid={pwd.getpwnam(UNPRIVILEGED).pw_gid}", "--clear-groups",
                *command[len(self.enter):]]

    def ready(self):
        return re.search(r"ready: \d+ listeners? on ",
                         self.log()) and len(self.listeners()) == self.listener_count

    @property
    def listener_count(self):
        return self.config["server"]["listeners"]

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def master(self):
        return self.process.pid

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=20):
        """The exit status of the master."""
        return self.process.wait(timeout * SLOW)

    def stop(self):
        """Ends it as an administrator does; it must say that all was well."""
        if self.process.poll() is None:
            self.terminate()
        status = self.wait(30)
        assert status == 0, f"exit status {status}\n{self.log()[-4000:]}"

    def kill(self):
        """The master dies; waits until its children followed."""
        children = self.children()
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(alive(p) for p in children),
                   "the children of a dead master are gone")

    def restart(self):
        self.stop()
        return self.start()

    def end(self):
        """Teardown: ends what the test left running; the log must be free of our own bugs."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.wait(30)
            except subprocess.TimeoutExpired:
                for pid in [*self.children(), self.process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.process.wait()
                raise AssertionError(f"TERM did not end the cache\n{self.log()[-4000:]}") from None
        self.check_log()

    def check_log(self):
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        for report in (*SANITIZER_REPORTS, " panic "):
            before, found, after = text.partition(report)
            assert not found, f"{report!r} in the log:\n{before[-500:]}{found}{after[:6000]}"

    # --- its log --------------------------------------------------------------------------------

    def log(self):
        """What this run has logged so far."""
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start)
            return f.read().decode(errors="replace")

    def wait_log(self, pattern, timeout=10):
        return wait_until(lambda: re.search(pattern, self.log()), f"the log says {pattern!r}",
                          timeout)

    def access(self):
        """The access lines of this run as dicts; `listener` is the number of their writer."""
        lines = re.findall(r" access listener (\d+): (.*)", self.log())
        return [dict(re.findall(r'(\w+)=("[^"]*"|\S*)', rest), listener=int(k)) for k,
                rest in lines]

    def wait_access(self, **wanted):
        """The first access line with these values."""
        def found():
            return [a for a in self.access() if all(a.get(k) == str(v) for k, v in wanted.items())]
        return wait_until(found, f"an access line says {wanted}")[0]

    # --- its processes --------------------------------------------------------------------------

    def listeners(self):
        """Listener number -> pid, by the log's last word."""
        return {int(k): int(p) for k, p in re.findall(r"listener (\d+) is pid (\d+)", self.log())}

    def gc(self):
        return int(re.findall(r"gc is pid (\d+)", self.log())[-1])

    def children(self):
        return [*self.listeners().values(), self.gc()]

    def wait_replaced(self, pid, timeout=20):
        """Waits until the dead child's successor is there, whoever it was."""
        wait_until(lambda: not alive(pid) and pid not in self.children(),
                   f"child {pid} is replaced", timeout)

    def listener_of(self, connection):
        """The number of the listener that has the other end of this connection."""
        def found():
            inode = socket_inode(self.port, connection.local_port)
            name = f"socket:[{inode}]"
            return inode and [k for k, pid in self.listeners().items() if name in open_files(pid)]
        return wait_until(found, "a listener accepted the connection")[0]

    def leader(self, digest):
        """The listener whose process writes this digest's part file, or None."""
        for k, pid in self.listeners().items():
            for number, name in open_files(pid, numbers=True):
                if f"/parts/{digest}." in name and writable(pid, number):
                    return k
        return None

    def kill_new(self, role, killed):
        """Kills each child of this role (a pattern) that the log tells of and that is not in `killed`, and puts it
        there. One that was told to end may be gone already."""
        for pid in map(int, re.findall(rf"{role} is pid (\d+)", self.log())):
            if pid not in killed:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # --- its store ------------------------------------------------------------------------------

    def object_path(self, digest):
        algorithm, _, hexa = digest.partition(":")
        return self.data / "objects" / algorithm / hexa[:2] / hexa

    def parts(self):
        return sorted(p.name for p in (self.data / "parts").glob("*"))

    def objects(self):
        return sorted(p for p in (self.data / "objects").rglob("*") if p.is_file())

    def check_objects(self):
        """Every file in the store is what its name says."""
        for path in self.objects():
            actual = hashlib.new(path.parent.parent.name, path.read_bytes()).hexdigest()
            assert actual == path.name, f"{path} holds {actual}"

    def lease_count(self):
        """How many leases the index has, as LMDB's own tool sees them."""
        done = subprocess.run(["mdb_stat", "-s", "leases", str(self.data / "index")],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(re.search(r"Entries: (\d+)", done.stdout)[1])

    # --- asking it ------------------------------------------------------------------------------

    def connect(self, **more):
        return Connection(self.address, **more)

    def connect_to(self, listener, **more):
        """A connection that this listener serves: the kernel spreads them, so we try."""
        for _ in range(400):
            c = self.connect(**more)
            if self.listener_of(c) == listener:
                return c
            c.close()
        raise AssertionError(f"no connection came to listener {listener}")

    def request(self, method, target, headers=(), body=None, **more):
        """One request on a connection of its own."""
        with self.connect() as c:
            return c.request(method, target, [*headers, ("Connection", "close")], body, **more)

    def get(self, target, headers=(), **more):
        return self.request("GET", target, headers, **more)

    def head(self, target, headers=(), **more):
        return self.request("HEAD", target, headers, **more)

    def fetch(self, thing, headers=()):
        """GET of a thing that must come whole and right."""
        answer = self.get(thing.target, headers)
        assert answer.status == 200, (answer.status, answer.body[:300])
        assert answer.complete, answer.problem
        assert answer.body == thing.data
        return answer


def alive(pid):
    """A zombie is not alive."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def rss(pid):
    """Resident memory in bytes, without the pages that only map files."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * KIB


def open_files(pid, numbers=False):
    """Names of what the process has open, as /proc tells."""
    out = []
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for number in os.listdir(folder):
            with contextlib.suppress(OSError):
                name = os.readlink(f"{folder}/{number}")
                out.append((number, name) if numbers else name)
    return out


def shared_memory(pid):
    """The segment that the processes of a cache share; what is locked of it has lines of its own in maps."""
    found = b""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            if "memfd:registry-cache" in line:
                first, last = (int(x, 16) for x in line.split()[0].split("-"))
                memory.seek(first)
                found += memory.read(last - first)
    assert found, "no shared memory was found"
    return found


def writable(pid, number):
    with contextlib.suppress(OSError):
        flags = re.search(r"flags:\s*(\d+)",
                          pathlib.Path(f"/proc/{pid}/fdinfo/{number}").read_text())
        return bool(int(flags[1], 8) & (os.O_RDWR | os.O_WRONLY))
    return False


def socket_inode(local_port, remote_port):
    """The inode of one end of a loopback connection; None while nobody accepted it."""
    answer = ask_socket(local_port, remote_port)
    return answer and struct.unpack_from("=I", answer, 84)[0] or None


def all_taken(local_port, remote_port):
    """Has the process at the remote end read all that the local end sent it?"""
    here, there = ask_socket(local_port, remote_port), ask_socket(remote_port, local_port)
    unsent = struct.unpack_from("=I", here, 76)[0] if here else 0
    unread = struct.unpack_from("=I", there, 72)[0] if there else 0
    return unsent == 0 and unread == 0


def ask_socket(local_port, remote_port):
    """The kernel's inet_diag_msg (sock_diag(7)) after its netlink header; None: no such socket.

    /proc/net/tcp has all sockets of the machine in it and takes long where there are many.
    """
    loopback, any_cookie = socket.inet_aton("127.0.0.1"), 0xffffffff
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff) \
        + struct.pack("!HH", local_port, remote_port) \
        + struct.pack("=16s16sIII", loopback, loopback, 0, any_cookie, any_cookie)
    header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(header + request)
        answer = kernel.recv(4096)
    known = struct.unpack_from("=H", answer, 4)[0] == SOCK_DIAG_BY_FAMILY
    return answer if known else None


# --- many clients at once ----------------------------------------------------------------------


class Download(threading.Thread):
    """One GET in a thread of its own; `answer` or `error` when it is joined."""

    def __init__(self, cache, target, headers=(), connection=None, **more):
        super().__init__(daemon=True)
        self.more = more
        self.connection = connection or cache.connect()
        self.target, self.headers = target, headers
        self.answer, self.error = None, None
        self.start()

    def run(self):
        try:
            self.answer = self.connection.request("GET", self.target,
                                                  [*self.headers, ("Connection", "close")],
                                                  **self.more)
        except (Closed, OSError) as e:
            self.error = e
        finally:
            self.connection.close()

    def result(self, timeout=60):
        """The answer; a connection that ended without one is the test's failure."""
        self.join(timeout * SLOW)
        assert not self.is_alive(), f"GET {self.target} is not answered in {timeout * SLOW:.0f} s"
        assert self.error is None, f"GET {self.target}: {self.error!r}"
        return self.answer

    def intact(self, data):
        """Did all of it come, and right?"""
        return self.answer is not None and self.answer.status == 200 and self.answer.complete \
            and self.answer.body == data


class Swarm:
    """Many GETs of one target, from a process of their own with its own interpreter lock."""

    def __init__(self, cache, target, count, headers=()):
        order = {"address": cache.address, "target": target, "count": count,
                 "headers": list(headers),
                 "timeout": 120 * SLOW}
        self.process = subprocess.Popen([sys.executable, str(HERE / "swarm.py"), json.dumps(order)],
                                        stdout=subprocess.PIPE, text=True)

    def wait_sent(self):
        """Until every request is on its way."""
        assert select.select([self.process.stdout], [], [], PATIENCE)[0]
        assert self.process.stdout.readline() == "sent\n"

    def results(self):
        """A list of {status, bytes, sha256, complete, first_byte}, the last as time.monotonic()."""
        out, _ = self.process.communicate(timeout=150 * SLOW)
        assert self.process.returncode == 0
        return json.loads(out)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
