"""Upstreams that lie, break or hang: never a complete wrong body, nothing wrong in the store, and
once the upstream is honest again the next request is served."""
import gzip

import pytest
from client import KIB, MIB, Closed, sha256
from harness import noise, wait_until
from script import OCI_MANIFEST, Answer, Gate

SMALL, LARGE = noise(5000, 1), noise(3 * MIB, 2)
QUICK = {"upstreamTimeout": "2s", "firstByteTimeout": "2s", "connectTimeout": "2s",
         "timeout": "10s"}


@pytest.fixture
def cache(new_cache, origin):
    """Impatient, so that a hang ends soon."""
    return new_cache(origin, server=QUICK)


def try_get(cache, target, headers=()):
    """The answer, or None when the connection ended without one."""
    try:
        return cache.get(target, headers)
    except Closed:
        return None


def never_complete_and_wrong(answer, data):
    """What a client may see of a lie: an error, or a body that is short and looks short."""
    if answer is not None and answer.status == 200 and answer.complete:
        assert answer.body == data


LIES = {
    "wrong digest": lambda d: Answer(body=d[:-1] + bytes([d[-1] ^ 1])),
    "wrong first byte": lambda d: Answer(body=bytes([d[0] ^ 1]) + d[1:]),
    "other bytes": lambda d: Answer(body=noise(len(d), 99)),
    "a shorter object": lambda d: Answer(body=d[:-1]),
    "a longer object": lambda d: Answer(body=d + b"x"),
    "an empty object": lambda d: Answer(body=b""),
    "short body": lambda d: Answer(at=len(d) // 2, then="fin"),
    "short by one": lambda d: Answer(at=len(d) - 1, then="fin"),
    "reset at half": lambda d: Answer(at=len(d) // 2, then="reset"),
    "hang at half": lambda d: Answer(at=len(d) // 2, then="hang"),
    "short without length": lambda d: Answer(framing="close", at=len(d) // 2, then="fin"),
    "long without length": lambda d: Answer(framing="close", body=d + b"x"),
    "chunked and cut": lambda d: Answer(framing="chunked", at=len(d) // 2, then="fin"),
    "chunked and short": lambda d: Answer(framing="chunked", body=d[:-1]),
    "chunked and long": lambda d: Answer(framing="chunked", body=d + b"x"),
    "chunked and far too long": lambda d: Answer(framing="chunked", body=d + noise(MIB)),
}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("lie", LIES.values(), ids=[k.replace(" ", "-") for k in LIES])
def test_a_lie_is_never_a_whole_answer_and_never_stored(cache, origin, lie, data):
    blob = origin.blob("team/app", data)
    blob.answer = lie(data)
    for _ in range(2):
        answer = try_get(cache, blob.target)
        assert answer is None or not (answer.status == 200 and answer.complete)
    assert cache.objects() == []
    blob.answer = Answer()
    wait_until(lambda: recovered(cache, blob), "the honest object is served", 20)
    cache.fetch(blob)
    cache.check_objects()


@pytest.mark.parametrize("extra", [1, 4 * MIB], ids=["by one", "by far"])
def test_a_range_that_goes_on_beyond_the_object_is_a_lie(cache, origin, extra):
    """No more is written than there is room for, which was reserved by the length said at first."""
    blob = origin.blob("team/app", LARGE)
    blob.once.extend([Answer(at=MIB, then="reset"),
                      *[Answer(framing="chunked", extra=noise(extra)) for _ in range(20)]])
    answer = try_get(cache, blob.target)
    never_complete_and_wrong(answer, LARGE)
    if extra > MIB:
        cache.wait_log(f"sends more than the {len(LARGE)} bytes that it said")
    assert all(p.stat().st_size <= len(LARGE) + 16 * KIB for p in (cache.data / "parts").iterdir())
    blob.once.clear()
    wait_until(lambda: recovered(cache, blob), "the honest object is served", 20)
    cache.check_objects()


def recovered(cache, blob):
    answer = try_get(cache, blob.target)
    never_complete_and_wrong(answer, blob.data)
    return answer is not None and answer.body == blob.data


HONEST = {
    "without length": Answer(framing="close"),
    "chunked": Answer(framing="chunked"),
    "one byte extra after the body": Answer(extra=b"x"),
    "no digest header": Answer(digest_header=False),
    "no content type": Answer(content_type=""),
    "content type with parameters": Answer(content_type="application/octet-stream; charset=utf-8"),
    "ranges not understood": Answer(ranges=False),
    "content-encoding on bytes that are right": Answer(headers=(("Content-Encoding", "gzip"),)),
    "headers that are not for clients": Answer(headers=(("Set-Cookie", "a=b"), ("Alt-Svc", "h3=x"),
                                                        ("X-Registry-Supports-Signatures", "1"))),
}


@pytest.mark.parametrize("answer", HONEST.values(), ids=[k.replace(" ", "-") for k in HONEST])
def test_odd_but_honest_answers_are_served_cold_and_hot(cache, origin, answer):
    blob = origin.blob("team/app", gzip.compress(LARGE, 0))
    blob.answer = answer
    for _ in ("cold", "hot", "hot"):
        got = cache.get(blob.target)
        assert (got.status, got.body, got.complete) == (200, blob.data, True)
        assert got.header("Content-Type") == "application/octet-stream"
        for name in ("Content-Encoding", "Set-Cookie", "Alt-Svc", "X-Registry-Supports-Signatures"):
            assert got.header(name) is None, name
    assert got.header("Content-Length") == str(blob.size)
    assert got.header("Docker-Content-Digest") == blob.digest
    assert len(origin.fetches(blob)) == 1
    cache.check_objects()


ODD_MANIFESTS = {
    "chunked": Answer(framing="chunked"),
    "no digest header": Answer(digest_header=False),
    "content type with parameters": Answer(content_type=OCI_MANIFEST + "; charset=utf-8"),
    "without length": Answer(framing="close"),
}


@pytest.mark.parametrize("answer", ODD_MANIFESTS.values(),
                         ids=[k.replace(" ", "-") for k in ODD_MANIFESTS])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_always_has_length_digest_and_bare_content_type(cache, origin, answer, by):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.answer = manifest.head = answer
    target = manifest.tag_target if by == "tag" else manifest.target
    for method in ("HEAD", "GET", "HEAD", "GET"):
        got = cache.request(method, target, [("Accept", OCI_MANIFEST)])
        assert got.status == 200
        assert got.header("Content-Length") == str(manifest.size)
        assert got.header("Docker-Content-Digest") == manifest.digest
        assert got.header("Content-Type") == OCI_MANIFEST
        assert got.body == (manifest.data if method == "GET" else b"")


def test_a_tag_that_moves_between_head_and_get_is_consistent(cache, origin):
    old = origin.manifest("team/app", "v1", b'{"schemaVersion":2,"n":1}')
    new = origin.manifest("team/app", "v2", b'{"schemaVersion":2,"n":2}')
    moving = origin.manifest("team/app", "latest", old.data)
    moving.head = Answer(headers=(("Docker-Content-Digest", new.digest),), digest_header=False)
    for _ in range(2):
        answer = cache.get(moving.tag_target, [("Accept", OCI_MANIFEST)])
        if answer.status == 200:
            assert answer.complete
            assert answer.header("Docker-Content-Digest") == f"sha256:{sha256(answer.body)}"
            assert answer.body in (old.data, new.data)
    cache.check_objects()


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("framing", ["length"])
def test_a_transfer_that_breaks_goes_on_where_it_stopped(cache, origin, how, framing):
    blob = origin.blob("team/app", LARGE)
    blob.once.append(Answer(at=MIB, then=how, framing=framing))
    blob.once.append(Answer(at=2 * MIB, then=how, framing=framing))
    cache.fetch(blob)
    fetches = origin.fetches(blob)
    assert [e.header("Range") for e in fetches] == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert all(e.header("If-Range") for e in fetches[1:])
    assert origin.sent(blob) == blob.size  # no byte twice
    cache.check_objects()


def test_a_transfer_that_stands_still_goes_on_where_it_stopped(cache, origin):
    blob = origin.blob("team/app", LARGE)
    blob.once.append(Answer(at=MIB, then="hang"))
    cache.fetch(blob)
    assert [e.header("Range") for e in origin.fetches(blob)] == [None, f"bytes={MIB}-"]
    assert origin.sent(blob) == blob.size


def test_a_resumed_transfer_that_gets_the_whole_again_is_still_right(cache, origin):
    """The upstream ignores Range: 200 instead of 206."""
    blob = origin.blob("team/app", LARGE)
    blob.answer = Answer(ranges=False)
    blob.once.append(Answer(at=MIB, then="fin", ranges=False))
    wait_until(lambda: recovered(cache, blob), "the object is served")
    cache.check_objects()


def test_a_resumed_transfer_of_changed_bytes_is_not_served(cache, origin):
    """The object changed under its digest between the two halves."""
    blob = origin.blob("team/app", LARGE)
    blob.once.append(Answer(at=MIB, then="fin"))
    blob.answer = Answer(body=noise(len(LARGE), 98))
    answer = try_get(cache, blob.target)
    assert answer is None or not (answer.status == 200 and answer.complete)
    assert cache.objects() == []


def test_errors_that_pass_are_not_seen(cache, origin):
    blob = origin.blob("team/app", LARGE)
    blob.once.extend([Answer(status=500), Answer(status=500)])
    cache.fetch(blob)
    assert [e.status for e in origin.fetches(blob)] == [500, 500, 200]


def test_connections_that_break_before_the_head_are_tried_again(cache, origin):
    blob = origin.blob("team/app", LARGE)
    blob.once.extend([Answer(before_head="fin"), Answer(before_head="reset")])
    cache.fetch(blob)


@pytest.mark.parametrize("broken, status", [
    (Answer(status=500), 503), (Answer(status=503), 503), (Answer(status=502), 502),
    (Answer(status=408), 504),
    (Answer(before_head="hang"), 504), (Answer(before_head="fin"), 502),
    (Answer(before_head="reset"), 502)],
    ids=["500", "503", "502", "408", "hang", "fin", "reset"])
def test_errors_that_stay_are_server_errors(cache, origin, broken, status):
    blob = origin.blob("team/app", LARGE)
    blob.answer = blob.head = broken
    answer = cache.get(blob.target)
    assert (answer.status, answer.complete) == (status, True)
    assert answer.json()["errors"]
    blob.answer, blob.head = Answer(), None
    wait_until(lambda: cache.get(blob.target).status == 200, "the registry is asked again")
    cache.fetch(blob)


def test_how_long_a_server_error_lasts_is_told(cache, origin):
    """4.3: a client that is told a second comes back in a second, with all the others."""
    sick = Answer(status=503, headers=(("Retry-After", "120"),))
    blob, manifest = origin.blob("team/app", LARGE), origin.manifest("team/app", "v1", b"{}")
    for thing in (blob, manifest):
        thing.answer = thing.head = sick
    origin.pages["/v2/team/app/tags/list"] = (503, sick.headers, b"{}")
    for target in (blob.target, manifest.tag_target, "/v2/team/app/tags/list"):
        answer = cache.get(target)
        assert (answer.status, answer.header("Retry-After")) == (503, "120"), target


def test_an_upstream_that_is_not_there_is_502(cache, origin):
    target = origin.blob("team/app", LARGE).target
    origin.stop()
    assert cache.get(target).status == 502


def test_followers_of_a_lie_are_cut_short_too(new_cache, origin):
    cache = new_cache(origin, server={**QUICK, "listeners": 2})
    blob = origin.blob("team/app", LARGE)
    gate = Gate(MIB)
    blob.answer = Answer(body=LARGE[:-1] + bytes([LARGE[-1] ^ 1]), gate=gate)
    connections = [cache.connect_to(k % 2) for k in range(4)]
    answers = []
    for c in connections:
        c.ask("GET", blob.target)
        answers.append(c.receive_head())
    gate.wait_reached()
    gate.open()
    for c, answer in zip(connections, answers):
        c.receive_body(answer)
        assert not answer.complete and len(answer.body) <= len(LARGE) - 64 * KIB
        c.close()
    assert cache.objects() == []


# --- redirects ---------------------------------------------------------------------------------


@pytest.fixture
def cdn(new_origin):
    """Where redirects lead; it fails when it sees a credential, as S3 does."""
    return new_origin(refuse_authorization=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_without_the_credential(cache, origin, cdn, status):
    blob = origin.blob("team/app", LARGE)
    cdn.raw["/signed/blob"] = blob
    blob.head = None
    redirect = Answer(status=status, location=f"{cdn.url}/signed/blob?X-Sig=a%2Fb&e=1")
    blob.once.append(redirect)
    got = cache.get(blob.target, [("Authorization", "Bearer token")])
    assert (got.status, got.body) == (200, LARGE)
    assert got.header("Location") is None
    assert origin.fetches(blob)[0].header("Authorization") == "Bearer token"
    assert [e.target for e in cdn.gets()] == ["/signed/blob?X-Sig=a%2Fb&e=1"]
    assert cdn.gets()[0].header("Authorization") is None


def test_a_relative_redirect_keeps_the_credential(cache, origin):
    blob = origin.blob("team/app", LARGE)
    origin.raw["/downloads/blob"] = blob
    blob.once.append(Answer(status=302, location="/downloads/blob"))
    got = cache.get(blob.target, [("Authorization", "Bearer token")])
    assert got.body == LARGE
    assert [e.header("Authorization") for e in origin.gets()] == ["Bearer token"] * 2


def test_a_credential_once_dropped_does_not_come_back(cache, origin, cdn):
    """Registry, then elsewhere, then the registry's host again."""
    blob = origin.blob("team/app", SMALL)
    cdn.pages["/hop"] = (302, (("Location", f"{origin.url}/final"),), b"")
    origin.raw["/final"] = blob
    blob.once.append(Answer(status=302, location=f"{cdn.url}/hop"))
    assert cache.get(blob.target, [("Authorization", "Bearer token")]).body == SMALL
    last = origin.gets()[-1]
    assert last.target == "/final" and last.header("Authorization") is None


def test_a_broken_transfer_behind_a_redirect_goes_on(cache, origin, cdn):
    blob = origin.blob("team/app", LARGE)
    behind = cdn.blob("team/app", LARGE)
    cdn.raw["/signed"] = behind
    blob.answer = Answer(status=307, location=f"{cdn.url}/signed")
    behind.once.append(Answer(at=MIB, then="fin"))
    assert cache.get(blob.target, [("Authorization", "Bearer token")]).body == LARGE
    assert [e.header("Range") for e in cdn.gets()] == [None, f"bytes={MIB}-"]
    assert cdn.sent(behind) == len(LARGE)


def test_a_check_that_is_redirected_is_followed(cache, origin, cdn):
    blob = origin.blob("team/app", SMALL)
    cache.fetch(blob)
    cdn.raw["/signed"] = cdn.blob("team/app", SMALL)
    blob.head = blob.answer = Answer(status=307, location=f"{cdn.url}/signed")
    cache.fetch(blob, [("Authorization", "Bearer token")])
    assert all(e.header("Authorization") is None for e in cdn.entries())
    assert cdn.heads()


def test_a_redirect_loop_is_502(cache, origin):
    blob = origin.blob("team/app", SMALL)
    blob.answer = blob.head = Answer(status=302, location=blob.target)
    answer = cache.get(blob.target)
    assert answer.status == 502 and answer.header("Location") is None
    assert len(origin.entries(blob)) <= 40


@pytest.mark.parametrize("location",
                         ["ftp://127.0.0.1/x", "file:///etc/passwd",
                          "http://169.254.169.254/latest",
                                      "//", "http://", "gopher://127.0.0.1:70/"])
def test_a_redirect_that_may_not_be_followed_is_502(cache, origin, location):
    blob = origin.blob("team/app", SMALL)
    blob.answer = blob.head = Answer(status=302, location=location)
    answer = cache.get(blob.target)
    assert answer.status in (502, 504) and b"root:" not in answer.body
    assert cache.objects() == []


def test_a_login_page_is_no_manifest(cache, origin, cdn):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    cdn.pages["/login"] = (200, (("Content-Type", "text/html; charset=utf-8"),),
                           b"<html>log in</html>")
    manifest.answer = manifest.head = Answer(status=302, location=f"{cdn.url}/login")
    for target in (manifest.tag_target, manifest.target):
        for method in ("HEAD", "GET"):
            answer = cache.request(method, target, [("Accept", OCI_MANIFEST)])
            assert answer.status == 502, (method, target)
            assert b"<html>" not in answer.body
    assert cache.objects() == []


def test_a_login_page_is_no_permission(cache, origin, cdn):
    """A blob that we have, and a check that ends at a login page."""
    blob = origin.blob("team/app", SMALL)
    cache.fetch(blob)
    cdn.pages["/login"] = (200, (("Content-Type", "text/html"),), b"<html>log in</html>")
    blob.answer = blob.head = Answer(status=302, location=f"{cdn.url}/login")
    answer = try_get(cache, blob.target)
    assert answer.status == 502 and answer.body != SMALL
