"""maxAge and maxUnused, of layers and of manifests: what is due goes in a pass, what is used stays, and an
image's layers stay with its manifest. Objects get their age from the index of a cache that is stopped, or by
waiting for one that is short."""
import threading

import pytest

from client import KIB
from harness import noise, wait_until
from test_disk import stored

FAST = {"interval": "200ms"}


def collected(new_cache, origin, **gc):
    return new_cache(origin, gc=FAST | gc)


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


def test_expiry_is_counted_and_told_by_the_pass(new_cache, origin):
    cache = collected(new_cache, origin, layers={"maxAge": "4s"}, manifests={"maxUnused": "4s"})
    manifest, blobs = image_of(origin)
    pull(cache, manifest, blobs)
    cache.wait_log(rf"pass: blobs={len(blobs)} blob_bytes=\d+ manifests=1 ")
    cache.wait_log(rf"pass: blobs=0 blob_bytes=0 manifests=0 .* expired_age={len(blobs)} expired_unused=1 ",
                   20)
    assert cache.objects() == []
