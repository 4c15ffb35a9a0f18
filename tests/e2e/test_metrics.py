"""Every metric moves when what it tells of happens, by as much as happened, and under a label that nobody
can make more of than there are."""
import collections
import contextlib
import os
import re
import signal
import ssl

import pytest
from client import KIB, MIB, SLOW, Connection
from harness import Download, alive, noise, wait_until
from scrape import Metrics, Moves, on, wait_for
from script import OCI_MANIFEST, Access, Answer, Gate, basic
from test_scrub import flip

ALICE = basic("alice", "a-secret")
ACCEPT = ("Accept", OCI_MANIFEST)
HISTOGRAM_SUM_SLACK = 0.001


@pytest.fixture
def cache(new_cache, origin):
    return new_cache(origin, **on())


def up(origin):
    return {"upstream": origin.host}


def missing(n=0):
    return f"/v2/team/app/blobs/sha256:{n:064x}"


# --- requests ----------------------------------------------------------------------------------


def test_requests_are_counted_by_upstream_kind_and_outcome(new_cache, new_origin):
    """The words are those of the access lines, and the bytes those that clients were sent."""
    origin, other = new_origin(access=Access({ALICE: ["team/app"], None: ["team/app"]})), new_origin()
    cache = new_cache(origin, **on(server={"upstreamRules": [
        {"regex": "^other", "host": other.host, "scheme": "http"}]}, gc={"disk": {"maxSize": "2MB"}}))
    manifest, blobs = origin.image("team/app", "v1", [noise(300 * KIB)])
    large, elsewhere = origin.blob("team/app", noise(3 * MIB)), other.blob("team/app", noise(5000, 5))
    cold = origin.blob("team/app", noise(10 * KIB, 2))
    for _ in range(3):
        assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
        assert cache.get(blobs[1].target).body == blobs[1].data
    assert cache.get(blobs[1].target, [("Range", "bytes=0-99")]).status == 206
    cache.fetch(large)
    assert cache.get(elsewhere.target, host="other.test").body == elsewhere.data
    assert cache.head(cold.target).status == 200
    assert cache.get(missing()).status == 404
    assert cache.get("/v2/team/app/tags/list").status == 404
    assert cache.get("/v2/").status == 200
    assert cache.get("/v2/team/app/referrers/" + manifest.digest).status == 404
    assert cache.get("/v2/UPPER/blobs/sha256:00").status == 400
    m = wait_for(cache, "requests_total", 15)

    def count(upstream, kind, outcome):
        return m("requests_total", upstream=upstream, kind=kind, outcome=outcome)

    here = origin.host
    assert count(here, "manifest", "fill") == 1 and count(here, "manifest", "hit") == 2
    assert count(here, "blob", "fill") == 1 and count(here, "blob", "hit") == 3
    assert count(here, "blob", "uncached") == 1 and count(here, "blob", "checked") == 1
    assert count(here, "blob", "denied") == 1 and count(here, "other", "denied") == 1
    assert count(here, "ping", "passed") == 1 and count(other.host, "blob", "fill") == 1
    assert count("none", "other", "error") == 1
    assert m("requests_total", kind="referrers") == 1
    wait_until(lambda: len(cache.access()) == 15, "all are logged")
    lines = collections.Counter(a["outcome"] for a in cache.access())
    lines["passed"] += lines.pop("ping")
    told = collections.Counter()
    for s in m.samples:
        if s.name == "registry_cache_requests_total":
            told[s.labels["outcome"]] += int(s.value)
    assert told == lines
    sent = {k: m("sent_bytes_total", upstream=here, kind=k[0], outcome=k[1])
            for k in [("blob", "hit"), ("blob", "fill"), ("blob", "uncached"), ("manifest", "hit")]}
    assert sent == {("blob", "hit"): 2 * blobs[1].size + 100, ("blob", "fill"): blobs[1].size,
                    ("blob", "uncached"): large.size, ("manifest", "hit"): 2 * manifest.size}
    assert m("sent_bytes_total") == sum(int(a["bytes"]) for a in cache.access())
    assert {c: m("responses_total", **{"class": c}) for c in ("2xx", "4xx", "5xx", "none")} \
        == {"2xx": 11, "4xx": 4, "5xx": 0, "none": 0}
    assert m("fetched_bytes_total", upstream=other.host) == elsewhere.size
    assert m("fetched_bytes_total", **up(origin)) >= \
        manifest.size + blobs[1].size + large.size
    assert m("uncached_total") == 1 and m("fills_total") >= 3


def test_a_histogram_s_count_and_sum_are_those_of_the_requests(new_cache, origin):
    """Of hits, and of checks that wait for a registry until firstByteTimeout is over."""
    cache = new_cache(origin, **on(server={"firstByteTimeout": "1s"}))
    blob = origin.blob("team/app", noise(100 * KIB))
    for _ in range(3):
        cache.fetch(blob)
    blob.head = Answer(before_head="hang")
    for _ in range(2):
        assert cache.get(blob.target).status == 504
    m = wait_for(cache, "requests_total", 5)
    wait_until(lambda: len(cache.access()) == 5, "all are logged")
    for outcome in ("hit", "fill", "error"):
        lines = [a for a in cache.access() if a["outcome"] == outcome]
        total = sum(int(a["first_ms"]) for a in lines) / 1000
        assert m("first_byte_seconds_count", outcome=outcome) == len(lines)
        assert abs(m("first_byte_seconds_sum", outcome=outcome) - total) <= len(lines) * 0.001
    checks = [int(a["check_ms"]) for a in cache.access() if "check_ms" in a]
    assert m("check_seconds_count", **up(origin)) == len(checks) == 4
    assert abs(m("check_seconds_sum", **up(origin)) - sum(checks) / 1000) <= len(checks) * 0.001
    buckets = {s.labels["le"]: s.value for s in m.samples
               if s.name == "registry_cache_check_seconds_bucket" and s.labels["upstream"] == origin.host}
    assert buckets["0.5"] == 2 and buckets["+Inf"] == 4 and buckets["0.5"] <= buckets["2.5"]
    assert m("checks_total", result="allowed", **up(origin)) == 2
    assert m("checks_total", result="failed", **up(origin)) == 2
    assert m("fill_seconds_count", **up(origin)) == m("fills_total") == 1
    assert 0 <= m("fill_seconds_sum", **up(origin)) < 20 * SLOW


def test_answers_to_checks_are_counted_by_what_they_were(cache, new_origin, new_cache):
    origin = new_origin(access=Access({ALICE: ["team/app"]}))
    cache = new_cache(origin, **on())
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob, [("Authorization", ALICE)])
    moves = Moves(cache)
    assert cache.get(blob.target).status == 401
    cache.fetch(blob, [("Authorization", ALICE)])
    moves.wait("checks_total", 1, result="refused", **up(origin))
    moves.wait("checks_total", 1, result="allowed", **up(origin))
    assert Metrics(cache)("upstream_up", **up(origin)) == 1
    origin.stop()
    assert cache.get(blob.target, [("Authorization", ALICE)]).status == 502
    moves.wait("checks_total", 1, result="failed", **up(origin))
    assert moves.by("upstream_answers_total", answer="none", **up(origin)) >= 1
    assert Metrics(cache)("upstream_up", **up(origin)) == 0
    moves.wait("responses_total", 1, **{"class": "5xx"})


def test_checks_that_share_one_are_counted(new_cache, origin):
    cache = new_cache(origin, **on(server={"listeners": 1}))
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)
    moves = Moves(cache)
    blob.head = Answer(before_head="hang")
    gate = blob.head.gate = Gate(0)
    downloads = [Download(cache, blob.target) for _ in range(5)]
    wait_until(lambda: moves.by("checks_sent_total") + moves.by("checks_shared_total") == 5,
               "all have asked")
    assert moves.by("checks_sent_total") == 1 and moves.by("checks_shared_total") == 4
    gate.open()
    origin.stop()
    for d in downloads:
        d.join()


# --- upstreams ---------------------------------------------------------------------------------


def test_quotas_and_limits_of_a_registry_are_told(cache, origin):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.head = Answer(headers=(("RateLimit-Limit", "100;w=21600"),
                                    ("ratelimit-remaining", "76;w=21600")))
    assert Metrics(cache)("upstream_quota_remaining") is None
    cache.get(manifest.tag_target, [ACCEPT])
    m = wait_for(cache, "upstream_quota_remaining", 76, **up(origin))
    assert m("upstream_quota_limit", **up(origin)) == 100
    moves = Moves(cache)
    origin.limited = 30
    for _ in range(4):
        assert cache.get(missing()).status == 429
    moves.wait("upstream_answers_total", 1, answer="limited", **up(origin))
    moves.wait("upstream_limits_total", 1)
    moves.wait("upstream_limited_total", 3)
    moves.wait("responses_total", 4, **{"class": "4xx"})


def test_the_next_host_of_a_registry_is_counted_under_its_name(new_cache, new_origin):
    dead, alive_ = new_origin(), new_origin()
    dead.stop()
    cache = new_cache(**on(server={"listeners": 1, "registries": {"corp": {
        "hosts": [dead.host, alive_.host], "scheme": "http"}}, "defaultBackend": {"registry": "corp"}}))

    def fetch_another():
        cache.fetch(alive_.blob("team/app", noise(5000, len(alive_.things))))
        return Metrics(cache)("upstream_hosts_down_total") == 1

    wait_until(fetch_another, "the host is found to be down")
    cache.fetch(alive_.blob("team/app", noise(5000)))
    m = wait_until(lambda: (m := Metrics(cache))("upstream_kept_from_down_total") >= 1 and m,
                   "it is not asked any more")
    assert m.labels("requests_total", "upstream") == {"corp"}
    assert m("upstream_next_hosts_total") >= 1
    assert m("upstream_answers_total", upstream="corp", answer="none") >= 1
    assert m("upstream_answers_total", upstream="corp", answer="ok") >= 1


def test_names_that_clients_choose_are_bounded(new_cache, new_origin):
    """10 000 hosts by a rule's group; the configuration's own names are told from them, before and
    after."""
    named, backend = new_origin(), new_origin()
    cache = new_cache(backend, **on(server={"connectTimeout": "5s", "upstreamRules": [
        {"regex": r"^h([0-9]+)\.test$", "host": "127.1.0.0:$group1", "scheme": "http"},
        {"regex": r"^named", "host": named.host, "scheme": "http"}]}, log={"access": False}))
    size = len(Metrics(cache).samples)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(cache.connect()) for _ in range(20)]
        for n in range(0, 10000, 20):
            for k, c in enumerate(connections):
                c.ask("HEAD", missing(), host=f"h{n + k + 1}.test")
            for c in connections:
                assert c.receive("HEAD").status == 502
    cache.get("/v2/", host="named.test")
    cache.get("/v2/")
    m = wait_for(cache, "requests_total", 10002)
    names = m.labels("requests_total", "upstream")
    assert {"other", named.host, backend.host} <= names
    assert len([n for n in names if n.startswith("127.1.")]) <= 62
    assert len(names) <= 128
    assert m("requests_total", upstream="other") >= 10000 - 62
    assert m("requests_total", upstream=named.host) == m("requests_total", upstream=backend.host) == 1
    assert len(m.samples) < size + 70 * 100


# --- fills -------------------------------------------------------------------------------------


def test_fills_and_followers_under_way_are_told(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    downloads = [Download(cache, blob.target, connection=cache.connect_to(k)) for k in (0, 0, 1, 1)]
    wait_for(cache, "followers", 3)
    m = wait_for(cache, "fills_running", 1)
    assert m("fills_running_limit") == 10
    assert m("follows_total") >= 1
    assert m("connections") == 4
    taken = m("disk_bytes", use="fill")
    assert taken >= blob.size
    blob.answer.gate.open()
    for d in downloads:
        assert d.result().body == blob.data
    m = wait_for(cache, "followers", 0)
    assert wait_for(cache, "fills_running", 0)("fills_total") == 1
    m = wait_for(cache, "connections", 0)
    assert m("requests_total", outcome="follow") == 3 and m("requests_total", outcome="fill") == 1
    assert m("objects", kind="blob") == 1 and m("objects", kind="manifest") == 0
    assert m("disk_bytes", use="fill") == 0 and m("disk_bytes", use="blob") >= blob.size
    assert m("index_records", database="objects") == 1
    assert 0 < m("index_bytes") < m("index_map_bytes")


def test_gauges_of_a_listener_that_dies_are_forgotten(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    downloads = [Download(cache, blob.target, connection=cache.connect_to(k)) for k in (0, 1, 1)]
    wait_for(cache, "followers", 2)
    victim = cache.listeners()[1]
    os.kill(victim, signal.SIGKILL)
    cache.wait_replaced(victim)
    wait_for(cache, "followers", 0)
    blob.answer.gate.open()
    for d in downloads:
        d.join()


def test_waiting_for_a_worker_is_measured(new_cache, origin):
    cache = new_cache(origin, **on(server={"workers": 1, "timeout": "2s"}))
    slow, other, late = (origin.blob("team/app", noise(MIB, i)) for i in range(3))
    slow.answer = Answer(gate=Gate(1000))
    first = Download(cache, slow.target)
    slow.answer.gate.wait_reached()
    assert cache.get(other.target).status == 503
    moves = Moves(cache)
    moves.wait("queue_timeouts_total", 0, queue="workers")
    m = wait_for(cache, "queue_timeouts_total", 1, queue="workers")
    assert m("queue_wait_seconds_count", queue="workers") == 1
    assert 2 <= m("queue_wait_seconds_sum", queue="workers") < 10 * SLOW
    second = Download(cache, late.target)
    wait_for(cache, "queue_length", 1, queue="workers")
    slow.answer.gate.open()
    assert second.result().body == late.data and first.result().body == slow.data
    m = wait_for(cache, "queue_wait_seconds_count", 2, queue="workers")
    assert m("queue_timeouts_total", queue="workers") == 1
    wait_for(cache, "queue_length", 0, queue="workers")
    assert m("queue_wait_seconds_count", queue="streamers") == 0


def test_waiting_for_a_streamer_is_measured(new_cache, origin):
    cache = new_cache(origin, **on(server={"streamers": 1, "timeout": "2s"}))
    blob = origin.blob("team/app", noise(8 * MIB))
    cache.fetch(blob)
    with cache.connect(receive_buffer=4096) as slow:
        slow.ask("GET", blob.target)
        slow.receive_head()
        second = Download(cache, blob.target)
        wait_for(cache, "queue_length", 1, queue="streamers")
        answer = second.result()
    if answer.status == 503:
        m = wait_for(cache, "queue_timeouts_total", 1, queue="streamers")
    else:  # the slow one was cut off first
        m = wait_for(cache, "queue_timeouts_total", 0, queue="streamers")
    assert m("queue_wait_seconds_count", queue="streamers") == 1
    assert m("queue_wait_seconds_sum", queue="streamers") > 1
    wait_for(cache, "queue_length", 0, queue="streamers")


def test_retries_and_resumes_are_counted(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.once.extend([Answer(before_head="reset"), Answer(at=MIB, then="reset")])
    cache.fetch(blob)
    m = wait_for(cache, "resumes_total", 1)
    assert m("upstream_retries_total", **up(origin)) >= 1
    assert m("upstream_answers_total", answer="broken", **up(origin)) == 1
    wait_for(cache, "requests_total", 1, outcome="resumed")


def test_takeovers_and_deaths_are_counted(cache, origin):
    blob = origin.blob("team/app", noise(2 * MIB))
    blob.once.append(Answer(gate=Gate(MIB)))
    gate = blob.once[0].gate
    first = Download(cache, blob.target, connection=cache.connect_to(0))
    gate.wait_reached()
    second = Download(cache, blob.target, connection=cache.connect_to(1))
    wait_for(cache, "followers", 1)
    os.kill(cache.listeners()[0], signal.SIGKILL)
    assert second.result().body == blob.data
    gate.open()
    first.join()
    m = wait_for(cache, "takeovers_total", 1)
    assert m("child_deaths_total", role="listener", reason="signal") == 1
    assert m("child_deaths_total", role="gc") == 0


def test_a_child_that_stands_still_is_counted_as_silent(new_cache, origin):
    cache = new_cache(origin, **on(server={"heartbeatTimeout": "2s"}))
    victim = cache.listeners()[0]
    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: not alive(victim), "it is killed", 20)
    cache.wait_replaced(victim)
    m = wait_for(cache, "listeners_ready", 2)
    assert m("listeners_wanted") == 2
    assert m("child_deaths_total", role="listener", reason="silent") == 1
    assert m("child_deaths_total") == 1


def test_wrong_bytes_are_counted(cache, origin):
    blob = origin.blob("team/app", noise(10 * KIB))
    blob.answer = Answer(body=noise(10 * KIB, 1))
    assert cache.get(blob.target).status == 502
    wait_for(cache, "digest_failures_total", 1)


# --- the store ---------------------------------------------------------------------------------


def test_evictions_are_counted_by_their_reason(new_cache, origin):
    cache = new_cache(origin, **on(gc={"disk": {"maxSize": "4MB"}, "interval": "200ms"}))
    for n in range(6):
        cache.fetch(origin.blob("team/app", noise(MIB, n)))
    m = wait_until(lambda: (m := Metrics(cache))("evictions_total", reason="limit") > 0 and m,
                   "something is evicted")
    assert m("disk_limit_bytes") == 4_000_000 and m("disk_bytes") <= 4_000_000
    assert m("evicted_bytes_total", reason="limit") >= MIB * m("evictions_total", reason="limit")
    assert m("evicted_unused_seconds") >= 0
    assert m("evictions_total", reason="unused") == m("evictions_total", reason="age") == 0
    wait_until(lambda: Metrics(cache)("last_pass_timestamp_seconds"), "a pass has ended")


@pytest.mark.parametrize("option, reason", [("maxAge", "age"), ("maxUnused", "unused")])
def test_expiry_is_counted_by_its_reason(new_cache, origin, option, reason):
    cache = new_cache(origin, **on(gc={"interval": "200ms", "layers": {option: "1s"}}))
    cache.fetch(origin.blob("team/app", noise(MIB)))
    m = wait_for(cache, "evictions_total", 1, reason=reason)
    assert m("evictions_total") == 1
    assert wait_until(lambda: Metrics(cache)("evicted_bytes_total", reason="expired"), "bytes too") >= MIB


def test_the_scrub_is_counted(new_cache, origin):
    cache = new_cache(origin, **on())
    good, bad = (origin.blob("team/app", noise(100 * KIB, n)) for n in range(2))
    cache.fetch(good)
    cache.fetch(bad)
    cache.stop()
    flip(cache.object_path(bad.digest), 1000)
    cache.config["gc"] = {"layers": {"checkSHA": True, "checkInterval": "1s"}}
    cache.start()
    m = wait_for(cache, "corrupt_total", 1)
    wait_until(lambda: Metrics(cache)("scrubbed_total") >= 1, "the good one is right")
    assert m("scrubbed_bytes_total") >= 100 * KIB


# --- connections -------------------------------------------------------------------------------


def test_connections_are_counted(new_cache, origin):
    cache = new_cache(origin, **on(server={"maxConnections": 3, "listeners": 1}))
    kept = [cache.connect() for _ in range(3)]
    for c in kept:
        assert c.request("GET", "/v2/").status == 200
    refused = cache.connect()
    assert refused.closed_by_peer()
    m = wait_for(cache, "connections_refused_total", 1)
    assert (m("connections"), m("connections_accepted_total")) == (3, 3)
    for c in (*kept, refused):
        c.close()
    wait_for(cache, "connections", 0)


def test_tls_handshakes_are_counted(new_cache, origin, pki):
    cache = new_cache(origin, **on(server={"tls": {"certPath": pki.cert, "keyPath": pki.key}}))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = pki.client_context()
        context.minimum_version = context.maximum_version = version
        with Connection(cache.address, tls=context) as c:
            assert c.request("GET", "/v2/").status == 200
            session = c.socket.session
        again = context.wrap_socket(Connection(cache.address).socket, server_hostname="127.0.0.1",
                                    session=session)
        again.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while again.recv(65536):
            pass
        assert again.session_reused
        again.close()
    with Connection(cache.address) as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHost: cache\r\n\r\n")
        assert c.closed_by_peer()
    m = wait_for(cache, "tls_failures_total", 1)
    assert m("tls_handshakes_total", version="1.2") == m("tls_handshakes_total", version="1.3") == 2
    assert m("tls_resumptions_total") == 2


# --- the build ---------------------------------------------------------------------------------


def test_version_start_and_uptime_are_told(cache):
    m = Metrics(cache)
    version = re.search(r"AC_INIT\(\[registry-cache\], \[([^]]+)\]", open(
        os.path.join(os.path.dirname(__file__), "../../configure.ac"), encoding="utf-8").read())[1]
    assert m("build_info", version=version) == 1
    assert m("start_time_seconds") > 1_700_000_000
    wait_until(lambda: Metrics(cache)("uptime_seconds") >= 1, "time passes")
