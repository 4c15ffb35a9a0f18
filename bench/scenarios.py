"""The scenarios: what is done to each system and what is counted meanwhile. Each is a function of
the bench that returns its rows; SCENARIOS lists them by name, in the order of a run."""

import contextlib
import os
import sys

from report import Row, at_most, relative_to
from tools import (BenchError, cpu_seconds, descendants, private_memory, socket_count, wait_until)
from servers import ask, make_certificate

HERD = 64
BLOB_CONNECTIONS = 16
MANIFEST_CONNECTIONS = 64
IDLE_CONNECTIONS = 1000
WARM_SECONDS = 0.5
TLS_SUITE = "TLS_AES_128_GCM_SHA256"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """What every scenario works with. `systems`: those that can be measured on this machine."""

    def __init__(self, folder, image, upstream, clients, systems, runs, seconds):
        self.folder = folder
        self.image = image
        self.upstream = upstream
        self.clients = clients
        self.systems = systems
        self.runs = runs
        self.seconds = seconds
        self.failures = []

    @contextlib.contextmanager
    def fleet(self, name, speed, systems=None):
        """These systems (all), with empty caches, on the upstream of this speed; gives those that run."""
        running, systems = [], systems or self.systems
        try:
            for system in systems:
                running.append(system)
                with self.noted(name, system, running):
                    system.start(f"{self.folder}/{name}-{system.name}", self.upstream.ports[speed])
            yield running
        finally:
            for system in systems:
                system.stop()

    @contextlib.contextmanager
    def noted(self, scenario, system, running):
        """A system that fails is noted and leaves the scenario; the others go on."""
        try:
            yield
        except BenchError as e:
            text = f"{scenario}: {system.name}: {e}"
            if system.daemon is not None and not system.daemon.alive():
                text += f" (it died: {system.daemon.log_tail()})"
            self.failures.append(text)
            say(f"  FAILED {text}")
            running.remove(system)

    def each(self, scenario, running, measure):
        """measure(system, run) `runs` times for each, the order turned by one place a run."""
        for run in range(self.runs):
            turn = run % len(self.systems)
            for system in self.systems[turn:] + self.systems[:turn]:
                if system not in running:
                    continue
                with self.noted(scenario, system, running):
                    measure(system, run)
                    say(f"  {scenario}: run {run + 1}/{self.runs}: {system.name}")


def cpu(bench, system):
    """CPU seconds used until now by whoever answers the clients."""
    return cpu_seconds((system.daemon or bench.upstream.daemon).pid)


def warm(bench, system):
    """The process has answered before: code, connections and tables are there."""
    for o in (bench.image.manifest, bench.image.config):
        status = ask(system.port, o.path)
        if status != 200:
            raise BenchError(f"answered {status} for {o.path}")


def make_hot(bench, system, o, speed):
    """Asks until the upstream sees no GET for it any more; what comes is compared byte for byte."""
    def hot():
        at = bench.upstream.mark(speed)
        bench.clients.herd(system.port, o.path, 8, o.file)
        return bench.upstream.seen_since(speed, at).object_gets == 0
    if system.name == "direct":
        bench.clients.herd(system.port, o.path, 8, o.file)
    else:
        wait_until(hot, f"{o.path} to be cached")


# --- cold -----------------------------------------------------------------------------------------

def cold(bench, name, speed, title, goal):
    wall = Row(f"cold blob, {title}: time", "s", 3, goal=goal)
    first = Row(f"cold blob, {title}: first byte", "ms", 1)
    used = Row(f"cold blob, {title}: CPU of the server", "s", 2)
    blobs = {}

    def measure(system, run):
        if run not in blobs:
            blobs[run] = bench.image.fresh_blob()
        os.sync()
        before = cpu(bench, system)
        result = bench.clients.herd(system.port, blobs[run].path, 1, blobs[run].file)
        used.add(system.name, cpu(bench, system) - before)
        wall.add(system.name, result["wall_ms"] / 1000)
        first.add(system.name, result["first_ms"])

    cold_fleet(bench, name, speed, measure)
    for blob in blobs.values():
        bench.image.remove(blob)
    return [wall, first, used]


def cold_fleet(bench, name, speed, measure):
    with bench.fleet(name, speed) as running:
        for system in list(running):
            with bench.noted(name, system, running):
                warm(bench, system)
        bench.each(name, running, measure)


def cold_limited(bench):
    """One client, a blob that the cache has never seen, an upstream of 20 MiB/s a connection."""
    return cold(bench, "cold-limited", "limited", "limited upstream",
                relative_to("direct", "≤ 1.03 × direct", 1.03))


def cold_full(bench):
    """The same with an upstream as fast as it can be."""
    return cold(bench, "cold-full", "full", "unlimited upstream", None)


def herd(bench):
    """64 clients ask at the same moment for a blob that the cache has never seen."""
    one = "one direct client"
    title = f"cold herd of {HERD}, limited upstream"
    wall = Row(f"{title}: time until the last has all", "s", 3,
               goal=relative_to(one, "≤ 1.05 × one direct download", 1.05))
    first = Row(f"{title}: first byte, median client", "ms", 1)
    last = Row(f"{title}: first byte, last client", "ms", 1,
               goal=relative_to(one, "≤ one direct client's + 50 ms", plus=50))
    gets = Row(f"{title}: GETs upstream", "requests", 0, goal=at_most(1, "1"))
    used = Row(f"{title}: CPU of the server", "s", 2)
    blobs = {}

    def prepare(run):
        if run not in blobs:
            blob = blobs[run] = bench.image.fresh_blob()
            os.sync()
            alone = bench.clients.herd(bench.upstream.ports["limited"], blob.path, 1, blob.file)
            wall.add(one, alone["wall_ms"] / 1000)
            first.add(one, alone["first_ms"])
            last.add(one, alone["first_ms"])
        return blobs[run]

    def measure(system, run):
        blob = prepare(run)
        os.sync()
        at = bench.upstream.mark("limited")
        before = cpu(bench, system)
        result = bench.clients.herd(system.port, blob.path, HERD, blob.file)
        used.add(system.name, cpu(bench, system) - before)
        gets.add(system.name, bench.upstream.seen_since("limited", at).object_gets)
        wall.add(system.name, result["wall_ms"] / 1000)
        first.add(system.name, result["first_median_ms"])
        last.add(system.name, result["first_last_ms"])

    cold_fleet(bench, "herd", "limited", measure)
    for blob in blobs.values():
        bench.image.remove(blob)
    return [wall, first, last, gets, used]


# --- hot ------------------------------------------------------------------------------------------

class Stretch:
    """Steady load on one system, and what the upstream and the CPU say of it."""

    def __init__(self, bench, system, o, connections, credentials, ranges=None):
        port = system.port
        bench.clients.load(port, o.path, connections, credentials, WARM_SECONDS, ranges)
        at = bench.upstream.mark("full")
        before = cpu(bench, system)
        self.load = bench.clients.load(port, o.path, connections, credentials, bench.seconds, ranges)
        self.cpu = cpu(bench, system) - before
        seen = bench.upstream.seen_since("full", at)
        self.requests = self.load["requests"] + self.load["late"]
        self.checks = seen.methods["HEAD"] / self.requests
        self._judge(system, seen, credentials)

    def _judge(self, system, seen, credentials):
        """Was it what we meant to measure: from the cache, and checked?"""
        if self.load["requests"] == 0:
            raise BenchError("not one request was answered in time")
        if system.name == "direct":
            return
        if seen.object_gets > 0:
            raise BenchError(f"not hot: the upstream saw {seen.object_gets} GETs")
        if not system.checks:
            return
        shared = system.name == "registry-cache" and credentials == 1
        if not shared and seen.methods["HEAD"] < self.requests:
            raise BenchError(f"{self.requests} requests, but only {seen.methods['HEAD']} checks")
        if len(seen.credentials) != credentials:
            raise BenchError(f"{credentials} credentials, but the upstream saw "
                             f"{len(seen.credentials)}")


def hot_fleet(bench, name, o, measure):
    with bench.fleet(name, "full") as running:
        for system in list(running):
            with bench.noted(name, system, running):
                make_hot(bench, system, o, "full")
        bench.each(name, running, measure)


def hot_blob(bench):
    """Throughput of one 90 MiB blob, with the body thrown away by the client's kernel."""
    title = f"hot 90 MiB blob, {BLOB_CONNECTIONS} connections"
    speed = Row(f"{title}: throughput", "GiB/s", 2, better="higher",
                goal=relative_to("nginx", "≥ nginx"))
    used = Row(f"{title}: CPU of the server", "s/GiB", 3)
    checks = Row(f"{title}: checks upstream", "a request", 2, better="neither")

    def measure(system, run):
        s = Stretch(bench, system, bench.image.blob, BLOB_CONNECTIONS, 1)
        speed.add(system.name, s.load["bytes"] / GIB / s.load["seconds"])
        used.add(system.name, s.cpu / (s.requests * bench.image.blob.size / GIB))
        checks.add(system.name, s.checks)

    hot_fleet(bench, "hot-blob", bench.image.blob, measure)
    return [speed, used, checks]


def hot_tls(bench):
    """The same blob over TLS 1.3, with one cipher for all. docker-registry and direct have no TLS here."""
    title = f"hot 90 MiB blob over TLS, {BLOB_CONNECTIONS} connections"
    speed = Row(f"{title}: throughput", "GiB/s", 2, better="higher",
                goal=relative_to("nginx", "≥ nginx"))
    used = Row(f"{title}: CPU of the server", "s/GiB", 3)
    systems = [s for s in bench.systems if s.checks]
    certificate, blob = make_certificate(bench.folder), bench.image.blob

    def load(system, seconds):
        return bench.clients.tls(system.port, blob.path, BLOB_CONNECTIONS, seconds, TLS_SUITE)

    def hot(system):
        at = bench.upstream.mark("full")
        load(system, 0.1)
        return bench.upstream.seen_since("full", at).object_gets == 0

    def measure(system, run):
        load(system, WARM_SECONDS)
        at, before = bench.upstream.mark("full"), cpu(bench, system)
        result = load(system, bench.seconds)
        took = cpu(bench, system) - before
        if bench.upstream.seen_since("full", at).object_gets > 0:
            raise BenchError("not hot")
        speed.add(system.name, result["bytes"] / GIB / result["seconds"])
        used.add(system.name, took / (result["all"] / GIB))

    for system in systems:
        system.certificate = certificate
    try:
        with bench.fleet("hot-tls", "full", systems) as running:
            for system in list(running):
                with bench.noted("hot-tls", system, running):
                    wait_until(lambda s=system: hot(s), f"{blob.path} to be cached")
            bench.each("hot-tls", running, measure)
    finally:
        for system in systems:
            system.certificate = None
    return [speed, used]


def hot_manifest(bench, name, title, credentials, goal):
    title = f"hot manifest, {MANIFEST_CONNECTIONS} connections, {title}"
    rate = Row(f"{title}: rate", "requests/s", 0, better="higher", goal=goal)
    p50 = Row(f"{title}: latency, median", "ms", 2)
    p99 = Row(f"{title}: latency, 99 %", "ms", 2)
    used = Row(f"{title}: CPU of the server", "µs/request", 1)
    checks = Row(f"{title}: checks upstream", "a request", 2, better="neither")

    def measure(system, run):
        s = Stretch(bench, system, bench.image.manifest, MANIFEST_CONNECTIONS, credentials)
        rate.add(system.name, s.load["requests"] / s.load["seconds"])
        p50.add(system.name, s.load["p50_ms"])
        p99.add(system.name, s.load["p99_ms"])
        used.add(system.name, s.cpu / s.requests * 1e6)
        checks.add(system.name, s.checks)

    hot_fleet(bench, name, bench.image.manifest, measure)
    return [rate, p50, p99, used, checks]


def hot_manifest_one(bench):
    """Rate of a manifest, every answer checked, all clients with one credential."""
    return hot_manifest(bench, "hot-manifest", "one credential", 1,
                        relative_to("nginx", "≥ nginx"))


def hot_manifest_many(bench):
    """The same, every connection with a credential of its own."""
    return hot_manifest(bench, "hot-manifest-64", "64 credentials", MANIFEST_CONNECTIONS, None)


def hot_range(bench, name, title, ranges, goal):
    title = f"hot {title} of a 90 MiB blob, {MANIFEST_CONNECTIONS} connections"
    rate = Row(f"{title}: rate", "requests/s", 0, better="higher", goal=goal)
    used = Row(f"{title}: CPU of the server", "µs/request", 1)

    def measure(system, run):
        s = Stretch(bench, system, bench.image.blob, MANIFEST_CONNECTIONS, 1, ranges)
        rate.add(system.name, s.load["requests"] / s.load["seconds"])
        used.add(system.name, s.cpu / s.requests * 1e6)

    hot_fleet(bench, name, bench.image.blob, measure)
    return [rate, used]


def hot_range_one(bench):
    """Rate of 1000 bytes in the middle of a blob."""
    return hot_range(bench, "hot-range", "1000 bytes", "bytes=50000000-50000999",
                     relative_to("nginx", "≥ nginx"))


def hot_range_many(bench):
    """The same, 32 times 1000 bytes in one request: multipart/byteranges."""
    ranges = ",".join(f"{at}-{at + 999}" for at in range(10000000, 42000000, 1000000))
    return hot_range(bench, "hot-ranges", "32 × 1000 bytes", f"bytes={ranges}", None)


# --- memory ---------------------------------------------------------------------------------------

def family_memory(system):
    """pid -> (dirty, clean KiB, sockets) for every process of the system."""
    pids = [system.daemon.pid] + [pid for pid, _ in descendants(system.daemon.pid)]
    return {pid: private_memory(pid) + (socket_count(pid),) for pid in pids}


def serving(before, after):
    """The processes that hold the clients: those with many more sockets than before."""
    share = IDLE_CONNECTIONS // (4 * len(before))
    pids = [pid for pid in before if pid in after and after[pid][2] - before[pid][2] >= share]
    if not pids:
        raise BenchError("no process is seen to hold the idle connections")
    return pids


def memory(bench):
    """Private memory of the serving processes, before and with idle keep-alive connections."""
    base = Row("private memory of a serving process (the largest)", "KiB", 0,
               goal=at_most(6 * MIB / KIB, "≤ 6 MiB"))
    clean = Row("of that, clean (Private_Clean)", "KiB", 0)
    idle = Row(f"private memory an idle connection, of {IDLE_CONNECTIONS}", "KiB", 2,
               goal=at_most(8, "≤ 8 KiB"))

    def measure(system, run):
        system.start(f"{bench.folder}/memory-{system.name}", bench.upstream.ports["full"])
        try:
            make_hot(bench, system, bench.image.blob, "full")
            bench.clients.load(system.port, bench.image.manifest.path, 16, 1, WARM_SECONDS)
            before = family_memory(system)
            with bench.clients.idle(system.port, bench.image.manifest.path, IDLE_CONNECTIONS):
                after = family_memory(system)
        finally:
            system.stop()
        pids = serving(before, after)
        largest = max(pids, key=lambda pid: sum(before[pid][:2]))
        base.add(system.name, sum(before[largest][:2]))
        clean.add(system.name, before[largest][1])
        growth = sum(sum(after[pid][:2]) - sum(before[pid][:2]) for pid in pids)
        idle.add(system.name, growth / IDLE_CONNECTIONS)

    caches = [s for s in bench.systems if s.name != "direct"]
    bench.each("memory", caches, measure)
    return [base, clean, idle]


SCENARIOS = {
    "cold-limited": cold_limited,
    "cold-full": cold_full,
    "herd": herd,
    "hot-blob": hot_blob,
    "hot-tls": hot_tls,
    "hot-manifest": hot_manifest_one,
    "hot-manifest-64": hot_manifest_many,
    "hot-range": hot_range_one,
    "hot-ranges": hot_range_many,
    "memory": memory,
}
