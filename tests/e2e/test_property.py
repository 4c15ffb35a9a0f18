"""The whole daemon against a model: random pulls, ranges, limits, expiries and deaths; every body is right, the
disk limit holds at every look, and in the end the index and the files are the same objects."""
import os
import random
import signal
import subprocess

import pytest

import disk_use
from client import KIB, SLOW, Closed
from harness import alive, noise, wait_until, yaml
from script import Answer

STEPS = 400


class World:
    """One cache, its origin, and what may be done to them. A cut connection is right after a death only."""

    def __init__(self, cache, origin, rng):
        self.cache, self.origin, self.rng = cache, origin, rng
        self.blobs = [origin.blob(f"team/app{n % 3}", noise(int(2 ** rng.uniform(0, 18.5)), n))
                      for n in range(60)]
        self.limit = cache.config["gc"]["disk"]["maxSize"]
        self.may_cut = False

    def ask(self, headers=()):
        blob = self.rng.choice(self.blobs)
        try:
            return blob, self.cache.get(blob.target, headers)
        except (Closed, OSError):
            assert self.may_cut, "a connection was cut, and nobody had died"
            return blob, None

    def pull(self):
        blob, answer = self.ask()
        if answer is None or (self.may_cut and not answer.complete):
            return
        assert answer.status == 200 and answer.complete, (answer.status, answer.problem)
        assert answer.body == blob.data
        self.may_cut = False

    def pull_range(self):
        first = self.rng.randrange(200 * KIB)
        blob, answer = self.ask([("Range", f"bytes={first}-{first + 999}")])
        if answer is None or (self.may_cut and not answer.complete):
            return
        assert answer.status == (206 if first < blob.size else 416), answer.status
        assert answer.status == 416 or answer.body == blob.data[first:first + 1000]

    def break_upstream(self):
        """The next answer for some blob is cut or wrong; what is pulled then must be right all the same."""
        blob = self.rng.choice(self.blobs)
        if blob.size > 2000:
            blob.once.append(Answer(at=self.rng.randrange(1, blob.size), then="reset"))

    def kill_child(self):
        pid = self.rng.choice(self.cache.children())
        os.kill(pid, signal.SIGKILL)
        self.may_cut = True
        self.cache.wait_replaced(pid)
        wait_until(self.cache.ready, "all listeners are there again")

    def kill_all(self):
        self.cache.kill()
        self.may_cut = False
        self.cache.start()

    def restart(self):
        self.cache.restart()
        self.may_cut = False

    def change(self, **gc):
        said = "the configuration is changed"
        self.cache.config["gc"].update(gc)
        self.cache.config_path.write_text(yaml(self.cache.config) + "\n")
        before = self.cache.log().count(said)
        self.cache.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.cache.log().count(said) > before, said)

    def change_limit(self):
        """By HUP; down and up."""
        self.limit = self.rng.choice([1500, 2000, 3000]) * KIB
        self.change(disk={"maxSize": self.limit})
        wait_until(lambda: disk_use.look(self.cache.data) <= self.limit, "the new limit is reached")

    def lose_a_file(self):
        """An administrator's rm."""
        objects = self.cache.objects()
        if objects:
            self.rng.choice(objects).unlink(missing_ok=True)

    def step(self):
        act = self.rng.choices([self.pull, self.pull_range, self.break_upstream, self.lose_a_file,
                                self.kill_child, self.kill_all, self.restart, self.change_limit],
                               [60, 25, 6, 2, 2, 1, 1, 2])[0]
        act()
        use = disk_use.look(self.cache.data)
        assert use <= self.limit, f"{act.__name__}: {use} bytes are used, {self.limit} are allowed"


def in_index(cache):
    """How many objects LMDB's own tool sees."""
    out = subprocess.run(["mdb_stat", "-s", "objects", str(cache.data / "index")],
                         capture_output=True, text=True, check=True).stdout
    return int(out.rpartition("Entries: ")[2])


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_bodies_are_right_and_the_limit_holds(new_cache, origin, seed):
    cache = new_cache(origin, gc={"disk": {"maxSize": 2000 * KIB}, "interval": "500ms",
                                  "layers": {"maxUnused": f"{int(20 * SLOW)}s"}})
    world = World(cache, origin, random.Random(seed))
    for _ in range(STEPS):
        world.step()
    assert all(alive(p) for p in cache.children())
    world.change(layers={})
    cache.check_objects()
    wait_until(lambda: cache.lease_count() == 0 and cache.parts() == [], "no lease and no part is left", 20)
    wait_until(lambda: in_index(cache) == len(cache.objects()), "the index has what the disk has", 20)
    fetched = len(origin.gets())
    kept = [b for b in world.blobs if cache.object_path(b.digest).exists()]
    assert kept
    for blob in kept:
        cache.fetch(blob)
    assert len(origin.gets()) == fetched
