"""A cache that cannot keep things still serves them: full or read-only disk, broken index, too
large."""
import re
import subprocess

import pytest
from client import KIB, MIB, Closed
from faults import Faults
from harness import Download, alive, noise, wait_until
from script import Answer, Gate


@pytest.mark.parametrize("limits", [{}, {"maxSize": "1GiB"}])
def test_a_full_disk_makes_room_for_what_is_asked_for(new_cache, origin, small_disk, limits):
    """As a limit of its size would, whatever larger one is set."""
    cache = new_cache(origin, dataPath=str(small_disk("12m")), gc={"disk": limits})
    blobs = [origin.blob("team/app", noise(4 * MIB, i)) for i in range(6)]
    for _ in range(2):
        for blob in blobs:
            cache.fetch(blob)
    for n in range(40):  # small ones, too, and without end
        cache.fetch(origin.blob("team/app", noise(MIB, 100 + n)))
    assert {a["outcome"] for a in cache.access()} == {"fill"}
    assert len(cache.objects()) >= 5
    cache.check_objects()
    wait_until(lambda: cache.parts() == [], "no part stays on a full disk")


def test_an_object_that_no_disk_can_hold_does_not_empty_it(new_cache, origin, small_disk):
    """With minFree and without."""
    for name, limits in (("one", {}), ("two", {"minFree": "2MiB"})):
        cache = new_cache(origin, dataPath=str(small_disk("12m", name)), gc={"disk": limits})
        blobs = [origin.blob("team/app", noise(MIB, n)) for n in range(6)]
        for blob in blobs:
            cache.fetch(blob)
        cache.fetch(origin.blob("team/app", noise(20 * MIB, 100)))
        cache.wait_access(outcome="uncached")
        assert len(cache.objects()) == 6


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


@pytest.fixture
def keeps_nothing(new_cache, origin, small_disk):
    """A cache whose store is read-only, and empty: everything goes straight through it."""
    disk = small_disk("16m")
    cache = new_cache(origin, dataPath=str(disk), server={
        "upstreamTimeout": "2s", "firstByteTimeout": "2s", "timeout": "10s"})
    cache.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return cache.start()


@pytest.mark.parametrize("status", [403, 404, 429])
def test_what_cannot_be_kept_is_refused_as_the_registry_says(keeps_nothing, origin, status):
    """Its check was allowed, and its GET is not."""
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = Answer(status=status)
    answer = keeps_nothing.get(blob.target)
    assert (answer.status, answer.error_code()) == (status, "UNKNOWN")  # the origin's own word
    if status != 429:  # after that it is left alone for a while
        blob.answer = Answer()
        keeps_nothing.fetch(blob)
        assert keeps_nothing.wait_access(outcome="uncached")["status"] == "200"


@pytest.mark.parametrize("head", [
    Answer(status=503), Answer(status=500), Answer(before_head="reset"), Answer(before_head="fin"),
    Answer(at=MIB, then="reset"), Answer(at=MIB, then="fin"), Answer(at=MIB, then="hang"),
    Answer(framing="chunked", at=MIB, then="fin"), Answer(framing="chunked", at=0, then="reset")],
    ids=["503", "500", "reset", "fin", "reset later", "fin later", "hang later", "chunked and cut",
         "chunked and cut at once"])
def test_what_cannot_be_kept_is_tried_again(keeps_nothing, origin, head):
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.once.append(head)
    keeps_nothing.fetch(blob)
    assert len(origin.fetches(blob)) == 2


@pytest.mark.parametrize("head, statuses", [
    (Answer(status=500), (503,)), (Answer(before_head="reset"), (502,)),
    (Answer(before_head="hang"), (504,)), (Answer(at=MIB, then="reset"), ()),
    (Answer(at=MIB, then="fin", ranges=False), ()), (Answer(framing="chunked", body=noise(2 * MIB, 9)), ())],
    ids=["500", "reset", "hang", "reset later", "fin later without ranges", "wrong bytes"])
def test_what_cannot_be_kept_and_fails_for_good_is_told_or_cut(keeps_nothing, origin, head, statuses):
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = head
    try:
        answer = keeps_nothing.get(blob.target)
    except Closed:
        answer = None
    assert answer is None or answer.status in statuses or not answer.complete
    assert statuses == () or answer is not None
    blob.answer = Answer()
    wait_until(lambda: keeps_nothing.get(blob.target).body == blob.data, "it is served again", 20)


def passed_through(cache):
    """The listeners that found no index at some time."""
    return set(re.findall(r"(listener \d+): without store or index", cache.log()))


def cached_again(cache):
    return set(re.findall(r"(listener \d+): the store is open", cache.log()))


def test_a_gc_that_dies_before_it_is_ready_keeps_no_client_waiting(new_cache, origin, small_disk,
                                                                    tmp_path):
    """The listeners start without it; once it lives, all is as ever, and soon: each listener sees it within a second
    or so, not only when it tries again what would not open. The disk is slow, so that there is time."""
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = new_cache(origin, dataPath=str(disk), environment=faults.environment, start=False)
    faults.delay(0.1)
    cache.launch()
    killed = set()

    def given_up():
        cache.kill_new("gc", killed)
        return "before it was ready: starting the listeners without it" in cache.log()

    wait_until(given_up, "the listeners are started", 30)
    faults.delay(0)
    wait_until(cache.ready, "it is ready", 20)
    blob = origin.blob("team/app", noise(MIB))
    cache.fetch(blob)
    wait_until(lambda: cache.gc() not in killed and alive(cache.gc()), "another gc lives", 20)
    wait_until(lambda: "the index is complete" in cache.log(), "it has made the index", 20)
    wait_until(lambda: cached_again(cache) == passed_through(cache), "every listener uses it", 2)
    cache.fetch(blob)
    origin.forget()
    cache.fetch(blob)
    assert origin.fetches(blob) == []


@pytest.mark.parametrize("answer, statuses", [
    (Answer(status=403), (403,)), (Answer(status=404), (404,)), (Answer(status=500), (503,)),
    (Answer(before_head="reset"), (502,)), (Answer(before_head="hang"), (504,))],
    ids=["403", "404", "500", "reset", "hang"])
def test_a_range_of_what_cannot_be_kept_that_does_not_come_is_told(keeps_nothing, origin, answer, statuses):
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = answer
    got = keeps_nothing.get(blob.target, [("Range", "bytes=1000000-1000999")])
    assert got.status in statuses and got.error_code()


@pytest.mark.parametrize("answer", [
    Answer(content_range="bytes 0-99/3145728"), Answer(content_range="bytes 1000000-1000999/*"),
    Answer(headers=(("Content-Encoding", "gzip"),)), Answer(ranges=False)],
    ids=["another range", "no size", "said to be encoded", "no range"])
def test_a_range_of_what_cannot_be_kept_is_right_or_not_complete(keeps_nothing, origin, answer):
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = answer
    got = keeps_nothing.get(blob.target, [("Range", "bytes=1000000-1000999")])
    if got.complete and got.status == 206:
        assert got.header("Content-Range") == f"bytes 1000000-1000999/{blob.size}"
        assert got.body == blob.data[1000000:1001000]
    elif got.complete and got.status == 200:
        assert got.body == blob.data and got.header("Content-Encoding") is None
    else:
        assert got.status >= 500 or not got.complete
