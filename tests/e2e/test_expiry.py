"""maxAge and maxUnused, of layers and of manifests: what is due goes in a pass, what is used stays, and an
image's layers stay with its manifest. Objects get their age from the index of a cache that is stopped, or by
waiting for one that is short."""
import os
import threading

import pytest

from client import KIB, MIB
from faults import Faults
from harness import noise, wait_until
from test_disk import stored
from test_recovery import drop_index

FAST = {"interval": "200ms"}


def collected(new_cache, origin, dataPath=None, environment=None, **gc):
    where = {"dataPath": dataPath} if dataPath else {}
    return new_cache(origin, environment=environment, gc=FAST | gc, **where)


def wait_passes(cache, count=2):
    """Waits until so many whole passes have begun and ended from now on."""
    before = cache.log().count(" gc: pass: ")
    wait_until(lambda: cache.log().count(" gc: pass: ") > before + count, "gc passes", 20)


def wait_gone(cache, thing):
    wait_until(lambda: not cache.object_path(thing.digest).exists(), "it is removed", 20)


def image_of(origin, n=0):
    return origin.image("team/app", f"v{n}", [noise(100 * KIB, 10 * n), noise(50 * KIB, 10 * n + 1)])


def pull(cache, manifest, blobs):
    answer = cache.get(manifest.tag_target, [("Accept", manifest.media_type)])
    assert answer.status == 200 and answer.body == manifest.data
    for b in blobs:
        cache.fetch(b)


class Keeper(threading.Thread):
    """Asks for something again and again, as clients do that have its parts already."""

    def __init__(self, cache, target, headers=()):
        super().__init__(daemon=True)
        self.cache, self.target, self.headers = cache, target, headers
        self.stopping, self.problems = threading.Event(), []
        self.start()

    def run(self):
        while not self.stopping.wait(0.05):
            try:
                answer = self.cache.get(self.target, self.headers)
                if answer.status != 200:
                    self.problems.append(answer.status)
            except Exception as e:  # the test tells it
                self.problems.append(repr(e))

    def end(self):
        self.stopping.set()
        self.join()
        assert self.problems == []


@pytest.mark.parametrize("limit", ["maxAge", "maxUnused"])
def test_layers_expire_and_manifests_stay(new_cache, origin, limit):
    cache = collected(new_cache, origin, layers={limit: "2s"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    for b in blobs:
        wait_gone(cache, b)
    wait_passes(cache)
    assert cache.object_path(manifest.digest).exists()
    pull(cache, manifest, blobs)
    assert [len(origin.fetches(b)) for b in blobs] == [2] * len(blobs)
    assert len(origin.fetches(manifest)) == 1


@pytest.mark.parametrize("limit", ["maxAge", "maxUnused"])
def test_manifests_expire_and_layers_stay(new_cache, origin, limit):
    cache = collected(new_cache, origin, manifests={limit: "2s"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    wait_gone(cache, manifest)
    wait_passes(cache)
    assert stored(cache, blobs) == blobs
    pull(cache, manifest, blobs)
    assert [len(origin.fetches(b)) for b in blobs] == [1] * len(blobs)


def test_nothing_expires_when_nothing_is_said(new_cache, origin):
    cache = collected(new_cache, origin, layers={"maxAge": "0s"}, manifests={"maxUnused": "0s"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    wait_passes(cache, 5)
    assert len(cache.objects()) == 1 + len(blobs)


def test_what_is_used_stays_and_what_is_not_goes(new_cache, origin):
    cache = collected(new_cache, origin, layers={"maxUnused": "2s"})
    used, unused = (origin.blob("team/app", noise(100 * KIB, n)) for n in (1, 2))
    cache.fetch(used)
    keeper = Keeper(cache, used.target)
    cache.fetch(unused)
    wait_gone(cache, unused)
    cache.fetch(unused)
    wait_gone(cache, unused)  # 4 s and more have passed
    keeper.end()
    assert len(origin.fetches(used)) == 1


def test_maxage_counts_from_the_fetch_however_much_it_is_used(new_cache, origin):
    cache = collected(new_cache, origin, layers={"maxAge": "2s"})
    blob = origin.blob("team/app", noise(100 * KIB))
    keeper = Keeper(cache, blob.target)
    wait_until(lambda: len(origin.fetches(blob)) >= 3, "it was fetched anew", 30)
    keeper.end()
    cache.check_objects()


def test_layers_stay_as_long_as_their_manifest_is_asked_for(new_cache, origin):
    """Clients that have the layers ask for the manifest only. Here it is fetched anew every second, and each
    time its layers count as used; those of an image that nobody asks for do not."""
    cache = collected(new_cache, origin, layers={"maxUnused": "4s"}, manifests={"maxAge": "1s"})
    images = [image_of(origin, n) for n in (1, 2)]
    for manifest, blobs in images:
        pull(cache, manifest, blobs)
    (wanted, its_blobs), (_, other_blobs) = images
    keeper = Keeper(cache, wanted.tag_target, [("Accept", wanted.media_type)])
    for b in other_blobs[1:]:  # the config is the same
        wait_gone(cache, b)
    before = len(origin.fetches(wanted))
    wait_until(lambda: len(origin.fetches(wanted)) > before + 5, "the manifest was fetched again", 30)
    keeper.end()
    assert stored(cache, its_blobs) == its_blobs
    assert [len(origin.fetches(b)) for b in its_blobs[1:]] == [1] * (len(its_blobs) - 1)


def test_a_clock_that_is_set_makes_nothing_expire(new_cache, origin, small_disk, tmp_path):
    """Forward by more than maxUnused, and back: what was used a moment ago was used a moment ago."""
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = collected(new_cache, origin, layers={"maxUnused": "1h"}, dataPath=str(disk),
                      environment=faults.environment)
    blob = origin.blob("team/app", noise(100 * KIB))
    cache.fetch(blob)
    for seconds, way in ((86400, "forward"), (-86400, "back"), (0, "forward")):
        faults.step_clock(seconds)
        cache.wait_log(f"the clock was set {way} by ")
        wait_passes(cache)
        assert stored(cache, [blob]) == [blob]


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_does_not_change_what_was_used_last(new_cache, origin, small_disk, tmp_path, seconds):
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = collected(new_cache, origin, disk={"maxSize": 12 * MIB}, dataPath=str(disk),
                      environment=faults.environment)
    blobs = [origin.blob("team/app", noise(MIB, n)) for n in range(8)]
    for b in blobs:
        cache.fetch(b)
    faults.step_clock(seconds)
    cache.wait_log("the clock was set ")
    for b in blobs[:3]:
        cache.fetch(b)
    for n in range(4):
        cache.fetch(origin.blob("team/app", noise(MIB, 100 + n)))
    kept = stored(cache, blobs)
    assert kept[:3] == blobs[:3] and blobs[3] not in kept


def grow_old(cache):
    """Its index is lost, and its files are from long ago."""
    cache.stop()
    drop_index(cache)
    for path in cache.objects():
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_when_the_index_was_lost_unused_counts_from_then(new_cache, origin):
    """Nobody knows how long: a cache that is used all day must not be empty after a loss of power."""
    cache = collected(new_cache, origin, layers={"maxUnused": "1h"}, manifests={"maxUnused": "1h"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    grow_old(cache)
    cache.start()
    cache.wait_log("recovery: the index is complete")
    wait_passes(cache)
    assert len(cache.objects()) == 1 + len(blobs)
    cache.restart()
    wait_passes(cache)
    assert len(cache.objects()) == 1 + len(blobs)


def test_when_the_index_was_lost_age_counts_from_the_fetch(new_cache, origin):
    """Also of what a client asks for before gc has come to it."""
    cache = collected(new_cache, origin)
    blob = origin.blob("team/app", noise(100 * KIB))
    cache.fetch(blob)
    grow_old(cache)
    cache.config["gc"] = FAST | {"layers": {"maxAge": "100d", "checkRate": "1KiB/s"}}
    cache.start()
    cache.fetch(blob)
    wait_gone(cache, blob)
    assert len(origin.fetches(blob)) == 1


def test_expiry_is_counted_and_told_by_the_pass(new_cache, origin):
    cache = collected(new_cache, origin, layers={"maxAge": "4s"}, manifests={"maxUnused": "4s"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    cache.wait_log(rf"pass: blobs={len(blobs)} blob_bytes=\d+ manifests=1 ")
    cache.wait_log(rf"pass: blobs=0 blob_bytes=0 manifests=0 .* expired_age={len(blobs)} expired_unused=1 ",
                   20)
    assert cache.objects() == []
