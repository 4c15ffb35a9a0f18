"""The pass removes from the store what does not belong there, and nothing else."""
import os
import subprocess

from client import KIB, MIB
from faults import Faults
from harness import UNPRIVILEGED, Download, give, noise, wait_until
from scrape import Metrics, on, wait_for
from script import Answer, Gate
from test_expiry import FAST, wait_passes

OLD = 1_000_000_000  # seconds since 1970: long ago


def make_old(path):
    os.utime(path, (OLD, OLD), follow_symlinks=False)


def stranger(path, data=b"stranger"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    make_old(path)
    return path


def wait_removed(*paths):
    wait_until(lambda: not any(os.path.lexists(p) for p in paths), "they are removed", 20)


def test_strangers_of_every_kind_are_removed_and_objects_stay(new_cache, origin):
    cache = new_cache(origin, gc=FAST)
    blobs = [origin.blob("team/app", noise(64 * KIB, n)) for n in range(20)]
    for b in blobs:
        cache.fetch(b)
    home = cache.object_path(blobs[0].digest).parent
    hexa = blobs[0].digest.partition(":")[2]
    objects = cache.data / "objects"
    outside = cache.data / "not-ours"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    found = [stranger(home / "readme.txt"), stranger(home / (hexa[:2] + "0" * 61)),
             stranger(home / hexa.upper()), stranger(home / (hexa + ".tmp")),
             stranger(home / "folder" / "deep" / "file").parent.parent,
             stranger(objects / "stray"), stranger(objects / "sha1" / "ab" / "file").parent.parent,
             stranger(objects / "sha256" / "AB" / "x").parent, stranger(objects / "sha256" / "file")]
    other = f"{(int(hexa[:2], 16) + 1) % 256:02x}"
    found.append(stranger(objects / "sha256" / other / hexa))  # the right name in the wrong place
    link = home / ("f" * 64)
    link.symlink_to(outside)
    make_old(link)
    os.mkfifo(home / "pipe")
    make_old(home / "pipe")
    for p in found:
        make_old(p)
    if UNPRIVILEGED:
        give(objects, UNPRIVILEGED)
    wait_removed(*found, link, home / "pipe")
    assert (outside / "file").read_bytes() == b"precious"
    assert len(cache.objects()) == len(blobs)
    for b in blobs:
        cache.fetch(b)
        assert len(origin.fetches(b)) == 1


def test_a_large_folder_goes_in_one_pass(new_cache, origin):
    """Of objects and of parts: in many bites, but one pass."""
    cache = new_cache(origin, start=False)
    large = [cache.data / "objects" / "old-backup", cache.data / "parts" / "old-backup"]
    for folder in large:
        for n in range(1000):
            stranger(folder / str(n // 100) / str(n))
        make_old(folder)
    if UNPRIVILEGED:
        give(cache.data, UNPRIVILEGED)
    cache.start()  # whose first pass comes at once, and no other within the interval
    wait_removed(*large)
    assert "cannot remove" not in cache.log()


def test_a_stranger_in_the_making_is_left_alone(new_cache, origin):
    cache = new_cache(origin, gc=FAST)
    blob = origin.blob("team/app", noise(64 * KIB))
    cache.fetch(blob)
    copy = cache.object_path(blob.digest).parent / ".copy.tmp"
    copy.write_bytes(b"half")
    wait_passes(cache, 3)
    assert copy.exists()
    make_old(copy)
    wait_removed(copy)


def test_a_file_of_the_wrong_size_is_removed_and_fetched_again(new_cache, origin):
    cache = new_cache(origin, gc=FAST)
    short, long = (origin.blob("team/app", noise(64 * KIB, n)) for n in (1, 2))
    for b in (short, long):
        cache.fetch(b)
    os.truncate(cache.object_path(short.digest), 1000)
    with open(cache.object_path(long.digest), "ab") as f:
        f.write(b"more")
    wait_removed(*(cache.object_path(b.digest) for b in (short, long)))
    for b in (short, long):
        cache.fetch(b)
        assert len(origin.fetches(b)) == 2
    cache.check_objects()


def records(cache):
    """How many objects the index has, as LMDB's own tool sees it."""
    done = subprocess.run(["mdb_stat", "-s", "objects", str(cache.data / "index")],
                          capture_output=True, text=True, check=True)
    return int(done.stdout.partition("Entries: ")[2].split()[0])


def test_records_without_a_file_are_dropped(new_cache, origin):
    cache = new_cache(origin, gc=FAST)
    blobs = [origin.blob("team/app", noise(16 * KIB, n)) for n in range(12)]
    for b in blobs:
        cache.fetch(b)
    for b in blobs[:5]:
        cache.object_path(b.digest).unlink()
    wait_until(lambda: records(cache) == 7, "five records are dropped", 20)
    cache.wait_log(r"dropped \d+ records without a file")
    for b in blobs:
        cache.fetch(b)
    assert records(cache) == 12


def test_parts_that_are_none_are_removed_and_those_being_written_stay(new_cache, origin):
    cache = new_cache(origin, gc=FAST)
    blob = origin.blob("team/app", noise(4 * MIB))
    gate = Gate(MIB)
    blob.once.append(Answer(gate=gate))
    client = Download(cache, blob.target)
    gate.wait_reached()
    parts = cache.data / "parts"
    found = [stranger(parts / "readme"), stranger(parts / (blob.digest + ".00000000000000ff"))]
    written = [p for p in parts.iterdir() if p not in found]
    assert len(written) == 1
    make_old(written[0])
    wait_until(lambda: not any(p.exists() for p in found), "dead parts are removed", 45)
    assert written[0].exists()
    gate.open()
    assert client.result().body == blob.data
    cache.check_objects()


def test_the_account_is_set_right_by_the_pass(new_cache, origin):
    """Somebody removes files behind the cache's back; the pass counts again."""
    cache = new_cache(origin, gc=FAST)
    blobs = [origin.blob("team/app", noise(64 * KIB, n)) for n in range(10)]
    for b in blobs:
        cache.fetch(b)
    cache.wait_log(r"pass: blobs=10 blob_bytes=655360 ")
    for b in blobs[:4]:
        cache.object_path(b.digest).unlink()
    cache.wait_log(r"pass: blobs=6 blob_bytes=393216 ", 20)


def test_tags_of_objects_that_are_gone_are_forgotten(new_cache, origin, tmp_path):
    """A farm has a new tag with every build: the index must not grow by them for ever."""
    faults = Faults(tmp_path, tmp_path)
    faults.step_clock(-7200)
    cache = new_cache(origin, environment=faults.environment,
                      **on(gc=FAST | {"manifests": {"maxUnused": "30m"}}))

    def pull(n):
        thing = origin.manifest("team/app", f"build-{n}", b'{"schemaVersion":2,"n":%d}' % n)
        assert cache.get(thing.tag_target, [("Accept", thing.media_type)]).body == thing.data

    for n in range(150):
        pull(n)
    wait_for(cache, "index_records", 150, database="names")
    cache.stop()
    faults.step_clock(0)
    cache.start()
    wait_for(cache, "index_records", 0, database="objects")
    wait_for(cache, "index_records", 0, database="names")
    cache.wait_log(r"pass: .* forgotten=[1-9]")
    pull(1)
    wait_passes(cache, 2)
    assert Metrics(cache)("index_records", database="names") == 1
