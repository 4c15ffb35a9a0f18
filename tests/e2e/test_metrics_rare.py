"""Metrics of what happens rarely: refusals, credentials of the cache's own, hosts that come back, ranges beside
fills, no room, cleaning, recovery, and a sick index. And that there is no metric which no test has seen move."""
import contextlib
import os
import re
import signal

from client import KIB, MIB, SLOW
from faults import Faults
from harness import HERE, Download, free_port, noise, wait_until
from realm import TakesTokens
from scrape import PREFIX, Metrics, on, wait_for
from script import Access, Answer, Gate
from test_cleaning import stranger
from test_client_auth import AS_ALICE, users  # noqa: F401 (fixtures)
from test_expiry import FAST
from test_held import HELD, config, new_realm, realm, secret  # noqa: F401 (fixtures)
from test_limits import is_served, slow_clients
from test_ranges import check_range, get_range, held_blob, publish
from test_recovery import drop_index, fill, flip, wait_complete
from test_reload import hup

DATA = noise(60_000, 51)


# --- clients -----------------------------------------------------------------------------------


def test_requests_that_come_too_often_are_counted(new_cache, origin):
    cache = new_cache(origin, **on(server={"requestRate": 1, "requestBurst": 3}))
    statuses = [cache.get("/v2/").status for _ in range(8)]
    assert statuses.count(429) >= 3
    wait_for(cache, "requests_too_many_total", statuses.count(429))


def test_connections_that_make_room_are_counted(new_cache, origin):
    cache = new_cache(origin, **on(server={"listeners": 1, "maxConnections": 20}))
    assert Metrics(cache)("connections_crowded_out_total") == 0
    with contextlib.ExitStack() as stack:
        slow = slow_clients(stack, cache, 20)
        wait_for(cache, "connections", 20)
        wait_until(lambda: is_served(cache), "an honest client is served")
        wait_until(lambda: Metrics(cache)("connections_crowded_out_total") >= 1, "it is counted")
        assert slow[0].closed_by_peer()


def test_strangers_are_counted(new_cache, origin, users):  # noqa: F811
    auth = {"clients": "password", "htpasswd": str(users)}
    cache = new_cache(origin, **on(server={"auth": auth}))
    assert cache.get("/v2/", AS_ALICE).status == 200
    for _ in range(3):
        assert cache.get("/v2/").status == 401
    wait_for(cache, "strangers_total", 3)


# --- upstreams ---------------------------------------------------------------------------------


def test_tokens_of_the_cache_s_own_are_counted(new_cache, new_origin, realm, secret):  # noqa: F811
    registry = new_origin(profile=TakesTokens(realm))
    cache = new_cache(**on(server=config(registry, secret)))
    for repository in ("team/app", "team/other", "team/app"):
        cache.fetch(registry.blob(repository, DATA))
    m = wait_for(cache, "tokens_total", 2)
    assert m("held_refused_total") == 0


def test_refusals_of_the_cache_s_credential_are_counted(new_cache, new_origin, secret):  # noqa: F811
    registry = new_origin(access=Access({HELD: ["team/app"]}))
    cache = new_cache(**on(server=config(registry, secret)))
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    assert Metrics(cache)("held_refused_total") == 0
    registry.access.grants.clear()
    assert cache.get(blob.target).status == 502
    wait_until(lambda: Metrics(cache)("held_refused_total") >= 1, "it is counted")


def test_a_host_that_comes_back_is_counted(new_cache, new_origin):
    port, second = free_port(), new_origin()
    cache = new_cache(**on(server={"downAfter": 2, "registries": {"corp": {
        "hosts": [f"127.0.0.1:{port}", second.host], "scheme": "http"}},
        "defaultBackend": {"registry": "corp"}}))
    blob = second.blob("team/app", DATA)
    for _ in range(4):
        cache.fetch(blob)
    m = wait_for(cache, "upstream_hosts_down_total", 1)
    assert m("upstream_hosts_up_total") == 0
    first = new_origin(port=port)
    first.blob("team/app", DATA)
    wait_until(lambda: cache.fetch(blob) and first.entries(), "the first host is asked again", 20)
    wait_for(cache, "upstream_hosts_up_total", 1)


def test_what_is_served_by_grace_is_an_outcome_of_its_own(new_cache, origin):
    cache = new_cache(origin, **on(server={"checkGrace": "10m", "firstByteTimeout": "1s"}))
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    origin.stop()
    for _ in range(3):
        assert cache.get(blob.target).body == DATA
    m = wait_for(cache, "requests_total", 3, outcome="grace", kind="blob", upstream=origin.host)
    assert m("grace_total") == 3 and m("first_byte_seconds_count", outcome="grace") == 3
    assert m("sent_bytes_total", outcome="grace") == 3 * len(DATA)


# --- fills -------------------------------------------------------------------------------------


def test_ranges_beside_a_fill_are_counted(new_cache, origin):
    cache = new_cache(origin, **on())
    blob, gate = held_blob(origin)
    check_range(get_range(cache, blob, "bytes=20000000-20000999"), blob, 20000000, 20000999)
    m = wait_for(cache, "requests_total", 1, outcome="ranged")
    assert (m("ranged_total"), m("ranged_bytes_total")) == (1, 1000)
    publish(cache, blob, gate)


# --- the store ---------------------------------------------------------------------------------


def test_no_room_is_counted(new_cache, origin):
    cache = new_cache(origin, **on(gc={"disk": {"maxSize": 8 * MIB}}))
    slow, other = origin.blob("team/app", noise(6 * MIB, 1)), origin.blob("team/app", noise(3 * MIB, 2))
    gate = Gate(MIB)
    slow.once.append(Answer(gate=gate))
    client = Download(cache, slow.target)
    gate.wait_reached()
    cache.fetch(other)
    m = wait_for(cache, "no_room_total", 1)
    assert m("uncached_total") == 1
    gate.open()
    assert client.result().body == slow.data


def test_what_is_cleaned_away_and_passes_are_counted(new_cache, origin):
    cache = new_cache(origin, **on(gc=FAST))
    blob = origin.blob("team/app", noise(64 * KIB))
    cache.fetch(blob)
    for n in range(3):
        stranger(cache.object_path(blob.digest).parent / f"readme{n}.txt")
    wait_for(cache, "cleaned_total", 3)
    m = wait_until(lambda: (m := Metrics(cache))("last_pass_duration_seconds") is not None and m,
                   "a pass has ended")
    assert 0 <= m("last_pass_duration_seconds") < 60 * SLOW
    cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1


def test_what_is_adopted_is_counted(new_cache, origin):
    cache = new_cache(origin, **on())
    blobs = fill(cache, origin)
    cache.stop()
    drop_index(cache)
    flip(cache.object_path(blobs[3].digest), 1000)
    cache.start()
    wait_complete(cache)
    m = wait_for(cache, "adopted_total", len(blobs) - 1)
    assert m("corrupt_total") == 1
    assert m("index_records", database="objects") == len(blobs) - 1


def test_what_a_dead_listener_s_fill_left_is_told(new_cache, origin):
    """Until gc has removed it, or somebody has gone on with it."""
    cache = new_cache(origin, **on())
    blob = origin.blob("team/app", noise(4 * MIB))
    blob.answer = Answer(gate=Gate(3 * MIB))
    client = Download(cache, blob.target, connection=cache.connect_to(0))
    blob.answer.gate.wait_reached()
    wait_until(lambda: Metrics(cache)("disk_bytes", use="fill") >= blob.size, "its room is told")
    os.kill(cache.listeners()[0], signal.SIGKILL)
    client.join()
    wait_until(lambda: Metrics(cache)("disk_bytes", use="dead_fill") > 0
               and Metrics(cache)("disk_bytes", use="fill") == 0, "the dead one's is told", 20)
    blob.answer.gate.open()
    cache.fetch(blob)
    wait_for(cache, "disk_bytes", 0, use="dead_fill")


def test_names_and_proofs_are_records(new_cache, origin):
    """Proofs are kept of registries that clients choose only."""
    cache = new_cache(origin, **on(server={"upstreamRules": [
        {"regex": r"^h([0-9]+)[.]test$", "host": "127.0.0.1:$group1", "scheme": "http"}]}))
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    assert cache.get(manifest.tag_target, [("Accept", manifest.media_type)]).status == 200
    m = wait_for(cache, "index_records", 1, database="names")
    assert m("index_records", database="objects") == 1 and m("index_records", database="proofs") == 0
    assert cache.get(blobs[1].target, host=f"h{origin.port}.test").body == blobs[1].data
    m = wait_for(cache, "index_records", 1, database="proofs")
    assert m("index_records", database="objects") == 2 and m("index_records", database="leases") == 0


def test_a_sick_index_is_counted(new_cache, origin, small_disk, tmp_path):
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = new_cache(origin, dataPath=str(disk), environment=faults.environment, **on())
    cache.fetch(origin.blob("team/app", DATA))
    assert Metrics(cache)("index_errors_total") == 0
    faults.arm("write", "EIO", for_ever=True)
    new = origin.blob("team/app", noise(1000, 8))
    cache.fetch(new)
    faults.disarm()
    wait_until(lambda: Metrics(cache)("index_errors_total") >= 1, "it is counted")


def test_a_store_that_fails_is_counted(new_cache, origin, small_disk, tmp_path):
    disk = small_disk("64m")
    faults = Faults(tmp_path, disk)
    cache = new_cache(origin, dataPath=str(disk), environment=faults.environment, **on())
    assert Metrics(cache)("store_errors_total") == 0
    faults.arm("fallocate", "EDQUOT", for_ever=True)
    cache.fetch(origin.blob("team/app", noise(MIB, 8)))
    cache.wait_access(outcome="uncached")
    m = wait_for(cache, "store_errors_total", 1)
    assert m("no_room_total") == m("uncached_total") == 1


# --- processes ---------------------------------------------------------------------------------


def test_reloads_are_told(new_cache, origin):
    cache = new_cache(origin, **on())
    m = Metrics(cache)
    assert m("reloads_total") == 0 and m("last_reload_timestamp_seconds") is None
    assert (m("ready"), m("listeners_ready"), m("listeners_wanted")) == (1, 2, 2)
    hup(cache)
    m = wait_for(cache, "reloads_total", 1, result="done")
    assert m("last_reload_timestamp_seconds") >= m("start_time_seconds")


# --- all of them -------------------------------------------------------------------------------


def test_no_metric_is_without_a_test(new_cache, origin):
    """A row of the table that no test of this folder names was never seen to move."""
    named = set()
    for path in HERE.glob("test_metrics*.py"):
        if path.name != "test_metrics_contrib.py":  # there they are expressions
            named |= set(re.findall(r'"([a-z_]+)"', path.read_text()))
    cache = new_cache(origin, **on())
    cache.get("/v2/")
    told = {f.name[len(PREFIX):] for f in wait_for(cache, "requests_total", 1).families}
    endings = ("", "_total", "_count", "_sum", "_bucket", "_info")
    missing = {name for name in told if not any(name + e in named for e in endings)}
    assert len(told) > 50 and missing == set()
