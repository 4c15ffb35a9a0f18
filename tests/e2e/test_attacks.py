"""What an attacker may try: to choose what the cache connects to, to hide a request in another, to
climb out of a path, to be vouched for, to find a credential."""
import base64
import json
import pathlib
import socket

import pytest
from client import Closed
from harness import Download, noise
from script import OCI_MANIFEST, Access, Answer, Gate, basic, digest_of

DATA = noise(100_000, 61)
ALICE, BOB = basic("alice", "a-secret"), basic("bob", "b-secret")
SMUGGLED = "/v2/smuggled/request/tags/list"


def as_user(authorization):
    return [("Authorization", authorization)] if authorization else []


# --- choosing what is connected to -------------------------------------------------------------


class Trap:
    """A listening socket on another loopback address, where nobody has any business."""

    def __init__(self, address="127.0.0.2"):
        self.socket = socket.create_server((address, 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.host = f"{address}:{self.port}"

    def sprung(self):
        """Did anybody connect? The kernel completes a connection before anyone accepts it."""
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def trap():
    t = Trap()
    yield t
    t.socket.close()


def test_the_trap_springs(trap):
    socket.create_connection(("127.0.0.2", trap.port)).close()
    assert trap.sprung() and not trap.sprung()


AIMS = ["{trap}", "169.254.169.254", "169.254.169.254:80", "localhost", "localhost:{port}",
        "10.0.0.1", "192.168.0.1:5000", "[::1]:{port}", "[::ffff:127.0.0.2]:{port}",
        "metadata.google.internal",
        "2130706434:{port}", "0x7f000002:{port}", "0177.0.0.2:{port}", "127.2:{port}", "0:{port}"]
QUERY = "/v2/team/app/manifests/v1?ns="
CARRIERS = {
    "host": lambda aim, c, path: c.request("GET", path, host=aim),
    "absolute target": lambda aim, c, path: c.request("GET", f"http://{aim}{path}"),
    "absolute target over tls": lambda aim, c, path: c.request("GET", f"https://{aim}{path}"),
    "ns": lambda aim, c, path: c.request("GET", f"{path}?ns={aim}"),
    "ns encoded": lambda aim, c, path: c.request(
        "GET", f"{path}?n=1&%6es={aim.replace(':', '%3A')}"),
    "ns twice": lambda aim, c, path: c.request("GET", f"{path}?ns=docker.io&ns={aim}"),
    "ns with a scheme": lambda aim, c, path: c.request("GET", f"{path}?ns=http://{aim}/"),
    "prefix": lambda aim, c, path: c.request("GET", path.replace("/v2/", f"/v2/{aim}/")),
    "prefix before v2": lambda aim, c, path: c.request("GET", f"/{aim}{path}"),
    "header of Dragonfly": lambda aim, c, path: c.request("GET", path, [
        ("X-Dragonfly-Registry", f"http://{aim}")]),
    "headers of proxies": lambda aim, c, path: c.request("GET", path, [
        ("X-Forwarded-Host", aim), ("Forwarded", f"host={aim}"),
        ("X-Original-URL", f"http://{aim}/"), ("X-Forwarded-Server", aim), ("X-Host", aim)]),
}


@pytest.mark.parametrize("default", [True, False], ids=["default", "no-default"])
@pytest.mark.parametrize("registries", [True, False], ids=["registries", "rules"])
@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=[k.replace(" ", "-") for k in CARRIERS])
def test_nobody_chooses_what_the_cache_connects_to(new_cache, origin, trap, carrier, registries, default):
    """With registries that ns, prefix and header may name, and without."""
    server = {"upstreamRules": [{"regex": "^known$", "host": origin.host, "scheme": "http"}]}
    if registries:
        server["registries"] = {"known.test": {"hosts": [origin.host], "scheme": "http"}}
    cache = new_cache(origin if default else None, server=server)
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    for aim in (a.format(trap=trap.host, port=trap.port) for a in AIMS):
        for path in (manifest.tag_target, "/v2/", "/v2/team/app/tags/list"):
            with cache.connect() as c:
                answer = carrier(aim, c, path)
            own = registries and path == "/v2/" and answer.status == 401  # the cache's, for the prefix carrier
            assert own or answer.status in (200, 400, 404), aim
            assert answer.status != 200 or default
    assert not trap.sprung()
    assert {a["upstream"] for a in cache.access()} <= {"-", origin.url}
    assert {e.header("Host") for e in origin.entries()} <= {origin.host}


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_to_the_metadata_address_is_not_followed(cache, origin, status):
    blob = origin.blob("team/app", DATA)
    blob.answer = blob.head = Answer(status=status, location="http://169.254.169.254/latest/meta")
    for target in (blob.target, "/v2/"):
        origin.pages["/v2/"] = (status, (("Location", "http://169.254.169.254/"),), b"")
        answer = cache.get(target)
        assert answer.status == 502 and answer.header("Location") is None


# --- hiding a request in another ---------------------------------------------------------------


AFTER = f"GET {SMUGGLED} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
POST = b"POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n"
HEADS = {
    "length twice": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "equal length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length as a list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "length with a sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "length in hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "length of two words": POST + b"Content-Length: 0 5\r\n\r\nhello",
    "length that overflows": POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "length and coding": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "coding after identity": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "coding before identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding twice": POST + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n",
    "coding twice in a line": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding with a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "coding in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "empty coding": POST + b"Transfer-Encoding:\r\n\r\n",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "folded value": POST + b"X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "fold before any field": b"GET /v2/ HTTP/1.1\r\n Host: a\r\n\r\n",
    "space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "tab before colon": POST + b"Content-Length\t: 5\r\n\r\nhello",
    "no name": GET + b": x\r\n\r\n",
    "no colon": GET + b"Transfer-Encoding chunked\r\n\r\n",
    "bare lf after a field": POST + b"X: y\nContent-Length: 5\r\n\r\nhello",
    "bare lf in a value": GET + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "bare lf ends the head": GET + b"\n",
    "bare cr in a value": GET + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "bare cr ends a line": b"GET /v2/ HTTP/1.1\rHost: a\r\r",
    "nul in a value": GET + b"X: a\0b\r\n\r\n",
    "nul in a name": GET + b"Content\0-Length: 5\r\n\r\n",
    "nul in the target": b"GET /v2/\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in the target": b"GET /v2/ x HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab for a space": b"GET\t/v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /v2/\r\nHost: a\r\n\r\n",
    "next version": b"GET /v2/ HTTP/2.0\r\nHost: a\r\n\r\n",
    "long version": b"GET /v2/ HTTP/1.10\r\nHost: a\r\n\r\n",
    "coding in http/1.0": POST.replace(b"1.1", b"1.0")
                          + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "host with a path": b"GET /v2/ HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a credential": b"GET /v2/ HTTP/1.1\r\nHost: u:p@a\r\n\r\n",
    "url with a credential": b"GET http://u:p@a/v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


def one_answer(c):
    """The answer, or None; then the other side must have closed without one more."""
    try:
        answer = c.receive()
    except Closed:
        return None
    assert c.closed_by_peer(), f"more came: {c.pending[:100]}"
    return answer


@pytest.mark.parametrize("head", HEADS.values(), ids=[k.replace(" ", "-") for k in HEADS])
def test_an_ambiguous_head_is_400_and_nothing_after_it_is_read(standing, head):
    cache, origin = standing
    with cache.connect() as c:
        c.send(head + AFTER)
        answer = one_answer(c)
    assert answer is not None and answer.status == 400
    assert answer.header("Connection") == "close"
    assert origin.entries() == []
    assert cache.get("/v2/").status == 200


CHUNKS = {
    "size in 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "underscore in the size": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no size but an extension": b";x\r\nhello\r\n0\r\n\r\n",
    "size that overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "negative as 64 bits": b"fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
    "size ends with lf": b"5\nhello\r\n0\r\n\r\n",
    "size ends with cr": b"5\rhello\r\n0\r\n\r\n",
    "extension with lf": b"5;a\nhello\r\n0\r\n\r\n",
    "extension with cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension with nul": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "endless extension": b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"5\r\nhelloworld\r\n0\r\n\r\n",
    "data without its end": b"5\r\nhello0\r\n\r\n",
    "data ends with lf": b"5\r\nhello\n0\r\n\r\n",
    "last chunk ends with lf": b"0\n\n",
    "trailer with a fold": b"0\r\nX: a\r\n b\r\n\r\n",
    "trailer with lf": b"0\r\nX: a\n\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: abcdefgh\r\n" * 2000 + b"\r\n",
}


def begin_upload(c):
    answer = c.request("POST", "/v2/team/app/blobs/uploads/", body=b"")
    return "/" + answer.header("Location").split("/", 3)[3]


@pytest.mark.parametrize("body", CHUNKS.values(), ids=[k.replace(" ", "-") for k in CHUNKS])
def test_a_body_of_ambiguous_chunks_hides_nothing(standing, body):
    cache, origin = standing
    with cache.connect() as c:
        target = begin_upload(c)
        c.send(c.head("PATCH", target, [("Transfer-Encoding", "chunked")]) + body + AFTER)
        answer = one_answer(c)
    assert answer is None or answer.status in (400, 502)
    patches = origin.entries(method="PATCH")
    assert all(e.received == 0 for e in patches)
    assert [e for e in origin.entries() if "smuggled" in e.target] == []
    assert all(len(data) == 0 for data in origin.uploads.values())


def test_extensions_and_trailers_end_here_and_the_next_request_is_the_next(standing):
    cache, origin = standing
    with cache.connect() as c:
        target = begin_upload(c)
        c.send(c.head("PATCH", target, [("Transfer-Encoding", "chunked"), ("Trailer", "X-Evil")])
               + b'5;a=b;c="d;\te"\r\nhello\r\n005\r\nworld\r\n0;x\r\nX-Evil: 1\r\n'
               + b"Content-Length: 999\r\n\r\n" + AFTER)
        assert c.receive().status == 202
        assert c.receive().status == 404
    assert bytes(origin.uploads["u0"]) == b"helloworld"
    patch, after = origin.entries(method="PATCH")[0], origin.gets()[-1]
    assert patch.header("X-Evil") is None and patch.header("Trailer") is None
    assert after.target == SMUGGLED


@pytest.mark.parametrize("method, target, host", [
    ("GET", "/v2/team/app/manifests/v1", None),
    ("GET", f"/v2/team/app/blobs/{digest_of(DATA)}", None),
    ("HEAD", f"/v2/team/app/referrers/{digest_of(DATA)}", None), ("GET", "/v2/../x", None),
    ("GET", "/v2/", "unknown"), ("PUT", "/v2/team/app/manifests/v1", None)])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_body_of_a_refused_request_is_no_request(new_cache, origin, method, target, host,
                                                     chunked):
    rules = [{"regex": "^127[.]", "host": origin.host, "scheme": "http"}]
    cache = new_cache(server={"readOnly": True, "upstreamRules": rules})
    headers, body = [("Content-Length", len(AFTER))], AFTER
    if chunked:
        headers = [("Transfer-Encoding", "chunked")]
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(AFTER), AFTER)
    with cache.connect() as c:
        c.send(c.head(method, target, headers, host=host) + body + AFTER)
        answer = c.receive(method)
        assert answer.status in (400, 404, 405)
        assert c.closed_by_peer()
    assert origin.entries() == []


def test_a_body_that_the_upstream_did_not_wait_for_is_no_request(new_origin, new_cache):
    """The upstream refuses at once; what the client goes on to send is not taken for requests."""
    origin = new_origin()
    origin.limited = 3
    cache = new_cache(origin)
    with cache.connect() as c:
        c.send(c.head("PATCH", "/v2/team/app/blobs/uploads/u0", length=1_000_000) + AFTER)
        try:
            c.send(10 * AFTER)
            c.socket.shutdown(socket.SHUT_WR)
            answer = one_answer(c)
        except ConnectionError:
            answer = None
    assert answer is None or answer.status >= 400
    assert [e for e in origin.entries() if "smuggled" in e.target] == []


def test_an_upstream_s_answer_splits_no_answer_of_ours(standing):
    """Fields and challenges with line ends in them would be answers of their own."""
    cache, origin = standing
    path = f"/v2/team/app/manifests/{digest_of(DATA)}"
    origin.pages[path] = (401, (("WWW-Authenticate", 'Basic realm="a"\n X: y'),
                                ("X-Fold", "a\r\n b"), ("X-Bell", "a\x07b"),
                                ("Bad Name", "1")), b"{}")
    with cache.connect() as c:
        answer = c.request("GET", path)
        assert answer.status == 401 and answer.header("Bad Name") is None
        assert all("\n" not in v and "\r" not in v and "\x07" not in v for _, v in answer.headers)
        assert c.request("GET", "/v2/").status == 200


# --- climbing out of a path --------------------------------------------------------------------


def variants(digest):
    hexa = digest.removeprefix("sha256:")
    return [f"/v2/team/app/blobs/sha256:{hexa.upper()}", f"/v2/team/app/blobs/SHA256:{hexa}",
            f"/v2/team/app/blobs/sha256%3a{hexa}", f"/v2/team/app/blobs/sha256%3A{hexa}",
            f"/v2/team/app/blobs/sha256%253A{hexa}", f"/v2/team/app//blobs/{digest}",
            f"/v2//team/app/blobs/{digest}", f"//v2/team/app/blobs/{digest}",
            f"/v2/team/app/./blobs/{digest}", f"/v2/x/../team/app/blobs/{digest}",
            f"/v2/x/%2e%2e/team/app/blobs/{digest}", f"/v2/x/.%2E/team/app/blobs/{digest}",
            f"/v2/x/..%2fteam/app/blobs/{digest}", f"/v2/x/..%5cteam/app/blobs/{digest}",
            f"/v2/x\\..\\team/app/blobs/{digest}", f"/v2/team%2Fapp/blobs/{digest}",
            f"/v2/team%2fapp%2fblobs%2f{digest}", f"/v2/team/app/%62lobs/{digest}",
            f"/v2/team/app/blobs/%73ha256:{hexa}", f"/v2/team/app/blobs/{digest}%00",
            f"/v2/team/app/blobs/{digest}%0d%0aX:y", f"/v2/team/app/blobs/{digest}%20",
            f"/v2/team/app/blobs/{digest}/", f"/v2/team/app/blobs/{digest}.",
            f"/v2/team/app/blobs/{hexa}",
            f"/v2/team/app/blobs/{digest};x=1", f"/v2/team/app/blobs/sha256:{hexa[:63]}%61",
            f"/v2/team/app/blobs/sha256:../../../../objects/sha256/{hexa[:2]}/{hexa}",
            f"/v2/team/app/blobs/../../../objects/sha256/{hexa[:2]}/{hexa}",
            f"/objects/sha256/{hexa[:2]}/{hexa}", "/index/data.mdb", "/lock",
            "/v2/../../index/data.mdb"]


def test_another_spelling_of_a_path_is_no_other_key_and_no_way_around_the_check(new_origin,
                                                                                new_cache):
    origin = new_origin(access=Access({ALICE: ["team/app"]}))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, as_user(ALICE))
    stored = cache.objects()
    for target in variants(blob.digest):
        for user in (None, BOB):
            for method in ("GET", "HEAD"):
                answer = cache.request(method, target, as_user(user))
                assert answer.status in (400, 401, 403, 404), target
                assert DATA[:32] not in answer.body, target
        cache.get(target, as_user(ALICE))
    assert cache.objects() == stored and len(stored) == 1
    assert all(".." not in e.target and "%2e" not in e.target.lower() for e in origin.entries())
    assert not [p for p in cache.folder.rglob("*") if p.is_file() and p.read_bytes() == DATA
                and p not in stored]


@pytest.mark.parametrize("target", ["/../etc/passwd", "/v2/..", "/v2/%2e%2e/",
                                    "/..%2f..%2fetc/passwd", "/v2/%2e%2e%5c%2e%2e/x",
                                    "/token/..%00", "/a/%0a", "/v2/\\..\\x",
                                    "/%2e%2e", "/v2/team/app/tags/../../../x", "/v2/x/%7f"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_passes_does_not_climb_either(standing, target, method):
    cache, origin = standing
    assert cache.request(method, target, body=b"" if method == "PUT" else None).status == 400
    assert origin.entries() == []


# --- being vouched for -------------------------------------------------------------------------


@pytest.fixture
def captured(new_origin, new_cache):
    """A private registry, and a rule whose captures let a client name any host as another."""
    private = new_origin(access=Access({ALICE: ["team/app"]}))
    evil = new_origin()
    rule = {"regex": r"^([0-9.]+)-([0-9]+)\.cache\.test$", "host": "$group1:$group2",
            "scheme": "http"}
    cache = new_cache(private, server={"upstreamRules": [rule]})
    return cache, private, evil, f"127.0.0.1-{evil.port}.cache.test"


def is_lie_only(answer):
    """Nothing but the liar's own question marks, also in the parts of a multipart answer."""
    kind = answer.header("Content-Type") or ""
    if not kind.startswith("multipart/byteranges"):
        return not bytes(answer.body).strip(b"?")
    parts = bytes(answer.body).split(b"--" + kind.partition("boundary=")[2].encode())[1:-1]
    return all(not part.partition(b"\r\n\r\n")[2].strip(b"?\r\n") for part in parts)


def claim(evil, thing):
    """Evil's registry says yes to the digest and its size, but has other bytes."""
    if thing.kind == "blobs":
        lie = evil.blob("any/thing", thing.data)
    else:
        lie = evil.manifest("any/thing", "v1", thing.data)
    lie.answer = Answer(body=b"?" * thing.size)
    return lie


@pytest.mark.parametrize("headers", [[], [("Range", "bytes=0-31")], [("Range", "bytes=-32")],
                                     [("If-None-Match", '"x"')], [("Range", "bytes=0-1,5-9")]],
                         ids=["plain", "range", "suffix", "condition", "ranges"])
@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_a_registry_chosen_by_a_capture_opens_no_other_s_object(captured, kind, headers):
    cache, private, evil, host = captured
    thing = private.blob("team/app", DATA) if kind == "blob" else private.manifest(
        "team/app", "v1", json.dumps({"schemaVersion": 2, "secret": "s" * 200}).encode())
    cache.fetch(thing, [*as_user(ALICE), ("Accept", OCI_MANIFEST)])
    lie = claim(evil, thing)
    for target in (lie.target, lie.tag_target if kind == "manifest" else lie.target):
        for _ in range(2):
            with cache.connect() as c:
                answer = c.request("GET", target, [("Accept", OCI_MANIFEST), *headers], host=host)
            assert answer.status >= 400 or is_lie_only(answer)
            assert thing.data[:16] not in answer.body and thing.data[-16:] not in answer.body
    assert evil.entries() and cache.fetch(thing, [*as_user(ALICE), ("Accept", OCI_MANIFEST)])


def test_nor_does_it_while_the_object_is_being_fetched(captured):
    cache, private, evil, host = captured
    blob = private.blob("team/app", noise(3_000_000, 62))
    blob.answer = Answer(gate=Gate(1_000_000))
    alice = Download(cache, blob.target, as_user(ALICE))
    blob.answer.gate.wait_reached()
    lie = claim(evil, blob)
    for listener in (0, 1):
        with cache.connect_to(listener) as c:
            try:
                answer = c.request("GET", lie.target, host=host)
                assert blob.data[:32] not in answer.body
                assert not (answer.status == 200 and answer.complete)
            except Closed:
                pass
    blob.answer.gate.open()
    assert alice.result().body == blob.data


def test_what_a_captured_registry_delivers_poisons_nobody(captured):
    """It delivers first: bytes that are wrong are not kept, bytes that are right do no harm."""
    cache, private, evil, host = captured
    blob = private.blob("team/app", DATA)
    lie = claim(evil, blob)
    with cache.connect() as c:
        answer = c.request("GET", lie.target, [("Connection", "close")], host=host)
        assert not (answer.status == 200 and answer.complete)
    assert cache.objects() == []
    assert cache.fetch(blob, as_user(ALICE)).body == DATA
    assert cache.get(blob.target).status == 401


@pytest.mark.parametrize("headers", [[], [("Range", "bytes=0-31")], [("If-None-Match", "*")],
                                     [("If-None-Match", f'"{digest_of(DATA)}"')],
                                     [("Range", "bytes=0-3"),
                                      ("If-Range", f'"{digest_of(DATA)}"')]],
                         ids=["plain", "range", "any-condition", "condition", "if-range"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_revoked_token_opens_nothing_in_any_way(new_origin, new_cache, headers, method):
    token = "Bearer of-yesterday"
    origin = new_origin(access=Access({token: ["team/app"]}, challenge="bearer"))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    with cache.connect() as c:
        assert c.request("GET", blob.target, as_user(token)).body == DATA
        origin.access.grants.clear()
        answer = c.request(method, blob.target, [*as_user(token), *headers])
        assert answer.status == 401 and DATA[:32] not in answer.body
        assert answer.header("Docker-Content-Digest") is None
        assert 'error="invalid_token"' in answer.values("WWW-Authenticate")[0]


# --- finding a credential ----------------------------------------------------------------------


SECRETS = ["b4sic-s3cret", "b3arer-s3cret", "n3gotiate-s3cret", "c00kie-s3cret", "pr0xy-s3cret",
           "qu3ry-s3cret", "f0rm-s3cret", "upl0ad-s3cret", "us3rinfo-s3cret", "r3fused-s3cret",
           "br0ken-s3cret"]


def spend_secrets(cache, origin):
    """Requests of all kinds and ends, with a secret in each."""
    blob, manifest = origin.blob("team/app", DATA), origin.manifest("team/app", "v1", b"{}")
    for value in (basic("u", SECRETS[0]), f"Bearer {SECRETS[1]}", f"Negotiate {SECRETS[2]}"):
        for target in (blob.target, blob.target, manifest.tag_target, "/v2/", "/v2/_catalog",
                       blob.target.replace("team", "other")):
            cache.get(target, [("Authorization", value), ("Cookie", f"s={SECRETS[3]}"),
                               ("Proxy-Authorization", f"Basic {SECRETS[4]}"), ("Accept", "*/*")])
    for target in (blob.target, manifest.target, manifest.tag_target, "/token", "/v2/",
                   "/v2/%zz/../x", "/v2/Bad/manifests/x", "/v2/team/app/tags/list"):
        cache.get(f"{target}?access_token={SECRETS[5]}&ns={SECRETS[5]}")
    cache.request("POST", "/token", [("Content-Type", "application/x-www-form-urlencoded")],
                  f"grant_type=password&password={SECRETS[6]}".encode())
    cache.request("PUT", f"/v2/team/app/blobs/uploads/x?_state={SECRETS[7]}", body=b"x")
    for raw in (f"GET http://u:{SECRETS[8]}@a/v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
                f"GET /v2/ HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {SECRETS[9]}\r\n\r\n",
                f"GET /v2/?t={SECRETS[9]} HTTP/9.9\r\nHost: a\r\n\r\n"):
        with cache.connect() as c:
            c.send(raw.encode())
            assert c.receive().status == 400
    lie = origin.blob("team/app", DATA[:500])
    lie.answer = Answer(body=bytes(500))
    cache.get(f"{lie.target}?t={SECRETS[10]}", [("Authorization", f"Bearer {SECRETS[10]}")])
    blob.once.append(Answer(status=500))
    blob.head = Answer(before_head="fin")
    cache.get(blob.target + f"?t={SECRETS[10]}", [("Authorization", f"Bearer {SECRETS[10]}")])


def spellings(secret):
    """Base64 has three, by where in its quantum the secret begins; the outermost letters vary."""
    yield secret.encode()
    for pad in range(3):
        yield base64.b64encode(b"x" * pad + secret.encode())[4:-4]


def test_no_credential_is_in_a_log_a_file_or_a_command_line(new_cache, origin):
    cache = new_cache(origin, log={"level": "trace", "access": True},
                      server={"upstreamTimeout": "2s", "firstByteTimeout": "2s"})
    spend_secrets(cache, origin)
    origin.stop()
    cache.get("/v2/?t=" + SECRETS[10], [("Authorization", f"Bearer {SECRETS[10]}")])
    pids = (cache.master, *cache.children())
    places = {f"/proc/{pid}/{name}": pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
              for pid in pids for name in ("cmdline", "environ", "comm")}
    cache.stop()
    for path in [cache.log_path, *(p for p in cache.data.rglob("*") if p.is_file())]:
        places[str(path)] = path.read_bytes()
    assert any("index" in name for name in places)
    assert b"wrong digest" in places[str(cache.log_path)]
    for name, data in places.items():
        for secret in SECRETS:
            assert not [s for s in spellings(secret) if s in data], (name, secret)


def test_the_secrets_were_really_told_to_the_registry(new_cache, origin):
    """Else the test above would find nothing in nothing."""
    cache = new_cache(origin)
    spend_secrets(cache, origin)
    told = " ".join(f"{e.target} {e.header('Authorization')}" for e in origin.entries())
    assert all(s in told for s in (SECRETS[1], SECRETS[2], SECRETS[5], SECRETS[7], SECRETS[10]))
    assert all(s not in told for s in (SECRETS[3], SECRETS[4], SECRETS[8], SECRETS[9]))
