"""The offline check: what is corrupt is found and named, removed when asked for, and fetched again."""
import os
import pathlib
import random
import re
import subprocess

import pytest
from client import KIB, PATIENCE
from faults import Faults
from harness import BINARY, flip, noise


def verify(cache, *more, **environment):
    return subprocess.run([BINARY, "-c", str(cache.config_path), "--verify", *more],
                          capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, **environment})


@pytest.fixture
def sick_store(new_cache, origin, small_disk, tmp_path):
    """A stopped cache of three objects, and the faults of its disk."""
    cache = new_cache(origin, dataPath=str(small_disk("16m")))
    for n in range(3):
        cache.fetch(origin.blob("team/app", noise(9 * KIB, n)))
    cache.stop()
    return cache, Faults(tmp_path, cache.data)


def test_one_flipped_byte_in_each_of_100_layers_is_found_100_times(cache, origin):
    rng = random.Random(7)
    blobs = [origin.blob("team/app", noise(rng.choice([1, 100, 70 * KIB, 300 * KIB]) + n, n))
             for n in range(130)]
    for blob in blobs:
        cache.fetch(blob)
    cache.stop()
    good = verify(cache)
    assert (good.returncode, good.stdout) == (0, ""), good.stdout
    assert "130 objects" in good.stderr and "MB/s" in good.stderr
    bad = rng.sample(blobs, 100)
    for blob in bad:
        flip(cache.object_path(blob.digest), rng.randrange(blob.size))
    found = verify(cache)
    assert found.returncode == 1
    assert sorted(re.findall(r"^(sha256:\w+) ", found.stdout, re.M)) == sorted(b.digest for b in bad)
    assert all(str(cache.object_path(b.digest)) in found.stdout for b in bad)
    assert len(cache.objects()) == 130  # nothing is touched unless asked for
    repaired = verify(cache, "--repair")
    assert repaired.returncode == 1 and repaired.stdout.count(", removed\n") == 100
    assert verify(cache).returncode == 0
    cache.start()
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == (blob in bad)
    cache.check_objects()


def test_it_refuses_while_a_cache_runs_and_says_which(cache, origin):
    blob = origin.blob("team/app", noise(KIB))
    cache.fetch(blob)
    flip(cache.object_path(blob.digest), 5)
    done = verify(cache, "--repair")
    assert done.returncode == 3 and f"in use by pid {cache.master}" in done.stderr
    assert cache.objects()


def test_truncated_and_strange_files(cache, origin):
    blobs = [origin.blob("team/app", noise(9 * KIB, n)) for n in range(3)]
    for blob in blobs:
        cache.fetch(blob)
    cache.stop()
    os.truncate(cache.object_path(blobs[0].digest), 4 * KIB)
    os.truncate(cache.object_path(blobs[1].digest), 0)
    (cache.data / "objects" / "README").write_text("hello")
    done = verify(cache, "--repair")
    assert done.returncode == 1
    assert done.stdout.count("removed") == 2 and "1 files are no objects" in done.stderr
    assert cache.objects() == sorted([cache.object_path(blobs[2].digest),
                                      cache.data / "objects" / "README"])
    assert verify(cache).returncode == 0


@pytest.mark.parametrize(("function", "error"), [("open", "EMFILE"), ("readdir", "EIO"), ("fstat", "EACCES")])
def test_what_could_not_be_looked_at_is_neither_good_nor_removed(sick_store, function, error):
    """Each call fails once, for example because another process has all the files that may be open."""
    cache, faults = sick_store
    before, calls = cache.objects(), faults.calls(function)
    assert verify(cache, **faults.environment).returncode == 0
    calls = faults.calls(function) - calls
    assert calls >= (3 if function == "fstat" else 6)
    for n in range(1, calls + 1):
        faults.arm(function, error, n)
        done = verify(cache, "--repair", **faults.environment)
        assert (faults.hits, done.returncode) == (1, 3), (n, done.stderr)
        assert cache.objects() == before


@pytest.mark.parametrize(("error", "status"), [("ENOMEM", 3), ("EIO", 1)])
def test_only_what_the_disk_has_lost_is_removed(sick_store, error, status):
    cache, faults = sick_store
    faults.arm("read", error, for_ever=True)
    done = verify(cache, "--repair", **faults.environment)
    assert done.returncode == status
    assert len(cache.objects()) == (3 if status == 3 else 0)
    assert done.stdout.count(", removed\n") == 3 - len(cache.objects())


def test_there_is_nothing_to_check(new_cache, origin, tmp_path):
    cache = new_cache(origin, start=False, dataPath=str(tmp_path / "nowhere"))
    cache.launch()
    cache.terminate()
    cache.wait()
    subprocess.run(["rm", "-rf", str(cache.data)], check=True)
    done = verify(cache)
    assert done.returncode == 3 and "No such file" in done.stderr
    assert not pathlib.Path(cache.data).exists()


def test_repair_alone_is_a_mistake(cache):
    done = subprocess.run([BINARY, "-c", str(cache.config_path), "--repair"],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and "--verify" in done.stderr
