"""What one client may take from the others: requests, bytes, places, connections, and patience."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import pytest
from client import KIB, MIB, PATIENCE, SLOW, Closed, Connection
from harness import HERE, alive, is_sanitized, noise, rss, wait_until
from script import Answer, Gate
from test_fill import states
from test_proxy_protocol import v2

GREEDY, MODEST, BALANCER = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def ask(cache, source, target="/v2/", method="GET"):
    with Connection(cache.address, source=source) as c:
        return c.request(method, target)


def cpu(pid):
    """Seconds of CPU that the process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


# --- the rate of requests ----------------------------------------------------------------------


def test_a_client_that_asks_too_often_is_told_when_to_come_back(new_cache, origin):
    cache = new_cache(origin, server={"requestRate": 1, "requestBurst": 5})
    answers = [ask(cache, GREEDY) for _ in range(8)]
    statuses = [a.status for a in answers]
    assert statuses[:5] == [200] * 5 and statuses[-1] == 429, statuses
    late = answers[-1]
    assert late.error_code() == "TOOMANYREQUESTS" and 1 <= int(late.header("Retry-After")) <= 6
    assert late.header("Content-Type") == "application/json"
    assert [ask(cache, MODEST).status for _ in range(5)] == [200] * 5
    seen = len(origin.entries())
    head = ask(cache, GREEDY, method="HEAD")
    if head.status == 429:
        assert head.body == b"" and len(origin.entries()) == seen
    wait_until(lambda: ask(cache, GREEDY).status == 200, "it may ask again")
    cache.wait_access(client=GREEDY, status=429, code="TOOMANYREQUESTS")


def test_all_listeners_count_together_and_a_kept_connection_counts_too(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 4, "requestRate": 1, "requestBurst": 20})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(cache.connect_to(k)) for k in range(4)]
        began = time.monotonic()
        statuses = [c.request("GET", "/v2/").status for _ in range(15) for c in clients]
        took = time.monotonic() - began
    assert 20 <= statuses.count(200) <= 20 + took + 1, statuses
    assert statuses[:20] == [200] * 20


def test_the_64_of_an_ipv6_address_is_one_client(new_cache, origin):
    cache = new_cache(origin, server={"requestRate": 1, "requestBurst": 3,
                                      "proxyProtocol": [BALANCER]})

    def status(address):
        with Connection(cache.address, source=BALANCER, before=v2(address)) as c:
            return c.request("GET", "/v2/").status
    assert [status(f"2001:db8:1:2:{n}::1") for n in range(3)] == [200] * 3
    assert status("2001:db8:1:2:ffff::9") == 429
    assert status("2001:db8:1:3::1") == 200
    assert status("192.0.2.1") == 200


def test_the_rate_survives_a_reload(new_cache, origin):
    from test_reload import hup
    cache = new_cache(origin, server={"requestRate": 1, "requestBurst": 30})
    assert [ask(cache, GREEDY).status for _ in range(30)] == [200] * 30
    hup(cache)
    assert 429 in [ask(cache, GREEDY).status for _ in range(30)]


# --- bandwidth ---------------------------------------------------------------------------------


def pull(cache, source, thing, times=1, tls=None):
    """How long it took, and that the bytes were right."""
    began = time.monotonic()
    with Connection(cache.address, source=source, tls=tls) as c:
        for _ in range(times):
            answer = c.request("GET", thing.target)
            assert answer.complete and answer.body == thing.data, answer.problem
    return time.monotonic() - began


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])
def test_a_client_has_its_bandwidth_and_not_more(new_cache, origin, pki, with_tls):
    """Over all its connections and both listeners; others are not slowed, and nobody spins."""
    server = {"clientBandwidth": "4MiB/s"}
    if with_tls:
        server["tls"] = {"certPath": pki.cert, "keyPath": pki.key}
    cache, tls = new_cache(origin, server=server), pki.client_context() if with_tls else None
    blob = origin.blob("team/app", noise(2 * MIB))
    pull(cache, MODEST, blob, tls=tls)
    before, began = {p: cpu(p) for p in cache.listeners().values()}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pulls = [pool.submit(pull, cache, GREEDY, blob, tls=tls) for _ in range(6)]
        other = pool.submit(pull, cache, MODEST, blob, tls=tls)
        assert other.result() < 1.5 * SLOW
        times = [p.result() for p in pulls]
    took = time.monotonic() - began
    assert max(times) > 12 / 4 * 0.8          # 12 MiB at 4 MiB/s, but for the burst
    assert took < 12 / 4 * 1.5 + 2 * SLOW
    used = sum(cpu(p) - before[p] for p in before)
    assert used < 0.5 * SLOW, f"{used} s of CPU for 14 MiB"


def test_waiting_for_bandwidth_is_no_reason_to_be_closed(new_cache, origin):
    """Twenty connections of a client get what is left of it, each slower than server.timeout allows."""
    cache = new_cache(origin, server={"clientBandwidth": "512KiB/s", "timeout": "500ms"})
    blob = origin.blob("team/app", noise(100 * KIB))
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(lambda _: pull(cache, GREEDY, blob), range(20)))) == 20


def test_a_reader_that_is_slow_itself_is_still_closed(new_cache, origin):
    cache = new_cache(origin, server={"clientBandwidth": "100MiB/s", "timeout": "500ms"})
    blob = origin.blob("team/app", noise(32 * MIB))
    cache.fetch(blob)
    with Connection(cache.address, source=GREEDY, receive_buffer=8192) as c:
        c.ask("GET", blob.target)
        cache.wait_access(client=GREEDY, status=200)
        answer = c.receive()
    assert not answer.complete


# --- fair order --------------------------------------------------------------------------------


@pytest.mark.parametrize("listeners", [1, 2])
def test_who_asks_for_many_objects_waits_for_himself(new_cache, origin, listeners):
    """workers: 1. Another client's one fetch goes before nearly all of the hundred."""
    cache = new_cache(origin, server={"listeners": listeners, "workers": 1}, log={"level": "trace"})
    gate = Gate()
    first = origin.blob("team/app", noise(1000))
    first.answer = Answer(gate=gate)
    many = [origin.blob("team/app", noise(1000, seed)) for seed in range(1, 101)]
    one = origin.blob("team/app", noise(1000, 1000))
    with contextlib.ExitStack() as stack:
        def send(thing, source):
            c = stack.enter_context(Connection(cache.address, source=source))
            c.ask("GET", thing.target)
            sent.append(c)
            wait_until(lambda: list(states(cache).values()) == ["fill"] * len(sent),
                       "it was checked and waits for its turn")
            return c
        sent = []
        held = [send(first, GREEDY)]
        gate.wait_reached()
        held += [send(thing, GREEDY) for thing in many]
        modest = send(one, MODEST)
        gate.open()
        assert modest.receive().body == one.data
        for c in held:
            assert c.receive().status == 200
    order = [e.target for e in origin.entries(method="GET") if "/blobs/" in e.target]
    assert order.index(one.target) <= 1 + 2 * listeners, order.index(one.target)
    assert len(order) == len(set(order)) == 102


def test_who_wants_many_bodies_waits_for_himself(new_cache, origin):
    """streamers: 1, likewise."""
    cache = new_cache(origin, server={"listeners": 1, "streamers": 1})
    big, small = origin.blob("team/app", noise(8 * MIB)), origin.blob("team/app", noise(1000))
    cache.fetch(big)
    cache.fetch(small)
    with contextlib.ExitStack() as stack:
        lazy = stack.enter_context(Connection(cache.address, source=GREEDY, receive_buffer=8192))
        lazy.ask("GET", big.target)
        head = lazy.receive_head()
        checks = len(origin.heads(small))

        def send(source):
            c = stack.enter_context(Connection(cache.address, source=source))
            c.ask("GET", small.target, [("Authorization", f"Bearer {len(clients)}")])
            clients.append(c)
        clients = []
        for _ in range(60):
            send(GREEDY)
        wait_until(lambda: len(origin.heads(small)) == checks + 60, "the greedy were checked")
        send(MODEST)
        wait_until(lambda: len(origin.heads(small)) == checks + 61, "the modest was checked")
        lazy.receive_body(head)
        for c in clients:
            assert c.receive().body == small.data

        def order():
            return [a["client"] for a in cache.access() if a["client"] in (GREEDY, MODEST)]
        wait_until(lambda: len(order()) == 62, "all are logged")
    assert order().index(MODEST) <= 3, order().index(MODEST)


# --- connections -------------------------------------------------------------------------------


def slow_clients(stack, cache, n, source=GREEDY):
    clients = []
    for _ in range(n):
        clients.append(stack.enter_context(Connection(cache.address, source=source)))
        clients[-1].send(b"GET /v2/ HTTP/1.1\r\nHost: c\r\nX-Slow: ")
    return clients


def is_served(cache):
    with contextlib.suppress(Closed, ConnectionError):
        return ask(cache, MODEST).status == 200


def test_half_open_requests_do_not_fill_max_connections(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1, "maxConnections": 50})
    with contextlib.ExitStack() as stack:
        slow = slow_clients(stack, cache, 50)
        busy = stack.enter_context(Connection(cache.address, source=MODEST))
        wait_until(lambda: is_served(cache), "an honest client is served", 5)
        for _ in range(20):
            assert is_served(cache)
        assert slow[0].closed_by_peer()           # who waited longest went
        del busy


def test_half_open_requests_do_not_use_up_the_open_files(new_cache, origin):
    """With as few files as 256 for each listener, and many more such clients."""
    cache = new_cache(origin, start=False)
    inner = cache.command
    cache.command = lambda: ["prlimit", "--nofile=256:256", *inner()]
    cache.start()
    blob = origin.blob("team/app", noise(100_000))
    with contextlib.ExitStack() as stack:
        slow_clients(stack, cache, 700)
        for _ in range(20):
            wait_until(lambda: is_served(cache), "an honest client is served", 10)
        cache.fetch(blob)
        assert all(alive(p) for p in cache.children())
    assert "Too many open files" not in cache.log()


def test_a_head_that_comes_byte_by_byte_costs_no_more_than_its_bytes(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1})
    pid = cache.listeners()[0]
    head = b"GET /v2/ HTTP/1.1\r\nHost: c\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(8000))
    with Connection(cache.address) as c:
        before = cpu(pid)
        for i in range(len(head)):
            c.send(head[i:i + 1])
        c.send(b"\r\n")
        assert c.receive().status in (200, 400)
        used = cpu(pid) - before
    assert used < 2 * SLOW, f"{used} s of CPU for {len(head)} bytes"


class Crowd:
    """crowd.py: very many clients."""

    def __init__(self, cache, kind, count):
        order = {"address": cache.address, "kind": kind, "count": count}
        self.process = subprocess.Popen([sys.executable, str(HERE / "crowd.py"), json.dumps(order)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_held(self):
        assert self.process.stdout.readline() == "held\n"

    def end(self):
        out, _ = self.process.communicate(timeout=PATIENCE)
        return json.loads(out)


def test_20_000_idle_and_slow_clients_leave_room_for_an_honest_one(new_cache, origin):
    """10 000 that have had an answer and 10 000 with half a request: 8 KiB each at most."""
    if is_sanitized():
        pytest.skip("a sanitizer's memory is not the daemon's")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 14_000:
        pytest.skip(f"processes may have {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cache = new_cache(origin, server={"listeners": 2, "timeout": "10m", "keepAliveTimeout": "10m"},
                      log={"access": False, "level": "warn"}, start=False)
    cache.config["log"]["level"] = "info"
    cache.start()
    blob = origin.blob("team/app", noise(3 * MIB))
    cache.fetch(blob)
    before = sum(rss(p) for p in cache.listeners().values())
    crowds = [Crowd(cache, kind, 10_000) for kind in ("idle", "slow")]
    try:
        for crowd in crowds:
            crowd.wait_held()
        began = time.monotonic()
        for _ in range(20):
            with Connection(cache.address) as c:
                assert c.request("GET", blob.target).body == blob.data
        took = time.monotonic() - began
        each = (sum(rss(p) for p in cache.listeners().values()) - before) / 20_000
    finally:
        still = [crowd.end() for crowd in crowds]
    assert still == [10_000, 10_000]
    assert took < 10 * SLOW, f"20 pulls took {took} s"
    assert each < 8 * KIB, f"{each} bytes a connection"
