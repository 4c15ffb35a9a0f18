"""The scrub: stored objects are hashed again while the cache serves, what is corrupt goes, and the next
request fetches it."""
import os
import random
import re
import time

from client import KIB, MIB
from harness import Download, flip, noise, wait_until
from script import Answer, Gate

SCRUB = {"layers": {"checkSHA": True, "checkInterval": "1s"}}


def sweeps(cache):
    """What each look over the store says: dicts of numbers."""
    return [{k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}
            for line in re.findall(r"scrub: (objects=.*)", cache.log())]


def test_bit_rot_in_100_of_130_layers_is_found_100_times(new_cache, origin):
    rng = random.Random(11)
    cache = new_cache(origin)
    blobs = [origin.blob("team/app", noise(rng.choice([1, 100, 70 * KIB, 300 * KIB]) + n, n))
             for n in range(130)]
    for blob in blobs:
        cache.fetch(blob)
    cache.stop()
    bad = rng.sample(blobs, 100)
    for blob in bad:
        flip(cache.object_path(blob.digest), rng.randrange(blob.size))
    cache.config["gc"] = SCRUB
    cache.start()
    wait_until(lambda: sum(s["corrupt"] for s in sweeps(cache)) == 100, "all is looked at", 30)
    assert cache.objects() == sorted(cache.object_path(b.digest) for b in blobs if b not in bad)
    named = set(re.findall(r"scrub: object (sha256:\w+) is corrupt .*: removed", cache.log()))
    assert named and named <= {b.digest for b in bad}  # the log leaves out what repeats too often
    cache.check_objects()
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == (blob in bad)
    seen = len(sweeps(cache))
    wait_until(lambda: len(sweeps(cache)) > seen + 1, "all is looked at again", 30)
    last = sweeps(cache)[-1]
    assert (last["objects"], last["corrupt"]) == (130, 0)


def test_an_object_that_was_cut_short_or_lost_is_fetched_again(new_cache, origin):
    cache = new_cache(origin, gc=SCRUB)
    short, lost = (origin.blob("team/app", noise(9 * KIB, n)) for n in range(2))
    for blob in (short, lost):
        cache.fetch(blob)
    os.truncate(cache.object_path(short.digest), 100)
    cache.object_path(lost.digest).unlink()
    wait_until(lambda: cache.objects() == [], "what is not whole is removed", 30)
    cache.wait_log(f"object {short.digest} (is corrupt|has 100 bytes)")  # whichever step came first
    for blob in (short, lost):
        cache.fetch(blob)
    cache.check_objects()


def test_a_manifest_is_looked_at_too(new_cache, origin):
    cache = new_cache(origin, gc=SCRUB)
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    accept = [("Accept", manifest.media_type)]
    cache.get(manifest.tag_target, accept)
    flip(cache.object_path(manifest.digest), 3)
    wait_until(lambda: cache.objects() == [], "it is removed", 30)
    assert cache.get(manifest.tag_target, accept).body == manifest.data


def test_it_reads_no_faster_than_checkRate(new_cache, origin):
    cache = new_cache(origin)
    size = 2 * MIB
    for n in range(3):
        cache.fetch(origin.blob("team/app", noise(size, n)))
    cache.fetch(origin.blob("team/app", noise(10, 1)))
    cache.stop()
    cache.config["gc"] = {"layers": {**SCRUB["layers"], "checkRate": "2MB/s"}}
    began = time.monotonic()
    cache.start()
    wait_until(lambda: any(s["objects"] == 4 for s in sweeps(cache)), "all is read", 60)
    assert time.monotonic() - began >= 0.9 * 3 * size / 2e6
    assert [s["bytes"] for s in sweeps(cache) if s["objects"] == 4][0] == 3 * size + 10


def test_what_is_verified_is_not_read_again_before_its_time(new_cache, origin):
    """By the kernel's own count of what gc has read."""
    cache = new_cache(origin, gc={"layers": {"checkSHA": True, "checkInterval": "1h"}})
    cache.fetch(origin.blob("team/app", noise(8 * MIB)))
    cache.restart()
    cache.wait_log("pass:")  # gc's jobs have begun, the scrub a second after that
    before = bytes_read(cache)
    cache.config["gc"] = SCRUB
    cache.restart()
    wait_until(lambda: bytes_read(cache) > 8 * MIB, "a shorter interval makes it due")
    assert before < MIB


def bytes_read(cache):
    with open(f"/proc/{cache.gc()}/io") as f:
        return int(re.search(r"rchar: (\d+)", f.read())[1])


def test_what_is_fetched_again_meanwhile_stays(new_cache, origin):
    """A fill that runs while its digest's old record is looked at."""
    cache = new_cache(origin, gc=SCRUB)
    blob = origin.blob("team/app", noise(3 * MIB))
    cache.fetch(blob)
    cache.object_path(blob.digest).unlink()
    gate = Gate(2 * MIB)
    blob.answer = Answer(gate=gate)
    client = Download(cache, blob.target)
    gate.wait_reached()
    seen = len(sweeps(cache))
    other = origin.blob("team/app", noise(100, 5))
    cache.fetch(other)
    wait_until(lambda: len(sweeps(cache)) > seen + 1, "the scrub goes on", 30)
    gate.open()
    assert client.result().body == blob.data
    assert cache.object_path(blob.digest).read_bytes() == blob.data
    origin.forget()
    cache.fetch(blob)
    assert origin.fetches(blob) == []
