"""Making room: what is filled, followed or sent stays, the coldest goes, what has no room is passed through;
a leader that dies, a restart and another configuration leave the account of disk space right."""
import hashlib
import os
import random
import re
import shutil
import signal
import time

import disk_use
from client import KIB, MIB
from faults import Faults
from harness import UNPRIVILEGED, Download, give, noise, wait_until
from script import Answer, Gate
from test_disk import limited, stored
from test_expiry import wait_gone
from test_recovery import drop_index, record_count, wait_complete


def fetch_all(cache, blobs):
    for b in blobs:
        cache.fetch(b)


def some(origin, count, size=MIB, seed=0):
    return [origin.blob("team/app", noise(size, seed + n)) for n in range(count)]


def test_the_coldest_goes_and_what_was_used_stays(new_cache, origin):
    cache = limited(new_cache, origin, 12 * MIB)
    blobs = some(origin, 8)
    fetch_all(cache, blobs)
    fetch_all(cache, blobs[:3])  # used again: 3, 4, … are the coldest now
    more = some(origin, 4, seed=100)
    fetch_all(cache, more)
    kept = stored(cache, blobs)
    assert blobs[:3] == kept[:3] and stored(cache, more) == more
    assert blobs[3] not in kept
    cache.wait_log(r"evicted \d+ objects of \d+ bytes")


def test_what_is_filled_and_what_is_followed_is_not_evicted(new_cache, origin):
    """A fill that stands still keeps its room, while others come and go in what is left."""
    cache = limited(new_cache, origin, 10 * MIB)
    slow = origin.blob("team/app", noise(4 * MIB, 1))
    gate = Gate(2 * MIB)
    slow.once.append(Answer(gate=gate))
    clients = [Download(cache, slow.target, connection=cache.connect_to(k)) for k in (0, 1)]
    gate.wait_reached()
    for n in range(5):
        fetch_all(cache, some(origin, 4, seed=100 * n))
    gate.open()
    for c in clients:
        assert c.result().complete and c.answer.body == slow.data
    assert len(origin.fetches(slow)) == 1
    cache.fetch(slow)
    assert len(origin.fetches(slow)) == 1


def test_what_is_evicted_while_it_is_sent_is_sent_to_its_end(new_cache, origin):
    cache = limited(new_cache, origin, 24 * MIB)
    blob = origin.blob("team/app", noise(16 * MIB, 42))
    cache.fetch(blob)
    with cache.connect(receive_buffer=8192) as client:
        client.ask("GET", blob.target)
        answer = client.receive_head()
        for other in some(origin, 12):
            cache.fetch(other)
        wait_gone(cache, blob)
        client.receive_body(answer)
        assert answer.complete and answer.body == blob.data
    wait_until(lambda: sum(a["outcome"] == "fill" for a in cache.access()) == 13, "all were kept")


def test_when_nothing_can_be_evicted_an_object_is_passed_through(new_cache, origin):
    """All room is reserved for a fill that stands still. Both of two at once are told in time."""
    cache = limited(new_cache, origin, 8 * MIB)
    slow = origin.blob("team/app", noise(6 * MIB, 1))
    gate = Gate(MIB)
    slow.once.append(Answer(gate=gate))
    client = Download(cache, slow.target)
    gate.wait_reached()
    blobs = some(origin, 2, 3 * MIB, seed=10)
    others = [Download(cache, b.target) for b in blobs]
    for d, b in zip(others, blobs):
        assert d.result().complete and d.answer.body == b.data
        assert len(origin.fetches(b)) == 1  # and not once more to pass it through
    cache.wait_log("no room for sha256:")
    wait_until(lambda: len([a for a in cache.access() if a["outcome"] == "uncached"]) == 2,
               "both were passed through")
    gate.open()
    assert client.result().body == slow.data
    cache.fetch(slow)


def test_room_is_waited_for_while_another_fill_ends(new_cache, origin):
    """It comes within the time, by the end of a fill whose object can be evicted."""
    cache = limited(new_cache, origin, 8 * MIB)
    first, second = origin.blob("team/app", noise(5 * MIB, 1)), origin.blob("team/app", noise(5 * MIB, 2))
    gate = Gate(MIB)
    first.once.append(Answer(gate=gate))
    one = Download(cache, first.target)
    gate.wait_reached()
    two = Download(cache, second.target)
    wait_until(lambda: origin.fetches(second), "the second is asked for")
    gate.open()
    assert one.result().body == first.data and two.result().body == second.data
    wait_until(lambda: stored(cache, [first, second]) == [second], "the second took its place")


def test_an_object_of_unknown_length_reserves_as_it_grows(new_cache, origin):
    cache = limited(new_cache, origin, 8 * MIB)
    fits, too_large = (origin.blob("team/app", noise(n * MIB, n)) for n in (5, 12))
    for b in (fits, too_large):
        b.answer = Answer(framing="chunked")
    fetch_all(cache, some(origin, 6, seed=50))
    for _ in range(2):
        cache.fetch(fits)
    assert len(origin.fetches(fits)) == 1
    cache.fetch(too_large)  # it goes on from upstream where the store had to stop
    assert not cache.object_path(too_large.digest).exists()
    wait_until(lambda: cache.parts() == [] and cache.lease_count() == 0, "nothing stays")
    cache.fetch(fits)


def account(cache):
    """What the last pass said of the disk: name -> number."""
    line = re.findall(r"gc: pass: (.*)", cache.log())[-1]
    return {k: int(v) for k, v in re.findall(r"(\w+)=(-?\d+)", line)}


def wait_account(cache, **wanted):
    wait_until(lambda: "gc: pass: " in cache.log() and
               all(account(cache)[k] == v for k, v in wanted.items()), f"the account is {wanted}", 20)


def test_a_dead_leader_gives_its_reservation_back(new_cache, origin):
    cache = new_cache(origin, gc={"disk": {"maxSize": 8 * MIB}, "interval": "200ms"})
    for n in range(3):
        blob = origin.blob("team/app", noise(6 * MIB, n))
        gate = Gate(MIB)
        blob.once.append(Answer(gate=gate))
        client = Download(cache, blob.target, connection=cache.connect_to(0))
        gate.wait_reached()
        wait_account(cache, reserved_bytes=6 * MIB + 4 * KIB)
        pid = cache.listeners()[0]
        os.kill(pid, signal.SIGKILL)
        gate.open()
        client.join(60)
        assert client.answer is None or not client.answer.complete  # it may have died before the head
        cache.wait_replaced(pid)
        wait_until(lambda: cache.parts() == [], "gc removes the part", 20)
        wait_account(cache, reserved_bytes=0)
    fits = origin.blob("team/app", noise(6 * MIB, 10))
    for _ in range(2):
        cache.fetch(fits)
    assert len(origin.fetches(fits)) == 1


def test_the_account_outlives_a_clean_stop_and_is_made_again_after_a_crash(new_cache, origin):
    cache = new_cache(origin, gc={"disk": {"maxSize": 8 * MIB}, "interval": "24h"})
    blobs = some(origin, 5)
    fetch_all(cache, blobs)
    for end in (cache.stop, cache.kill):
        end()
        cache.start()
        wait_account(cache, blobs=5, blob_bytes=5 * MIB)
    fetch_all(cache, some(origin, 6, seed=50))
    assert sum(p.stat().st_blocks * 512 for p in cache.objects()) <= 8 * MIB


def test_a_smaller_limit_is_obeyed_at_once(new_cache, origin):
    cache = new_cache(origin)
    fetch_all(cache, some(origin, 10))
    cache.config["gc"] = {"disk": {"maxSize": 4 * MIB}}
    cache.config_path.write_text(cache.config_path.read_text() + f"gc: {{disk: {{maxSize: {4 * MIB}}}}}\n")
    cache.process.send_signal(signal.SIGHUP)
    wait_until(lambda: 0 < len(cache.objects()) <= 3, "the coldest are gone", 20)
    cache.check_objects()


def test_free_space_of_the_file_system_is_kept(new_cache, origin, small_disk):
    """minFree on a disk of its own, on which somebody else writes, too."""
    disk = small_disk("32m")
    cache = new_cache(origin, dataPath=str(disk / "cache"), gc={"disk": {"minFree": "8MiB"}})
    blobs = some(origin, 40)
    for b in blobs:
        cache.fetch(b)
        assert shutil.disk_usage(disk).free >= 8 * MIB
    assert len(cache.objects()) >= 15
    (disk / "ballast").write_bytes(noise(6 * MIB, 1000))
    wait_until(lambda: shutil.disk_usage(disk).free >= 8 * MIB, "room was made for somebody else", 20)
    assert len(cache.objects()) >= 8
    fetch_all(cache, blobs[:20])


def test_an_upstream_that_sends_more_than_it_said_ends_the_fill(new_cache, origin):
    """Its part does not grow beyond what was reserved for it."""
    cache = limited(new_cache, origin, 8 * MIB)
    blob = origin.blob("team/app", noise(MIB))
    gate = Gate(512 * KIB)
    blob.once.append(Answer(gate=gate, then="fin", at=512 * KIB))
    blob.answer = Answer(framing="chunked", body=noise(6 * MIB, 5))
    client = Download(cache, blob.target)
    gate.wait_reached()
    gate.open()
    assert not client.result().complete
    wait_until(lambda: cache.parts() == [] and cache.objects() == [], "nothing stays")


def test_layers_of_a_manifest_that_is_asked_for_stay_though_they_are_old(new_cache, origin, small_disk, tmp_path):
    """A store from long ago: the manifest is a hit, and its layers count as used with it."""
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    faults.step_clock(-1000 * 86400)
    cache = new_cache(origin, dataPath=str(disk), environment=faults.environment)
    images = [origin.image("team/app", f"v{n}", [noise(100 * KIB, n)]) for n in (1, 2)]
    for manifest, blobs in images:
        assert cache.get(manifest.tag_target, [("Accept", manifest.media_type)]).status == 200
        fetch_all(cache, blobs)
    cache.stop()
    faults.step_clock(0)
    cache.start()
    (wanted, its_blobs), (_, other_blobs) = images
    assert cache.get(wanted.tag_target, [("Accept", wanted.media_type)]).body == wanted.data
    cache.stop()
    cache.config["gc"] = {"layers": {"maxUnused": "1h"}, "interval": "200ms"}
    cache.start()
    wait_gone(cache, other_blobs[1])
    assert stored(cache, its_blobs) == its_blobs


def test_of_thousands_the_coldest_go(new_cache, origin):
    """More than gc chooses among at a time, so that it has to choose twice. Their ages are those of their files."""
    count, minute = 6000, 60
    cache = new_cache(origin, gc={"interval": "10m"})
    cache.stop()
    drop_index(cache)
    order = list(range(count))
    random.Random(7).shuffle(order)
    now, ages = int(time.time()), {}
    for n, rank in enumerate(order):
        data = b"%d" % n
        path = cache.object_path("sha256:" + hashlib.sha256(data).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        ages[path.name] = minute * (rank + 1)
        os.utime(path, (now - ages[path.name],) * 2)
    if UNPRIVILEGED:
        give(cache.data, UNPRIVILEGED)
    cache.start()
    assert wait_complete(cache)["adopted"] == count
    cache.stop()
    used = disk_use.look(str(cache.data))
    limit = used - 5000 * 4 * KIB
    cache.config["gc"]["disk"] = {"maxSize": limit}
    cache.start()
    wait_until(lambda: disk_use.look(str(cache.data)) <= 0.95 * limit, "there is room", 30)
    wait_until(lambda: sum(int(n) for n in re.findall(r"evicted (\d+) objects", cache.log()))
               == count - len(cache.objects()), "all that went is logged", 30)
    kept = [p.name for p in cache.objects()]
    gone = ages.keys() - set(kept)
    assert len(gone) > 5000 and len(kept) > 500
    assert max(ages[k] for k in kept) < min(ages[g] for g in gone)
    told = int(re.findall(r"the last one unused for (\d+) s", cache.log())[-1])
    assert 0 <= told - min(ages[g] for g in gone) <= time.time() - now + 1
    assert record_count(cache) == len(kept)
