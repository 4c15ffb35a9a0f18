"""A cache that cannot keep things still serves them: full or read-only disk, broken index, too
large."""
import subprocess

import pytest
from client import KIB, MIB
from harness import Download, noise, wait_until
from origin import Answer, Gate


def test_a_full_disk_is_not_seen_by_clients(new_cache, origin, small_disk):
    cache = new_cache(origin, dataPath=str(small_disk("12m")))
    blobs = [origin.blob("team/app", noise(4 * MIB, i)) for i in range(6)]
    for _ in range(2):
        for blob in blobs:
            cache.fetch(blob)
    assert any(a["outcome"] == "uncached" for a in cache.access())
    cache.check_objects()
    wait_until(lambda: cache.parts() == [], "no part stays on a full disk")


def test_a_disk_that_is_full_from_the_start_is_not_seen_by_clients(new_cache, origin, small_disk):
    disk = small_disk("4m")
    cache = new_cache(origin, dataPath=str(disk))
    fill_up(disk)
    for size in (10, 100 * KIB, 2 * MIB):
        blob = origin.blob("team/app", noise(size, size))
        manifest = origin.manifest("team/app", f"v{size}", b'{"schemaVersion":2,"n":%d}' % size)
        for _ in range(2):
            cache.fetch(blob)
            assert cache.get(manifest.tag_target,
                             [("Accept", manifest.media_type)]).body == manifest.data
    assert len(origin.fetches(blob)) >= 1


def fill_up(disk):
    """Writes until not a byte more goes in."""
    with open(disk / "ballast", "wb", buffering=0) as f:
        for size in (256 * KIB, 4 * KIB, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                pass


def test_a_disk_that_fills_up_in_the_midst_of_a_fill_is_not_seen_by_its_clients(new_cache, origin,
                                                                                small_disk):
    """The length is not said, so nothing is reserved; the disk fills while the body comes."""
    disk = small_disk("16m")
    cache = new_cache(origin, dataPath=str(disk))
    blob = origin.blob("team/app", noise(8 * MIB))
    gate = Gate(4 * MIB)
    blob.once.append(Answer(framing="chunked", gate=gate))
    clients = [Download(cache, blob.target, connection=cache.connect_to(k)) for k in (0, 1, 0, 1)]
    gate.wait_reached()
    fill_up(disk)
    gate.open()
    for c in clients:
        assert c.result().complete and c.answer.body == blob.data
    cache.check_objects()


def test_an_object_that_fills_the_disk_with_a_known_length_is_passed_through(new_cache, origin,
                                                                             small_disk):
    cache = new_cache(origin, dataPath=str(small_disk("4m")))
    blob = origin.blob("team/app", noise(8 * MIB))
    cache.fetch(blob)
    cache.wait_access(outcome="uncached")
    assert cache.objects() == []


def test_a_read_only_store_serves_what_it_has_and_passes_the_rest(new_cache, origin, small_disk):
    disk = small_disk("32m")
    cache = new_cache(origin, dataPath=str(disk))
    old, new = origin.blob("team/app", noise(MIB, 1)), origin.blob("team/app", noise(MIB, 2))
    cache.fetch(old)
    cache.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    cache.start()
    for _ in range(2):
        cache.fetch(old)
        cache.fetch(new)
        manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
        assert cache.get(manifest.tag_target,
                         [("Accept", manifest.media_type)]).body == manifest.data
    cache.stop()


def damage_garbage(index):
    data = index / "data.mdb"
    data.write_bytes(noise(data.stat().st_size or 65536, 3))


def damage_truncated(index):
    data = index / "data.mdb"
    data.write_bytes(data.read_bytes()[:5000])


def damage_empty(index):
    (index / "data.mdb").write_bytes(b"")


def damage_lock(index):
    (index / "lock.mdb").write_bytes(noise(8192, 4))


def damage_usage(index):
    for path in index.glob("usage*"):
        path.write_bytes(b"")


def damage_is_a_file(index):
    for path in index.iterdir():
        path.unlink()
    index.rmdir()
    index.write_bytes(b"not a folder")


@pytest.mark.parametrize("damage",
                         [damage_garbage, damage_truncated, damage_empty, damage_lock, damage_usage,
                                    damage_is_a_file], ids=lambda f: f.__name__)
def test_a_damaged_index_is_not_seen_by_clients(cache, origin, damage):
    old, new = origin.blob("team/app", noise(MIB, 1)), origin.blob("team/app", noise(MIB, 2))
    cache.fetch(old)
    cache.stop()
    damage(cache.data / "index")
    cache.start()
    for _ in range(2):
        cache.fetch(old)
        cache.fetch(new)
    cache.check_objects()


def test_an_object_larger_than_the_limit_is_passed_through(new_cache, origin):
    cache = new_cache(origin, gc={"disk": {"maxSize": "4MiB"}})
    large, small = origin.blob("team/app", noise(5 * MIB)), origin.blob("team/app", noise(MIB))
    for n in (1, 2):
        cache.fetch(large)
        assert len(origin.fetches(large)) == n  # nothing was kept, and nothing asked for twice
    cache.wait_access(outcome="uncached")
    for _ in range(2):
        cache.fetch(small)
    assert len(origin.fetches(small)) == 1
    assert cache.objects() == [cache.object_path(small.digest)]


def test_a_passed_through_object_honours_ranges_and_is_cut_when_it_breaks(new_cache, origin):
    cache = new_cache(origin, server={"upstreamTimeout": "2s"}, gc={"disk": {"maxSize": "1MiB"}})
    large = origin.blob("team/app", noise(5 * MIB))
    got = cache.get(large.target, [("Range", "bytes=1000-1999")])
    assert (got.status, got.body) == (206, large.data[1000:2000])
    large.answer = Answer(at=MIB, then="fin")
    answer = cache.get(large.target)
    assert not answer.complete and answer.body == large.data[:len(answer.body)]


def test_a_store_that_vanishes_is_not_seen_by_clients(cache, origin):
    """Somebody removed the folders under a running cache."""
    blobs = [origin.blob("team/app", noise(MIB, i)) for i in range(3)]
    cache.fetch(blobs[0])
    subprocess.run(["rm", "-rf", str(cache.data / "objects"), str(cache.data / "parts")],
                   check=True)
    for _ in range(2):
        for blob in blobs:
            cache.fetch(blob)
