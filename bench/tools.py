"""Small tools of the benchmark: processes that end with us, ports, the compiled load clients, and
what /proc says of a process tree. Knows nothing of registries."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PR_SET_PDEATHSIG = 1
CLOCK_TICK = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 15


class BenchError(Exception):
    """Something that makes a measurement worthless; its text says what."""


def find_program(name):
    """The path of an installed program, or None. Daemons live outside of a user's PATH."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, what, seconds=DEADLINE_S):
    """Polls until condition() is true; its value is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise BenchError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


def _die_with_parent(libc=ctypes.CDLL(None)):
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Daemon:
    """A server process of ours, with its standard error in a file. Ends by its pid."""

    def __init__(self, name, argv, log_path, env=None):
        self.name = name
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                preexec_fn=_die_with_parent)
        self.pid = self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log_tail(self):
        with open(self.log_path, errors="replace") as log:
            return "".join(log.readlines()[-8:]).strip()

    def stop(self):
        """TERM, then KILL for what is left, each by its pid."""
        family = descendants(self.pid) if self.alive() else []
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid, started in family:
            if start_time(pid) == started:
                kill_quietly(pid)


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _stat_fields(pid):
    """Fields of /proc/PID/stat from the third on (the second may hold spaces), or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def start_time(pid):
    fields = _stat_fields(pid)
    return fields[19] if fields else None


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid):
    """(pid, start time) of every child, grandchild, ..."""
    found = []
    for child in children(pid):
        found.append((child, start_time(child)))
        found.extend(descendants(child))
    return found


def cpu_seconds(pid):
    """User and system time of a process and all that descend from it."""
    ticks = 0
    for p in [pid] + [child for child, _ in descendants(pid)]:
        fields = _stat_fields(p)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICK


def private_memory(pid):
    """(Private_Dirty, Private_Clean) of a process, in KiB."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            name, _, rest = line.partition(":")
            if name.startswith("Private_"):
                sizes[name] = int(rest.split()[0])
    return sizes["Private_Dirty"], sizes["Private_Clean"]


def socket_count(pid):
    folder = f"/proc/{pid}/fd"
    count = 0
    for name in os.listdir(folder):
        try:
            count += os.readlink(f"{folder}/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return count


class Clients:
    """The load clients, compiled into a temporary folder."""

    def __init__(self, folder):
        self.folder = folder
        compiler = find_program("cc") or find_program("gcc") or find_program("clang")
        if compiler is None:
            raise BenchError("no C compiler (Debian: gcc)")
        for name in ("herd", "load", "idle", "tls"):
            command = [compiler, "-D_GNU_SOURCE", "-std=gnu11", "-O2", "-o", self._path(name),
                       f"{HERE}/{name}.c", f"{HERE}/client.c"]
            command += ["-lssl", "-lcrypto"] if name == "tls" else []
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise BenchError(f"compiling {name}.c: {done.stderr}")

    def _path(self, name):
        return f"{self.folder}/{name}"

    def _run(self, name, *args, limit_s):
        command = [self._path(name)] + [str(a) for a in args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} did not end within {limit_s} s") from None
        if done.returncode != 0:
            raise BenchError(f"{name}: {done.stderr.strip() or done.returncode}")
        return json.loads(done.stdout)

    def herd(self, port, path, clients, expected, limit_s=120):
        return self._run("herd", port, path, clients, expected, limit_s, limit_s=limit_s + 10)

    def load(self, port, path, connections, credentials, seconds, ranges=None):
        """`ranges` is a Range field's value."""
        return self._run("load", port, path, connections, credentials, round(seconds * 1000),
                         *([ranges] if ranges else []), limit_s=seconds + 90)

    def tls(self, port, path, connections, seconds, suite):
        return self._run("tls", port, path, connections, round(seconds * 1000), suite,
                         limit_s=seconds + 90)

    def idle(self, port, path, connections):
        """A held herd of idle connections: a context manager."""
        return Idle([self._path("idle"), str(port), path, str(connections)], connections)


class Idle:
    """While entered, the connections are open and idle. Leaving fails if the server closed one."""

    def __init__(self, argv, connections):
        self.argv = argv
        self.connections = connections

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        preexec_fn=_die_with_parent)
        if self.process.stdout.readline() != "ready\n":
            self.process.wait()
            raise BenchError(f"idle: {self.process.stderr.read().strip()}")
        return self

    def __exit__(self, kind, value, trace):
        out, err = self.process.communicate(timeout=DEADLINE_S)
        if kind is None and out.strip() != str(self.connections):
            raise BenchError(f"of {self.connections} idle connections only {out.strip() or 0} "
                             f"were still open {err.strip()}")
