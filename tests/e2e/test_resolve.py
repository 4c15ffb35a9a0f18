"""Tags whose registry does not say a digest: the manifest itself is fetched and hashed, or passed, or told why not."""
import hashlib
import json

import pytest
from client import MIB, Closed
from harness import noise
from script import OCI_MANIFEST, Answer

ACCEPT = [("Accept", OCI_MANIFEST)]
SMALL = b'{"schemaVersion":2,"config":{},"layers":[]}'


@pytest.fixture
def cache(new_cache, origin):
    return new_cache(origin, server={"upstreamTimeout": "2s", "firstByteTimeout": "2s", "timeout": "10s"})


@pytest.fixture
def nameless(origin):
    """A manifest of these bytes whose digest the registry never says; `answer` to GET is as given."""
    def make(data=SMALL, **answer):
        thing = origin.manifest("team/app", "v1", data)
        thing.head = Answer(digest_header=False)
        thing.answer = Answer(digest_header=False, **answer)
        return thing
    return make


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_tag_without_digest_is_kept_by_the_digest_of_its_bytes(cache, origin, nameless, framing):
    thing = nameless(framing=framing)
    for _ in range(2):
        for ask in (cache.get, cache.head):
            answer = ask(thing.tag_target, ACCEPT)
            assert (answer.status, answer.header("Docker-Content-Digest")) == (200, thing.digest)
            assert answer.header("Content-Length") == str(len(SMALL))
        assert cache.get(thing.tag_target, ACCEPT).body == SMALL
    assert cache.object_path(thing.digest).read_bytes() == SMALL


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_is_too_large_for_a_manifest_is_passed_through(cache, nameless, framing):
    data = json.dumps({"schemaVersion": 2, "x": noise(3 * MIB).hex()}).encode()
    thing = nameless(data, framing=framing)
    for _ in range(2):
        answer = cache.get(thing.tag_target, ACCEPT)
        assert (answer.status, answer.complete) == (200, True)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
    assert cache.objects() == []
    assert cache.head(thing.tag_target, ACCEPT).status == 200


@pytest.mark.parametrize("status, told", [(403, 403), (404, 404), (429, 429), (500, 503), (503, 503)])
def test_a_refusal_is_the_registry_s(cache, nameless, status, told):
    thing = nameless(status=status)
    answer = cache.get(thing.tag_target, ACCEPT)
    assert answer.status == told and answer.error_code()
    assert cache.objects() == []


@pytest.mark.parametrize("broken, statuses", [
    ({"at": 10, "then": "fin"}, (502,)), ({"at": 10, "then": "reset"}, (502,)),
    ({"at": 10, "then": "hang"}, (502, 504)), ({"before_head": "hang"}, (504,)),
    ({"before_head": "reset"}, (502,)), ({"framing": "chunked", "at": 10, "then": "fin"}, (502,)),
    ({"content_type": "text/html", "body": b"<html>log in</html>"}, (502,))],
    ids=["short", "reset later", "hang later", "hang", "reset", "chunked and cut", "a page"])
def test_a_manifest_that_does_not_come_is_told_and_comes_later(cache, nameless, broken, statuses):
    thing = nameless(**broken)
    try:
        assert cache.get(thing.tag_target, ACCEPT).status in statuses
    except Closed:
        pytest.fail("the connection ended without an answer")
    assert cache.objects() == []
    thing.answer = Answer(digest_header=False)
    assert cache.get(thing.tag_target, ACCEPT).body == SMALL
