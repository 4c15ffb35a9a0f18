"""/metrics, /healthz and /readyz: formats, who may ask how, and what outlives whom."""
import os
import shutil
import signal
import socket
import subprocess

import pytest
from client import SLOW, Connection
from harness import Download, alive, noise, open_files, wait_until
from scrape import OPEN, PREFIX, Metrics, address, ask, families, on, wait_for
from script import Answer, Gate
from test_degraded import fill_up
from test_reload import change, hup, upgrade


@pytest.fixture
def cache(new_cache, origin):
    return new_cache(origin, **on())


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A cache that nobody asks anything but this."""
    from harness import Cache
    made = Cache(tmp_path_factory.mktemp("quiet"), **on(server={"defaultBackend": {
        "host": "127.0.0.1:1", "scheme": "http"}}))
    try:
        yield made.start()
    finally:
        made.end()


# --- formats -----------------------------------------------------------------------------------


def use_everything(cache, origin):
    """Some of each kind of answer, and a name with what has to be escaped in it."""
    manifest, blobs = origin.image("team/app", "v1", [noise(100_000)])
    for _ in range(2):
        cache.get(manifest.tag_target)
        for blob in blobs:
            cache.fetch(blob)
    cache.get("/v2/")
    cache.get("/v2/team/app/blobs/sha256:" + "0" * 64)
    cache.get("/no/such/place")
    cache.get("/v2/", host='a"b\\c.test')


def values(families_):
    """Samples that do not change by themselves."""
    return {(s.name, *sorted(s.labels.items())): s.value for f in families_ for s in f.samples
            if "uptime" not in s.name and "scrape" not in s.name}


def test_both_formats_say_the_same(cache, origin):
    use_everything(cache, origin)
    wait_for(cache, "requests_total", 10)
    plain, opened = families(cache), families(cache, OPEN)
    assert values(plain) == values(opened)
    assert {f.name: f.documentation for f in plain if f.type not in ("counter", "gauge")} \
        .items() <= {f.name: f.documentation for f in opened}.items()
    units = {f.name: f.unit for f in opened}
    assert units[PREFIX + "first_byte_seconds"] == "seconds"
    assert units[PREFIX + "sent_bytes"] == "bytes"
    assert {f.type for f in opened} == {"counter", "gauge", "histogram", "info"}
    assert all(f.documentation.endswith(".") for f in opened)


@pytest.mark.parametrize("accept, opened", [
    (None, False), ("*/*", False), ("text/plain", False), (OPEN, True), ("text/html", False),
    ("application/openmetrics-text", True),
    ("application/openmetrics-text;version=0.0.1", False),
    # Prometheus 2.42
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
     "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
    ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;q=0.5", False),
    ("application/openmetrics-text;version=1.0.0;q=0", False),
])
def test_the_format_is_what_the_client_prefers(quiet, accept, opened):
    answer = ask(quiet, "/metrics", [("Accept", accept)] if accept else [])
    assert answer.header("Content-Type") == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8" if opened
        else "text/plain; version=0.0.4; charset=utf-8")
    assert answer.body.endswith(b"\n# EOF\n") == opened


def test_promtool_finds_nothing_to_complain_of(cache, origin):
    if not shutil.which("promtool"):
        pytest.skip("there is no promtool (install prometheus)")
    use_everything(cache, origin)
    wait_for(cache, "requests_total", 10)
    done = subprocess.run(["promtool", "check", "metrics"], input=ask(cache, "/metrics").body,
                          capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# --- who asks ----------------------------------------------------------------------------------


def test_only_get_and_head_of_three_paths(quiet):
    for target in ("/metrics", "/healthz", "/readyz", "/metrics?a=b"):
        got, head = ask(quiet, target), ask(quiet, target, method="HEAD")
        assert (got.status, head.status) == (200, 200)
        assert got.body and not head.body and got.complete
        assert ask(quiet, target, method="POST", body=b"x").status == 405
        assert ask(quiet, target, method="DELETE").header("Allow") == "GET, HEAD"
    for target in ("/", "/metric", "/metricsx", "/metrics/", "/v2/", "/healthz/x"):
        assert ask(quiet, target).status == 404


@pytest.mark.parametrize("request_bytes", [
    b"nonsense\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
], ids=["nonsense", "no host", "version", "large"])
def test_what_is_no_request_is_answered_400_and_cut(quiet, request_bytes):
    with socket.create_connection(address(quiet), timeout=10 * SLOW) as s:
        s.sendall(request_bytes)
        got = b""
        while (piece := s.recv(65536)):
            got += piece
    assert got.startswith(b"HTTP/1.1 400 ") and b"Connection: close" in got


def test_a_connection_may_ask_often_and_ahead(quiet):
    with Connection(address(quiet)) as c:
        for _ in range(20):
            assert c.request("GET", "/healthz").body == b"alive\n"
    with socket.create_connection(address(quiet), timeout=10 * SLOW) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 50
                  + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = b""
        while (piece := s.recv(1 << 20)):
            got += piece
    assert got.count(b"HTTP/1.1 200 OK") == 51 and got.endswith(b"alive\n")


def test_a_thousand_silent_clients_keep_nobody_out(quiet):
    """Some of them say nothing, some half a head, some read nothing of what they asked for."""
    silent = []
    for n in range(1000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)    # few answers fill it, and the way to it
        s.connect(address(quiet))
        if n % 3 == 1:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        elif n % 3 == 2:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        silent.append(s)
        if n % 100 == 99:
            assert ask(quiet, "/readyz").status in (200, 503), "a busy machine is no reason not to answer"
    assert len([name for name in open_files(quiet.gc()) if name.startswith("socket:")]) <= 32 + 4
    for s in silent:
        s.close()


# --- health ------------------------------------------------------------------------------------


def test_a_cache_that_drains_lives_and_is_not_ready(cache, origin):
    blob = origin.blob("team/app", noise(300_000))
    blob.answer = Answer(gate=Gate(200_000))
    download = Download(cache, blob.target)
    blob.answer.gate.wait_reached()
    assert ask(cache, "/readyz").body == b"ready\n"
    cache.terminate()
    answer = wait_until(lambda: (a := ask(cache, "/readyz")).body == b"0 of 2 listeners are ready\n" and a,
                        "it is not ready any more")
    assert answer.status == 503
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert ask(cache, "/healthz").body == b"alive\n"
    blob.answer.gate.open()
    assert download.result().body == blob.data
    assert cache.wait() == 0


def test_a_full_disk_is_no_ready_one(new_cache, origin, small_disk):
    disk = small_disk("16m")
    cache = new_cache(origin, dataPath=str(disk), **on())
    assert ask(cache, "/readyz").body == b"ready\n"
    fill_up(disk)
    wait_until(lambda: ask(cache, "/readyz").status == 503, "the full disk is seen")
    assert ask(cache, "/readyz").body == b"the store cannot be written: No space left on device\n"
    assert ask(cache, "/healthz").status == 200
    (disk / "ballast").unlink()
    wait_until(lambda: ask(cache, "/readyz").status == 200, "the room is seen")


def test_without_an_index_it_is_not_ready(new_cache, origin, small_disk):
    disk = small_disk("16m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    cache = new_cache(origin, dataPath=str(disk), **on())
    answer = ask(cache, "/readyz")
    assert answer.status == 503
    assert b"the index is not open\n" in answer.body
    assert b"the store cannot be written: Read-only file system\n" in answer.body
    assert Metrics(cache)("index_records") is None, "what is not known is not said"


def test_a_listener_that_is_gone_is_seen_and_so_is_its_successor(cache):
    """One that is stopped is killed after server.heartbeatTimeout; until then the kernel says that it
    is there, and so does it."""
    victim = cache.listeners()[1]
    seen = set()
    os.kill(victim, signal.SIGKILL)

    def replaced():
        seen.add(ask(cache, "/readyz").body)
        return not alive(victim) and victim not in cache.children()

    wait_until(replaced, "it is replaced")
    wait_until(lambda: ask(cache, "/readyz").body == b"ready\n", "the successor is ready")
    assert seen <= {b"ready\n", b"1 of 2 listeners are ready\n"}
    wait_for(cache, "child_deaths_total", 1, role="listener", reason="signal")


# --- what outlives whom ------------------------------------------------------------------------


def counters(m):
    kept = {f.name for f in m.families if f.type in ("counter", "histogram")}
    return {(s.name, *sorted(s.labels.items())): s.value for f in m.families for s in f.samples
            if f.name in kept}


def test_counters_survive_children_reloads_and_upgrades(cache, origin):
    use_everything(cache, origin)
    m = wait_for(cache, "requests_total", 10)
    before, started = counters(m), m("start_time_seconds")

    def nothing_is_lost():
        m = wait_until(lambda: Metrics(cache), "metrics are there")
        after = counters(m)
        assert {k: (v, after.get(k)) for k, v in before.items() if after.get(k, -1) < v} == {}
        assert m("requests_total") == 10 and m("start_time_seconds") == started

    for victim in (*cache.listeners().values(), cache.gc()):
        os.kill(victim, signal.SIGKILL)
        cache.wait_replaced(victim)
        nothing_is_lost()
    for n in (1, 2):
        hup(cache)
        nothing_is_lost()
        assert Metrics(cache)("reloads_total", result="done") == n
    upgrade(cache)
    nothing_is_lost()
    m = Metrics(cache)
    assert m("child_deaths_total", role="listener", reason="signal") == 2
    assert m("child_deaths_total", role="gc", reason="signal") == 1
    assert m("child_deaths_total") == 3, "nobody dies of a reload"
    assert m("connections_accepted_total") == 10


def test_no_scrape_fails_while_gc_and_configuration_are_replaced(cache):
    """The socket is the master's: whoever comes between two gcs waits for the second."""
    for n in range(3):
        cache.process.send_signal(signal.SIGHUP)
        for _ in range(40):
            assert ask(cache, "/metrics").status == 200
        wait_for(cache, "reloads_total", n + 1, result="done")
    for _ in range(2):
        gc = cache.gc()
        os.kill(gc, signal.SIGKILL)
        wait_until(lambda: not alive(gc), "it is dead")
        assert ask(cache, "/readyz").status in (200, 503)
        cache.wait_replaced(gc)


def test_the_address_can_be_changed_and_taken_away(cache):
    old = address(cache)
    cache.config["metrics"]["address"] = "127.0.0.2:0"
    change(cache)
    hup(cache)
    assert address(cache) != old
    assert ask(cache, "/healthz").status == 200
    wait_until(lambda: socket.socket().connect_ex(old) != 0, "the old socket is closed")
    del cache.config["metrics"]
    new = address(cache)
    change(cache)
    hup(cache)
    wait_until(lambda: socket.socket().connect_ex(new) != 0, "the new socket is closed")


def test_an_address_that_is_in_use_keeps_the_old_configuration(cache):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cache.config["metrics"]["address"] = f"127.0.0.1:{taken.getsockname()[1]}"
        change(cache, listeners=2)
        hup(cache, "the configuration is not changed")
    wait_for(cache, "reloads_total", 1, result="failed")


def test_without_an_address_nothing_is_served(new_cache, origin):
    cache = new_cache(origin)
    assert "metrics are served" not in cache.log()
    assert not [name for name in open_files(cache.gc()) if name.startswith("socket:")]
