"""After an end that was not clean, or with an index that is lost or damaged: the index is made again from
the files while the cache serves, and nothing is served before it was hashed."""
import os
import re
import shutil
import signal
import subprocess

import pytest
from client import KIB, MIB
from harness import Download, alive, flip, noise, wait_until

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def drop_index(cache):
    for name in ("data.mdb", "lock.mdb"):
        (cache.data / "index" / name).unlink()


def age(cache):
    """The mark as another machine, or another boot, would have left it."""
    mark = cache.data / "index" / "state"
    text = mark.read_text()
    mark.write_text(re.sub(r"boot (\S\S\S\S)", lambda m: "boot " + ("0000" if m[1] != "0000" else "1111"),
                           text))


def record_count(cache):
    done = subprocess.run(["mdb_stat", "-s", "objects", str(cache.data / "index")],
                          capture_output=True, text=True)
    return int(re.search(r"Entries: (\d+)", done.stdout)[1]) if done.returncode == 0 else -1


def wait_complete(cache):
    found = cache.wait_log(r"recovery: the index is complete: (.*)", 30)
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", found[1])}


def fill(cache, origin, count=20):
    blobs = [origin.blob("team/app", noise(3 * KIB + n, n)) for n in range(count)]
    for blob in blobs:
        cache.fetch(blob)
    return blobs


def test_a_clean_restart_goes_by_the_index(cache, origin):
    blobs = fill(cache, origin)
    cache.restart()
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == 1
    assert "recovery" not in cache.log()


def test_after_a_crash_of_all_processes_it_goes_by_the_index(cache, origin):
    """Nothing is hashed again: all that gc knows of the objects is what it knew."""
    blobs = fill(cache, origin)
    made = (cache.data / "index" / "data.mdb").stat().st_ino
    cache.kill()
    cache.start()
    assert (cache.data / "index" / "data.mdb").stat().st_ino == made
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == 1
    assert "the last run did not end cleanly; its index is whole" in cache.log()
    assert "recovery" not in cache.log()


def test_a_lost_index_is_made_again_without_anybody_asking(cache, origin):
    blobs = fill(cache, origin)
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX)
    accept = [("Accept", OCI_INDEX)]
    cache.get(manifest.tag_target, accept)
    cache.stop()
    drop_index(cache)
    flip(cache.object_path(blobs[3].digest), 1000)
    os.truncate(cache.object_path(blobs[4].digest), 0)
    stranger = cache.data / "objects" / "README"
    stranger.write_text("not an object")
    cache.start()
    done = wait_complete(cache)
    stranger.unlink(missing_ok=True)
    assert (done["adopted"], done["corrupt"]) == (19, 2)
    assert record_count(cache) == 19
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == (blob in blobs[3:5])
    answer = cache.get(manifest.target, accept)
    assert (answer.body, answer.header("Content-Type")) == (manifest.data, OCI_INDEX)
    cache.check_objects()
    cache.restart()
    assert "recovery" not in cache.log()


def test_the_folder_may_be_moved_to_another_machine(new_cache, origin, tmp_path):
    cache = new_cache(origin)
    blobs = fill(cache, origin)
    cache.stop()
    moved = tmp_path / "elsewhere" / "data"
    shutil.copytree(cache.data, moved)
    shutil.rmtree(cache.data)
    other = new_cache(origin, dataPath=str(moved), start=False)
    age(other)
    other.start()
    for blob in blobs:
        other.fetch(blob)
        assert len(origin.fetches(blob)) == 1
    assert "recovery" not in other.log()


def test_a_copy_of_a_running_cache_is_not_believed(new_cache, origin, tmp_path):
    cache = new_cache(origin)
    blobs = fill(cache, origin)
    copied = tmp_path / "copy" / "data"
    shutil.copytree(cache.data, copied)
    flip(copied / cache.object_path(blobs[0].digest).relative_to(cache.data), 7)
    other = new_cache(origin, dataPath=str(copied))
    assert wait_complete(other)["corrupt"] == 1
    other.fetch(blobs[0])
    other.fetch(blobs[1])


def test_what_is_asked_for_comes_first_and_is_hashed_before_a_byte_is_sent(new_cache, origin):
    """gc reads so slowly that it would take minutes; one of the files is corrupt at its first byte."""
    cache = new_cache(origin, server={"listeners": 1})
    blobs = [origin.blob("team/app", noise((9, 120, 9, 9)[n] * MIB, n)) for n in range(4)]
    for blob in blobs:
        cache.fetch(blob)
    cache.kill()
    age(cache)
    flip(cache.object_path(blobs[1].digest), 0)
    origin.forget()
    cache.config["gc"] = {"layers": {"checkRate": "100kB/s"}}
    cache.start()
    for blob in (blobs[2], blobs[1], blobs[0]):  # several clients: those that come later are checked
        clients = [Download(cache, blob.target) for _ in range(3)]
        assert all(c.result().body == blob.data for c in clients)
        assert len(origin.fetches(blob)) == (blob is blobs[1])
    assert "the index is complete" not in cache.log()
    cache.check_objects()


def test_an_object_that_takes_too_long_to_hash_is_passed_through(new_cache, origin):
    """A listener that hashes is stopped: clients of the other one are passed through in time."""
    cache = new_cache(origin, server={"timeout": "2s", "heartbeatTimeout": "1h"})
    blob = origin.blob("team/app", noise(128 * MIB))
    cache.fetch(blob)
    cache.stop()
    drop_index(cache)
    cache.config["gc"] = {"layers": {"checkRate": "1KiB/s"}}
    cache.start()
    victim = cache.listeners()[0]
    connections = [cache.connect_to(k) for k in (0, 1)]
    first = Download(cache, blob.target, connection=connections[0])
    try:
        wait_until(lambda: cache.lease_count() == 1, "listener 0 hashes the file")
        os.kill(victim, signal.SIGSTOP)
        if cache.lease_count() == 1:  # else it was faster than we
            answer = Download(cache, blob.target, connection=connections[1]).result()
            assert answer.body == blob.data
            cache.wait_access(outcome="uncached")
    finally:
        os.kill(victim, signal.SIGCONT)
    assert first.result().body == blob.data


def test_a_gc_that_dies_in_the_midst_goes_on(new_cache, origin):
    cache = new_cache(origin)
    blobs = fill(cache, origin)
    cache.stop()
    drop_index(cache)
    cache.config["gc"] = {"layers": {"checkRate": "20kB/s"}}
    cache.start()
    wait_until(lambda: 0 < record_count(cache) < len(blobs), "some are found")
    gc = cache.gc()
    os.kill(gc, signal.SIGKILL)
    cache.wait_replaced(gc)
    some = record_count(cache)
    assert some < len(blobs)
    cache.stop()  # nor does a clean end in the midst of it lose what there is
    cache.config["gc"] = {}
    cache.start()
    assert wait_complete(cache)["adopted"] < len(blobs)
    assert record_count(cache) == len(blobs)


@pytest.mark.parametrize("damage", ["zeros", "noise", "pages"])
def test_a_damaged_index_is_set_aside_and_made_again(cache, origin, damage):
    blobs = fill(cache, origin, 300)
    for n in range(4):
        cache.stop()
        path = cache.data / "index" / "data.mdb"
        data = bytearray(path.read_bytes())
        if damage == "zeros":
            data[:8 * KIB] = bytes(8 * KIB)
        elif damage == "noise":
            data[:] = noise(len(data), n)
        else:  # the meta pages are whole, the tree is not
            for at in range(8 * KIB, len(data), 4 * KIB):
                data[at + 8:at + 4 * KIB] = noise(4 * KIB - 8, at + n)
        path.write_bytes(data)
        cache.start()
        children = cache.children()
        assert wait_complete(cache)["adopted"] == len(blobs)
        assert all(alive(p) for p in children)
    aside = list((cache.data / "index").glob("damaged.*"))
    assert 1 <= len(aside) <= 2
    origin.forget()
    for blob in blobs[:20]:
        cache.fetch(blob)
        assert origin.fetches(blob) == []
