"""Power is lost again and again at random moments: the cache always starts, and never serves a wrong byte."""
import os
import random

from client import KIB
from harness import Download, noise
from power import Snapshot, another_boot
from script import Answer, Gate

ROUNDS = int(os.environ.get("POWER_ROUNDS", "30"))
SEED = int(os.environ.get("POWER_SEED", "0")) or random.randrange(1 << 32)
SIZES = [1, 700, 4 * KIB, 40 * KIB, 70 * KIB, 300 * KIB]


def make_pool(origin, rng):
    pool = [origin.blob("team/app", noise(rng.choice(SIZES) + n, n)) for n in range(60)]
    pool += [origin.manifest("team/app", f"v{n}", b'{"schemaVersion":2,"manifests":[],"n":%d}' % n,
                             "application/vnd.oci.image.index.v1+json") for n in range(10)]
    return pool


def fetch(cache, thing):
    accept = [("Accept", thing.media_type)] if hasattr(thing, "media_type") else []
    answer = cache.get(thing.target, accept)
    assert answer.status == 200 and answer.complete, (answer.status, answer.body[:300])
    assert answer.body == thing.data
    if accept:
        assert answer.header("Content-Type") == thing.media_type


def begin_fill(cache, origin, n, rng):
    """A fill that is under way when the power goes."""
    blob = origin.blob("team/app", noise(rng.choice([80, 300]) * KIB, 100000 + n))
    blob.answer = Answer(gate=Gate(rng.randrange(blob.size)))
    client = Download(cache, blob.target)
    blob.answer.gate.wait_reached()
    return blob, client


def one_round(cache, origin, pool, n, rng):
    cache.start()
    for thing in rng.sample(pool, 12):
        fetch(cache, thing)
    if rng.random() < 0.1:
        cache.wait_log("recovery: the index is complete|the last run ended cleanly", 30)
        cache.check_objects()
    if rng.random() < 0.15:  # an orderly end, and then the power: nothing is lost
        cache.stop()
        another_boot(cache.data)
        return
    snapshot = Snapshot(cache.data)
    for thing in rng.sample(pool, 8):
        fetch(cache, thing)
    blob, client = begin_fill(cache, origin, n, rng)
    cache.kill()
    blob.answer.gate.open()
    client.join()
    assert not client.intact(blob.data)
    snapshot.lose(rng)
    another_boot(cache.data)
    if rng.random() < 0.1:  # and once more while it recovers
        again = Snapshot(cache.data)
        cache.start()
        cache.kill()
        again.lose(rng)
        another_boot(cache.data)


def test_power_is_lost_at_random_moments(new_cache, origin):
    print("seed", SEED)
    rng = random.Random(SEED)
    cache = new_cache(origin, start=False)
    pool = make_pool(origin, rng)
    for n in range(ROUNDS):
        try:
            one_round(cache, origin, pool, n, rng)
        except AssertionError as e:
            raise AssertionError(f"seed {SEED}, round {n}: {e}") from e
    cache.start()
    for thing in pool:
        fetch(cache, thing)
    cache.wait_log("recovery: the index is complete|the last run ended cleanly", 30)
    cache.check_objects()
    assert cache.parts() == []
    cache.stop()
