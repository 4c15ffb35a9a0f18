"""A disk that fails: every call of libc that the store and the index make fails, one after the other. No
process dies, nothing is left behind, and clients are served, or told."""
import random
import re
import subprocess
import time

import pytest
from client import KIB, MIB, Closed
from faults import FUNCTIONS, Faults
from harness import Download, alive, noise, wait_until
from scrape import ask as ask_metrics
from scrape import on
from test_expiry import wait_passes

ERRORS = {"open": ["EMFILE", "EIO", "EROFS"], "write": ["ENOSPC", "EIO"], "fallocate": ["ENOSPC", "EIO"],
          "mkdir": ["ENOSPC"], "rename": ["ENOSPC", "EIO"], "unlink": ["EROFS"], "ftruncate": ["ENOSPC"]}
SERVING = {"open", "read", "write", "fstat", "rename", "sendfile"}  # called whenever something is served
MANY = 24  # calls that are made to fail, of each function with each error
PASS = {"open", "fstatat", "readdir"}  # called again and again by each pass
SCRUB = {"layers": {"checkSHA": True, "checkInterval": "1s"}}


@pytest.fixture
def sick(new_cache, origin, small_disk, tmp_path):
    """Makes a cache on a disk of its own, and the faults of that disk: sick(server=…)."""
    def make(start=True, **config):
        disk = small_disk("256m")
        faults = Faults(tmp_path, disk)
        cache = new_cache(origin, dataPath=str(disk), environment=faults.environment, start=start,
                          **config)
        return cache, faults
    return make


def ask(cache, thing):
    """served: right and whole; told: an error; cut: short of what was promised. Never anything else."""
    headers = [("Accept", thing.media_type)] if thing.tag else []
    try:
        answer = cache.get(thing.tag_target if thing.tag else thing.target, headers)
    except (Closed, OSError):
        return "cut"
    if answer.status >= 500:
        return "told"
    assert answer.status == 200, (answer.status, answer.body[:300])
    assert thing.data.startswith(answer.body)
    return "served" if answer.complete and len(answer.body) == len(thing.data) else "cut"


class Visitor:
    """Asks for something old, something new, twice, and a tag."""

    def __init__(self, cache, origin):
        self.cache, self.origin, self.n = cache, origin, 0
        self.old = origin.blob("team/app", noise(150 * KIB))
        self.manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
        self.cut = 0

    def visit(self):
        self.n += 1
        new = self.origin.blob("team/app", noise(90 * KIB + self.n, self.n))
        for thing in (self.old, new, new, self.manifest):
            if ask(self.cache, thing) != "served":
                self.cut += 1
                assert ask(self.cache, thing) == "served", "a client that tries again"

    def is_kept(self):
        """Does the cache keep what it fetches now?"""
        self.n += 1
        new = self.origin.blob("team/app", noise(90 * KIB + self.n, self.n))
        for _ in range(2):
            assert ask(self.cache, new) == "served"
        return len(self.origin.fetches(new)) == 1

    def keeps_again(self):
        """Whatever failed before: when the store has rested, each listener keeps what it fetches."""
        wait_until(lambda: all(self.is_kept() for _ in range(12)), "all is kept", 40)


def nothing_is_left(cache):
    wait_until(lambda: cache.parts() == [], "no part stays", 40)
    wait_until(lambda: cache.lease_count() == 0, "no lease stays", 20)
    cache.check_objects()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_call_fails_once_while_it_serves(sick, origin, function):
    cache, faults = sick(gc=SCRUB)
    visitor = Visitor(cache, origin)
    visitor.visit()
    before = faults.calls(function)
    visitor.visit()
    count = faults.calls(function) - before
    children = cache.children()
    for error in ERRORS.get(function, ["EIO"]):
        for n in range(1, count + 3):
            faults.arm(function, error, n)
            visitor.visit()
            faults.disarm()
    assert cache.children() == children and all(alive(p) for p in children)
    if function not in ("read", "sendfile", "fstat"):  # of what is being sent: the head is gone already
        assert visitor.cut == 0
    assert count > 0 or function not in SERVING
    nothing_is_left(cache)
    visitor.keeps_again()
    cache.stop()


@pytest.mark.parametrize("function", ["open", "fstatat", "readdir", "unlink", "write"])
def test_calls_fail_once_while_gc_evicts_and_cleans(sick, origin, function):
    """Each visit makes it remove something, and there is a pass all the time. Of the thousand calls of a pass some
    are tried."""
    cache, faults = sick(gc={**SCRUB, "interval": "100ms", "disk": {"maxSize": "2MiB"}})
    visitor = Visitor(cache, origin)
    for _ in range(16):
        visitor.visit()
    before = faults.calls(function)
    for _ in range(4):
        visitor.visit()
    wait_passes(cache, 1)
    every = range(1, faults.calls(function) - before + 1)
    assert len(every) > (100 if function in PASS else 0)
    children = cache.children()
    for n in every if len(every) <= MANY else sorted(random.Random(function).sample(every, MANY)):
        faults.arm(function, ERRORS.get(function, ["EIO"])[0], n)
        visitor.visit()
        if function in PASS:
            wait_until(lambda: faults.hits == 1, "a pass makes the call", 30)
        faults.disarm()
    assert cache.children() == children and all(alive(p) for p in children)
    evicted = evictions(cache)

    def evicts():
        visitor.visit()
        return evictions(cache) > evicted

    wait_until(evicts, "eviction goes on", 30)
    cache.check_objects()
    cache.stop()


def evictions(cache):
    return int(re.findall(r" evicted=(\d+) ", cache.log())[-1])


@pytest.mark.parametrize(("function", "error"), [(f, e) for f in FUNCTIONS
                                                 for e in ERRORS.get(f, ["EIO"])])
def test_all_calls_fail_for_a_time(sick, origin, function, error):
    """Then the log says so, and it recovers."""
    cache, faults = sick(gc=SCRUB)
    visitor = Visitor(cache, origin)
    visitor.visit()
    children = cache.children()
    faults.arm(function, error, for_ever=True)
    for _ in range(3):
        visitor.visit()
    hits = faults.hits
    faults.disarm()
    assert all(alive(p) for p in children)
    assert hits > 0 or function not in SERVING
    if hits and function in ("open", "write", "rename", "sendfile"):
        assert re.search(r" (warn|error) ", cache.log())
    nothing_is_left(cache)
    visitor.keeps_again()
    cache.stop()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_call_fails_once_at_the_start(sick, origin, function):
    """It starts and serves, or says why not."""
    cache, faults = sick()
    visitor = Visitor(cache, origin)
    visitor.visit()
    cache.stop()
    before = faults.calls(function)
    cache.start()
    count = faults.calls(function) - before
    cache.stop()
    for n in range(1, count + 1):
        faults.arm(function, ERRORS.get(function, ["EIO"])[0], n)
        cache.launch()
        wait_until(lambda: cache.ready() or cache.process.poll() is not None, "it starts or says why",
                   30)
        faults.disarm()
        if cache.process.poll() is not None:
            assert cache.process.returncode == 1 and " fatal" in cache.log(), cache.log()
            continue
        visitor.visit()
        cache.stop()
    cache.start()
    visitor.visit()
    nothing_is_left(cache)


def test_a_read_only_index_is_not_seen_by_clients(sick, origin):
    cache, faults = sick()
    visitor = Visitor(cache, origin)
    visitor.visit()
    cache.stop()
    index = str(cache.data / "index")
    subprocess.run(["mount", "--bind", index, index], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", index], check=True)
        cache.start()
        for _ in range(3):
            visitor.visit()
        assert visitor.cut == 0
        assert re.search(r" error gc: ", cache.log())
        cache.stop()
    finally:
        subprocess.run(["umount", index], check=True)
    cache.start()
    visitor.visit()
    nothing_is_left(cache)


@pytest.mark.parametrize("years", [10, -10])
def test_the_wall_clock_steps(sick, origin, years):
    cache, faults = sick(gc=SCRUB)
    visitor = Visitor(cache, origin)
    visitor.visit()
    children = cache.children()
    stored = set(cache.objects())
    for step in (years * 365 * 86400, 0, 3600, -3600, 0):
        faults.step_clock(step)
        visitor.visit()
        seen = cache.log().count("scrub: objects=")
        wait_until(lambda: cache.log().count("scrub: objects=") > seen, "the scrub goes on", 30)
        visitor.visit()
    assert visitor.cut == 0 and stored <= set(cache.objects())
    assert all(alive(p) for p in children)
    faults.step_clock(years * 365 * 86400)
    cache.restart()
    origin.forget()
    visitor.visit()
    assert origin.fetches(visitor.old) == []
    nothing_is_left(cache)


def test_a_slow_disk_is_not_seen_but_in_time(sick, origin):
    cache, faults = sick(gc=SCRUB)
    visitor = Visitor(cache, origin)
    visitor.visit()
    children = cache.children()
    faults.delay(0.01)
    clients = [Download(cache, visitor.old.target) for _ in range(8)]
    visitor.visit()
    assert all(c.result().body == visitor.old.data for c in clients)
    assert visitor.cut == 0
    faults.delay(0)
    assert all(alive(p) for p in children)
    nothing_is_left(cache)


@pytest.mark.parametrize("function", ["fsync", "syncfs"])
def test_an_end_is_clean_only_when_all_is_on_the_disk(sick, origin, function):
    """The index (fsync), and all objects (syncfs); the mark is not even tried then."""
    cache, faults = sick()
    visitor = Visitor(cache, origin)
    visitor.visit()
    mark = cache.data / "index" / "state"
    faults.arm(function, "EIO", for_ever=True)
    cache.stop()
    assert faults.hits
    assert "\nclean 0\n" in mark.read_text()
    assert "cannot be marked as closed cleanly" in cache.log() and "cannot write" not in cache.log()
    faults.disarm()
    cache.start()
    visitor.visit()
    cache.stop()
    assert "\nclean 1\n" in mark.read_text()


def test_a_disk_that_takes_long_to_sync_keeps_gc_from_nothing(sick, origin):
    """Longer than server.heartbeatTimeout: gc lives, tells its health meanwhile, and ends cleanly."""
    cache, faults = sick(**on(server={"heartbeatTimeout": "2s"}))
    old = origin.blob("team/app", noise(150 * KIB))
    cache.fetch(old)
    gc = cache.gc()
    faults.delay(2.2, "fsync")
    before, longest = faults.calls("fsync"), 0
    while faults.calls("fsync") < before + 2:
        cache.fetch(old)
        began = time.monotonic()
        assert ask_metrics(cache, "/healthz").status == 200
        longest = max(longest, time.monotonic() - began)
    assert cache.gc() == gc
    assert longest < 2
    cache.stop()
    assert "the store is closed cleanly" in cache.log(), cache.log()


def test_a_file_that_is_being_hashed_is_not_read_by_others(sick, origin):
    """The index is lost and the disk slow: a client that is checked while its listener hashes a file,
    corrupt at its first byte, is not sent that byte."""
    cache, faults = sick(server={"listeners": 1})
    blob = origin.blob("team/app", noise(4 * MIB))
    cache.fetch(blob)
    cache.stop()
    for name in ("data.mdb", "lock.mdb"):
        (cache.data / "index" / name).unlink()
    with open(cache.object_path(blob.digest), "r+b") as f:
        f.write(bytes([blob.data[0] ^ 1]))
    cache.config["gc"] = {"layers": {"checkRate": "1KiB/s"}}
    cache.start()
    faults.delay(0.02)
    clients = [Download(cache, blob.target) for _ in range(4)]
    answers = [c.result() for c in clients]
    faults.delay(0)
    assert all(a.body == blob.data for a in answers)
