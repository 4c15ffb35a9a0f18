"""HTTP/1.1 to clients: heads, bodies, ranges, conditions, connections and their limits."""
import pytest
from client import MIB, Closed
from harness import Download, noise, wait_until
from script import OCI_MANIFEST, Access, Answer, Gate, basic

DATA = noise(200_000, 7)


@pytest.fixture
def blob(origin):
    return origin.blob("team/app", DATA)


@pytest.fixture(params=["cold", "hot"])
def warm(request, cache, blob):
    """The blob, once unknown to the cache and once in its store."""
    if request.param == "hot":
        cache.fetch(blob)
    return blob


def test_ping_is_answered(cache):
    for target in ("/v2/", "/v2"):
        answer = cache.get(target)
        assert answer.status == 200 and answer.complete
        assert answer.header("Docker-Distribution-Api-Version") == "registry/2.0"


def test_a_blob_has_the_headers_that_clients_need(cache, warm):
    answer = cache.fetch(warm)
    assert answer.header("Content-Length") == str(len(DATA))
    assert answer.header("Docker-Content-Digest") == warm.digest
    assert answer.header("ETag") == f'"{warm.digest}"'
    assert answer.header("Accept-Ranges") == "bytes"
    assert answer.header("Content-Type") == "application/octet-stream"
    assert answer.header("Docker-Distribution-Api-Version") == "registry/2.0"
    assert answer.header("Content-Range") is None


def test_head_of_a_blob_has_the_same_headers_and_no_body(cache, warm, origin):
    with cache.connect() as c:
        answer = c.request("HEAD", warm.target)
        assert answer.status == 200
        assert answer.header("Content-Length") == str(len(DATA))
        assert answer.header("Docker-Content-Digest") == warm.digest
        assert c.request("GET", "/v2/").status == 200  # no stray body byte before this
    assert len(origin.heads(warm)) >= 1


def test_a_manifest_by_tag_and_by_digest(cache, origin):
    manifest = origin.manifest("team/app", "v1",
                               b'{"schemaVersion":2,"mediaType":"%s"}' % OCI_MANIFEST.encode())
    for method in ("HEAD", "GET", "HEAD"):
        for target in (manifest.tag_target, manifest.target):
            answer = cache.request(method, target, [("Accept", OCI_MANIFEST)])
            assert answer.status == 200, (method, target)
            assert answer.header("Content-Type") == OCI_MANIFEST
            assert answer.header("Content-Length") == str(manifest.size)
            assert answer.header("Docker-Content-Digest") == manifest.digest
            assert answer.body == (manifest.data if method == "GET" else b"")


def test_a_connection_is_kept_and_used_again(cache, blob):
    with cache.connect() as c:
        for _ in range(5):
            answer = c.request("GET", blob.target)
            assert answer.status == 200 and answer.body == DATA
            assert c.request("HEAD", blob.target).status == 200
            assert c.request("GET", "/v2/team/app/blobs/sha256:" + "0" * 64).status == 404


def test_pipelined_requests_are_answered_in_order(cache, origin, blob):
    small = origin.blob("team/app", b"small")
    with cache.connect() as c:
        c.send(c.head("GET", blob.target) + c.head("HEAD", small.target) + c.head("GET",
                                                                                  small.target)
               + c.head("GET", "/v2/") + c.head("GET", blob.target, [("Connection", "close")]))
        first, second, third = c.receive(), c.receive("HEAD"), c.receive()
        assert (first.body, second.header("Content-Length"), third.body) == (DATA, "5", b"small")
        assert c.receive().status == 200
        assert c.receive().body == DATA
        assert c.closed_by_peer()


def test_a_head_that_comes_byte_by_byte_is_understood(cache, blob):
    with cache.connect() as c:
        for byte in c.head("GET", blob.target):
            c.send(bytes([byte]))
        assert c.receive().body == DATA


# --- ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, first, last", [
    ("bytes=0-0", 0, 0), ("bytes=0-1", 0, 1), ("bytes=10-19", 10, 19),
    ("bytes=100000-", 100_000, len(DATA) - 1),
    ("bytes=-5", len(DATA) - 5, len(DATA) - 1), ("bytes=0-", 0, len(DATA) - 1),
    ("bytes=199999-500000", len(DATA) - 1, len(DATA) - 1), ("bytes=-999999", 0, len(DATA) - 1),
])
def test_a_range_is_answered_with_206_and_exactly_its_bytes(cache, warm, value, first, last):
    answer = cache.get(warm.target, [("Range", value)])
    assert answer.status == 206 and answer.complete
    assert answer.header("Content-Range") == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.header("Content-Length") == str(last - first + 1)
    assert answer.header("Content-Type") == "application/octet-stream"
    assert answer.body == DATA[first:last + 1]


@pytest.mark.parametrize("value", [f"bytes={len(DATA)}-", "bytes=500000-600000", "bytes=500-0"])
def test_a_range_beyond_the_end_is_416_with_the_size(cache, warm, value):
    answer = cache.get(warm.target, [("Range", value)])
    assert answer.status == 416 and answer.complete
    assert answer.header("Content-Range") == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("value", ["lines=1-2", "bytes=a-b", "bytes"])
def test_a_range_that_is_none_gets_the_whole_blob(cache, warm, value):
    answer = cache.get(warm.target, [("Range", value)])
    assert answer.status == 200 and answer.body == DATA


def test_several_ranges_never_become_a_single_one(cache, warm):
    answer = cache.get(warm.target, [("Range", "bytes=0-9,20-29")])
    if answer.status == 206:
        assert answer.header("Content-Type").startswith("multipart/byteranges")
    else:
        assert answer.status == 200
        assert answer.body == DATA


def test_an_empty_blob_has_no_ranges(cache, origin):
    empty = origin.blob("team/app", b"")
    for _ in ("cold", "hot"):
        answer = cache.get(empty.target, [("Range", "bytes=0-0")])
        assert (answer.status, answer.body, answer.header("Content-Length")) == (200, b"", "0")


def test_the_first_bytes_of_a_cold_blob_do_not_wait_for_the_rest(cache, origin):
    big = origin.blob("team/app", noise(4 * MIB))
    big.answer = Answer(gate=Gate(MIB))
    answer = cache.get(big.target, [("Range", "bytes=0-1")])
    assert (answer.status, answer.body) == (206, big.data[:2])
    assert answer.header("Content-Range") == f"bytes 0-1/{big.size}"
    big.answer.gate.open()
    cache.fetch(big)


def test_range_with_if_range_is_honoured_for_our_etag_only(cache, blob):
    cache.fetch(blob)
    ours = cache.get(blob.target, [("Range", "bytes=0-9"), ("If-Range", f'"{blob.digest}"')])
    other = cache.get(blob.target, [("Range", "bytes=0-9"), ("If-Range", '"other"')])
    assert (ours.status, ours.body) == (206, DATA[:10])
    assert (other.status, other.body) == (200, DATA)


# --- conditions --------------------------------------------------------------------------------


def test_if_none_match_is_304_after_the_check(cache, origin, blob):
    cache.fetch(blob)
    checks = len(origin.heads(blob))
    with cache.connect() as c:
        answer = c.request("GET", blob.target, [("If-None-Match", f'"{blob.digest}"')])
        assert (answer.status, answer.body) == (304, b"")
        assert c.request("GET", blob.target, [("If-None-Match", '"other"')]).body == DATA
    assert len(origin.heads(blob)) >= checks + 2


def test_if_none_match_is_no_way_around_the_check(new_origin, new_cache):
    alice = basic("alice", "secret")
    origin = new_origin(access=Access({alice: ["team/app"]}))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, [("Authorization", alice)])
    assert cache.get(blob.target, [("If-None-Match", f'"{blob.digest}"')]).status == 401


# --- clients that are slow, silent or broken ---------------------------------------------------


def test_a_client_that_does_not_read_slows_nobody(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 1})
    big = origin.blob("team/app", noise(16 * MIB))
    cache.fetch(big)
    with cache.connect(receive_buffer=8192) as lazy:
        lazy.ask("GET", big.target)
        answer = lazy.receive_head()
        for _ in range(3):
            cache.fetch(big)
        lazy.receive_body(answer)
        assert answer.body == big.data


def test_a_client_that_reads_nothing_ends_after_the_timeout(new_cache, origin):
    cache = new_cache(origin, server={"timeout": "1s"})
    big = origin.blob("team/app", noise(16 * MIB))
    cache.fetch(big)
    with cache.connect(receive_buffer=8192) as lazy:
        lazy.ask("GET", big.target)
        answer = lazy.receive_head()
        wait_until(lambda: len([a for a in cache.access() if a["reference"] == big.digest]) == 2,
                   "it is given up")
        lazy.receive_body(answer)
        assert not answer.complete


def test_a_head_that_never_ends_is_timed_out(new_cache, origin):
    cache = new_cache(origin, server={"timeout": "1s"})
    with cache.connect() as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHost: ")
        try:
            assert c.receive().status in (400, 408)
        except Closed:
            pass
        assert c.closed_by_peer()


def test_a_large_head_is_allowed_and_a_larger_one_is_400(new_cache, origin):
    cache = new_cache(origin, server={"maxHead": "64KiB"})
    blob = origin.blob("team/app", b"x")
    assert cache.get(blob.target, [("Cookie", "c" * 60_000)]).status == 200
    with cache.connect() as c:
        c.send(c.head("GET", blob.target, [("Cookie", "c" * 70_000)]))
        answer = c.receive()
        assert answer.status == 400
        assert c.closed_by_peer()


MALFORMED = {
    "no version": b"GET /v2/\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "space before colon": b"GET /v2/ HTTP/1.1\r\nHost : a\r\n\r\n",
    "folded line": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "bare lf": b"GET /v2/ HTTP/1.1\nHost: a\n\n",
    "nul in a value": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "two lengths":
        b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunked":
        b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
    "unknown coding": b"POST /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "negative length": b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "unknown version": b"GET /v2/ HTTP/1.9\r\nHost: a\r\n\r\n",
    "authority form": b"GET v2 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("head", MALFORMED.values(), ids=[k.replace(" ", "-") for k in MALFORMED])
def test_a_malformed_head_is_400_and_the_connection_closes(cache, origin, head):
    with cache.connect() as c:
        c.send(head)
        assert c.receive().status == 400
        assert c.closed_by_peer()
    assert origin.entries() == []


def test_a_client_that_leaves_in_the_middle_of_a_head_is_no_error(cache):
    with cache.connect() as c:
        c.send(b"GET /v2/ HT")
    assert cache.get("/v2/").status == 200


def test_http_1_0_is_answered_and_closed(cache, blob):
    for _ in ("cold", "hot"):
        with cache.connect() as c:
            c.send(f"GET {blob.target} HTTP/1.0\r\n\r\n".encode())
            answer = c.receive()
            assert answer.status == 200 and answer.body == DATA
            assert answer.header("Content-Length") == str(len(DATA))
            assert c.closed_by_peer()


def test_connection_close_is_obeyed(cache, blob):
    with cache.connect() as c:
        answer = c.request("GET", blob.target, [("Connection", "close")])
        assert answer.body == DATA and answer.header("Connection") == "close"
        assert c.closed_by_peer()


def turned_away(cache):
    """Is a new connection refused, closed or told 503?"""
    try:
        with cache.connect() as c:
            return c.request("GET", "/v2/").status == 503
    except (Closed, ConnectionError):
        return True


@pytest.mark.parametrize("limit", ["maxConnections", "maxConnectionsPerAddress"])
def test_connections_over_the_limit_are_turned_away_and_come_back(new_cache, origin, limit):
    cache = new_cache(origin, server={"listeners": 1, limit: 4})
    held = [cache.connect() for _ in range(4)]
    for c in held:
        assert c.request("GET", "/v2/").status == 200
    assert turned_away(cache)
    assert held[0].request("GET", "/v2/").status == 200
    held.pop().close()
    wait_until(lambda: not turned_away(cache), "there is room again")
    for c in held:
        c.close()


def test_streamers_limit_the_bodies_in_flight_and_the_rest_wait(new_cache, origin):
    cache = new_cache(origin, server={"streamers": 2, "timeout": "60s"})
    big = origin.blob("team/app", noise(8 * MIB))
    cache.fetch(big)
    lazy, heads = [], []
    for _ in range(2):  # one after the other, so that their checks are not shared
        lazy.append(cache.connect(receive_buffer=8192))
        lazy[-1].ask("GET", big.target)
        heads.append(lazy[-1].receive_head())
    third = Download(cache, big.target)
    wait_until(lambda: len(origin.heads(big)) >= 3, "the third client is checked")
    assert third.answer is None
    for c, head in zip(lazy, heads):
        c.receive_body(head)
        assert head.body == big.data
        c.close()
    assert third.result().body == big.data


def test_errors_are_oci_json_and_head_has_no_body(cache):
    answer = cache.get("/v2/team/app/blobs/sha256:" + "A" * 64)
    assert answer.status == 400 and answer.error_code() == "DIGEST_INVALID"
    assert answer.header("Content-Type").startswith("application/json")
    with cache.connect() as c:
        assert c.request("HEAD", "/v2/team/app/blobs/sha256:" + "0" * 64).status == 404
        assert c.request("GET", "/v2/").status == 200
