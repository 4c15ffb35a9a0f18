"""Clients behind a load balancer that speaks the PROXY protocol: who they are is what it says, and only
those that are configured may say so."""
import contextlib
import socket
import struct
import time

import pytest
from client import SLOW, Connection
from harness import noise, wait_until

BALANCER, OTHER = "127.0.0.2", "127.0.0.3"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def v1(client="192.0.2.1"):
    family, us = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {client} {us} 40000 7000\r\n".encode()


def v2(client="192.0.2.1", more=b"", command=1):
    family, us = (socket.AF_INET6, "::1") if ":" in client else (socket.AF_INET, "127.0.0.1")
    body = socket.inet_pton(family, client) + socket.inet_pton(family, us) + \
        struct.pack(">HH", 40000, 7000) + more
    return SIGNATURE + bytes([0x20 | command, 0x21 if ":" in client else 0x11]) + \
        struct.pack(">H", len(body)) + body


HEADS = pytest.mark.parametrize("head", [v1, v2], ids=["v1", "v2"])


@pytest.fixture
def cache(new_cache, origin):
    return new_cache(origin, server={"proxyProtocol": [BALANCER, "fd00::/8"]})


def clients(cache, n):
    """The clients of the first `n` access lines."""
    wait_until(lambda: len(cache.access()) >= n, f"{n} requests are logged")
    return [a["client"] for a in cache.access()]


@HEADS
@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1"])
def test_the_client_is_who_the_head_says(cache, origin, head, client):
    blob = origin.blob("team/app", noise(100_000))
    with Connection(cache.address, source=BALANCER, before=head(client)) as c:
        for _ in range(2):
            assert c.request("GET", blob.target).body == blob.data
    assert clients(cache, 2) == [client, client]
    assert not any(client in str(r.headers) for r in origin.entries())


@HEADS
def test_a_head_may_come_in_pieces_and_with_what_follows(cache, origin, head):
    """Nothing behind it is lost, however the packets are cut."""
    blob, data = origin.blob("team/app", noise(1000)), head("192.0.2.9")
    request = f"GET {blob.target} HTTP/1.1\r\nHost: c\r\n\r\n".encode()
    with Connection(cache.address, source=BALANCER) as c:
        c.send(data + request)
        assert c.receive().body == blob.data
    with Connection(cache.address, source=BALANCER) as c:
        for i in range(len(data)):
            c.send(data[i:i + 1])
            wait_until(lambda: unread(cache, c) == 0, "the byte was taken")
        c.send(request)
        assert c.receive().body == blob.data
    assert clients(cache, 2) == ["192.0.2.9"] * 2


def unread(cache, c):
    """Bytes that the cache has not read yet of this connection."""
    answer = ask_socket_of(cache.port, c.socket.getsockname())
    return struct.unpack_from("=I", answer, 72)[0] if answer else 1


def ask_socket_of(port, client):
    """harness.ask_socket() for a client on another address than 127.0.0.1."""
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff) \
        + struct.pack("!HH", port, client[1]) \
        + struct.pack("=16s16sIII", socket.inet_aton("127.0.0.1"), socket.inet_aton(client[0]), 0,
                      0xffffffff, 0xffffffff)
    header = struct.pack("=IHHII", 16 + len(request), 20, 1, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(header + request)
        answer = kernel.recv(4096)
    return answer if struct.unpack_from("=H", answer, 4)[0] == 20 else None


def test_tls_begins_after_the_head(new_cache, origin, pki):
    blob = origin.blob("team/app", noise(300_000))
    cache = new_cache(origin, server={"proxyProtocol": [BALANCER],
                                      "tls": {"certPath": pki.cert, "keyPath": pki.key}})
    for head in v1, v2:
        with Connection(cache.address, source=BALANCER, before=head("192.0.2.7"),
                        tls=pki.client_context()) as c:
            assert c.request("GET", blob.target).body == blob.data
    assert clients(cache, 2) == ["192.0.2.7"] * 2


@pytest.mark.parametrize("more, scheme", [
    (b"", "http"), (b"\x20\x00\x05\x01\x00\x00\x00\x00", "https"),
    (b"\x20\x00\x0f\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3", "https"),
    (b"\x20\x00\x05\x00\x00\x00\x00\x00", "http"), (b"\x04\x00\x01\x01", "http")],
    ids=["nothing", "TLS", "and its version", "not TLS", "something else"])
def test_a_balancer_that_ends_tls_says_so(new_cache, origin, more, scheme):
    """The realm that clients are told is https then."""
    cache = new_cache(server={"proxyProtocol": [BALANCER], "registries": {
        "one.test": {"hosts": [origin.host], "scheme": "http"}}})
    with Connection(cache.address, source=BALANCER, before=v2(more=more)) as c:
        answer = c.request("GET", "/v2/", host="cache.test")
    assert answer.status == 401
    assert answer.header("WWW-Authenticate").startswith(f'Bearer realm="{scheme}://cache.test/token"')


def test_a_balancer_s_own_checks_are_its_own(cache, origin):
    """LOCAL and UNKNOWN: the connection is the balancer's, and whatever it says beside is ignored."""
    for head in (SIGNATURE + b"\x20\x00\x00\x00", v2(command=0), b"PROXY UNKNOWN\r\n",
                 b"PROXY UNKNOWN what ever\r\n", SIGNATURE + b"\x21\x00\x00\x03abc",
                 SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + b"/s".ljust(216, b"\0")):
        with Connection(cache.address, source=BALANCER, before=head) as c:
            assert c.request("GET", "/v2/").status == 200
    assert clients(cache, 6) == [BALANCER] * 6


@HEADS
def test_from_elsewhere_a_head_is_a_bad_request(cache, origin, head):
    with Connection(cache.address, source=OTHER, before=head()) as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHost: c\r\n\r\n")
        assert c.receive().status == 400
        assert c.closed_by_peer()
    assert clients(cache, 1) == [OTHER]
    assert origin.entries() == []
    with Connection(cache.address, source=OTHER) as c:
        assert c.request("GET", "/v2/").status == 200


@HEADS
def test_without_the_option_nobody_may_say_who_he_is(new_cache, origin, head):
    cache = new_cache(origin)
    with Connection(cache.address, source=BALANCER, before=head()) as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHost: c\r\n\r\n")
        assert c.receive().status == 400
    assert clients(cache, 1) == [BALANCER]


BAD = {
    "none": b"GET /v2/ HTTP/1.1\r\nHost: c\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "v1 with an octal address": b"PROXY TCP4 192.0.2.01 127.0.0.1 1 2\r\n",
    "v1 with two spaces": b"PROXY TCP4  192.0.2.1 127.0.0.1 1 2\r\n",
    "v1 with LF only": b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\nGET",
    "v1 too long": b"PROXY UNKNOWN " + b"x" * 100,
    "v1 of another family": b"PROXY TCP6 192.0.2.1 127.0.0.1 1 2\r\n",
    "v2 of version 3": SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    "v2 with another command": SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
    "v2 too long": SIGNATURE + b"\x21\x11\xff\xff",
    "v2 with a cut vector": v2(more=b"\x04\x00\x05abc"),
    "v2 with a wrong checksum": v2(more=b"\x03\x00\x04abcd"),
    "v2 shorter than its addresses": SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
    "two heads": v1() + v1(),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_head_is_refused_at_once(cache, origin, what):
    with Connection(cache.address, source=BALANCER, before=BAD[what]) as c:
        if what == "two heads":
            c.send(b"\r\n")
            assert c.receive().status == 400
        else:
            assert c.closed_by_peer()
            cache.wait_log(r"connections refused, the last from 127.0.0.2: ")
    assert origin.entries() == []
    with Connection(cache.address, source=BALANCER, before=v2()) as c:
        assert c.request("GET", "/v2/").status == 200


def test_a_head_that_does_not_come_is_waited_for_5_s_and_bothers_nobody(cache, origin):
    began = time.monotonic()
    silent = [Connection(cache.address, source=BALANCER, before=b) for b in
              [b"", b"P", v1()[:-1], v2()[:15], v2()[:20]] * 20]
    with Connection(cache.address, source=BALANCER, before=v2()) as c:
        assert c.request("GET", "/v2/").status == 200
    assert time.monotonic() - began < 4 * SLOW
    for s in silent:
        assert s.closed_by_peer(10)
    assert 4.5 < time.monotonic() - began < 9 * SLOW
    with contextlib.ExitStack() as gone:      # those that leave meanwhile are forgotten, too
        for _ in range(20):
            gone.enter_context(Connection(cache.address, source=BALANCER, before=b"PROXY"))
    assert cache.request("GET", "/v2/").status == 200


def test_limits_count_the_client_that_is_told(new_cache, origin):
    cache = new_cache(origin, server={"proxyProtocol": [BALANCER], "maxConnectionsPerAddress": 2})
    held = [Connection(cache.address, source=BALANCER, before=v2(f"192.0.2.{i // 2}"))
            for i in range(10)]
    for c in held:
        assert c.request("GET", "/v2/").status == 200
    with Connection(cache.address, source=BALANCER, before=v2("192.0.2.1")) as c:
        assert c.closed_by_peer()
    held[2].close()

    def has_room():
        with contextlib.suppress(Exception), \
                Connection(cache.address, source=BALANCER, before=v2("192.0.2.1")) as c:
            return c.request("GET", "/v2/").status == 200
    wait_until(has_room, "the place of one that is gone is free")


def test_a_unix_socket_may_be_a_balancer_s(new_cache, origin, short_folder):
    path = f"{short_folder}/socket"
    cache = new_cache(origin, start=False, server={"proxyProtocol": ["unix"]})
    cache.more_addresses = [f"unix:{path}"]
    cache.start()
    with Connection(path, before=v2("2001:db8::5")) as c:
        assert c.request("GET", "/v2/").status == 200
    with Connection(cache.address) as c:
        assert c.request("GET", "/v2/").status == 200
    assert sorted(clients(cache, 2)) == ["127.0.0.1", "2001:db8::5"]


def test_a_stop_lets_those_who_are_just_greeting_in(new_cache, origin):
    """One listener, so that it has accepted the first when it has served the second."""
    cache = new_cache(origin, server={"proxyProtocol": [BALANCER], "listeners": 1})
    blob = origin.blob("team/app", noise(1000))
    with Connection(cache.address, source=BALANCER, before=v2()[:10]) as c:
        with Connection(cache.address, source=BALANCER, before=v2()) as other:
            assert other.request("GET", blob.target).body == blob.data
        cache.terminate()
        cache.wait_log("draining")
        c.send(v2()[10:] + f"GET {blob.target} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        answer = c.receive()
        assert answer.body == blob.data and answer.header("Connection") == "close"
    assert cache.wait() == 0
