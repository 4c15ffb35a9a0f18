"""Registries as they are documented (profiles.py), and clients that do what such a registry
expects of them, through the cache."""
import re
import urllib.parse

import pytest
from client import Connection
from harness import noise
from profiles import DockerHub, Ecr, Ghcr, Harbor
from script import OCI_MANIFEST

DATA = noise(100_000, 43)
ACCEPT = ("Accept", OCI_MANIFEST)


def challenge_of(answer):
    """Scheme and parameters of the one challenge."""
    scheme, _, rest = answer.header("WWW-Authenticate").partition(" ")
    return scheme, dict(re.findall(r'(\w+)="([^"]*)"', rest))


def token_by(challenge, scope):
    """Asks the realm itself, as a client does; (status, Authorization)."""
    realm = urllib.parse.urlsplit(challenge["realm"])
    query = urllib.parse.urlencode({"service": challenge["service"], "scope": scope})
    with Connection((realm.hostname, realm.port)) as c:
        answer = c.request("GET", f"{realm.path}?{query}")
    return answer.status, f"Bearer {answer.json()['token']}" if answer.status == 200 else None


def pull(cache, origin, thing, authorization):
    target = getattr(thing, "tag_target") if thing.kind == "manifests" else thing.target
    answer = cache.get(target, [ACCEPT, ("Authorization", authorization)])
    return answer.status, answer.body == thing.data


@pytest.fixture
def store(new_origin):
    """What S3 is to ECR."""
    return new_origin(refuse_authorization=True)


def test_an_ecr_like_registry_is_pulled_from_cold_and_hot(new_origin, new_cache, store):
    origin = new_origin(profile=Ecr(store))
    cache = new_cache(origin)
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for _ in ("cold", "hot", "hot"):
        for thing in (manifest, *blobs):
            assert pull(cache, origin, thing, Ecr.AUTHORIZATION) == (200, True)
            head = cache.head(thing.target, [ACCEPT, ("Authorization", Ecr.AUTHORIZATION)])
            assert (head.status, head.header("Content-Length")) == (200, str(thing.size))
    whole = [e for e in store.gets() if e.header("Range") != "bytes=0-0"]
    assert len(whole) == len(blobs)
    assert store.heads() == []  # its URLs are signed for GET: HEAD was refused before
    assert all(e.header("Authorization") is None for e in store.entries())


def test_an_ecr_like_registry_refuses_an_expired_token_on_a_hot_blob(new_origin, new_cache, store):
    origin = new_origin(profile=Ecr(store))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    assert pull(cache, origin, blob, Ecr.AUTHORIZATION) == (200, True)
    for authorization in ("Basic QVdTOmV4cGlyZWQ=", "Bearer x"):
        for method in ("GET", "HEAD"):
            answer = cache.request(method, blob.target, [("Authorization", authorization)])
            assert answer.status == 401 and DATA[:32] not in answer.body
            assert challenge_of(answer)[0] == "Basic"


def test_a_ghcr_like_registry_s_ping_scope_is_no_scope_to_pull_with(new_origin, new_cache):
    origin = new_origin(profile=Ghcr())
    cache = new_cache(origin)
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    other, _ = origin.image("team/other", "v1", [noise(10)])
    _, ping = challenge_of(cache.get("/v2/"))
    assert ping["scope"] == Ghcr.PLACEHOLDER
    assert token_by(ping, ping["scope"]) == (403, None)
    assert origin.profile.asked == [Ghcr.PLACEHOLDER]  # by this test, not by the cache
    scheme, challenge = challenge_of(cache.get(manifest.tag_target, [ACCEPT]))
    assert (scheme, challenge["scope"]) == ("Bearer", "repository:team/app:pull")
    assert token_by(challenge, "repository:team/app:pull,push") == (403, None)
    _, token = token_by(challenge, challenge["scope"])
    for _ in ("cold", "hot"):
        for thing in (manifest, *blobs):
            assert pull(cache, origin, thing, token) == (200, True)
        assert pull(cache, origin, other, token) == (403, False)
    stale = cache.get(blobs[1].target, [("Authorization", "Bearer of-last-year")])
    assert challenge_of(stale)[1]["error"] == "invalid_token"


def test_a_harbor_like_registry_s_basic_challenge_reaches_the_holder_of_an_expired_token(new_origin,
                                                                                        new_cache):
    """nydus asks again without a credential: it must find the Bearer challenge then."""
    origin = new_origin(profile=Harbor())
    cache = new_cache(origin)
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    _, challenge = challenge_of(cache.get(manifest.tag_target, [ACCEPT]))
    _, old = token_by(challenge, challenge["scope"])
    for thing in (manifest, *blobs):
        assert pull(cache, origin, thing, old) == (200, True)
    origin.profile.expired.add(old.removeprefix("Bearer "))
    for _ in range(2):
        answer = cache.get(blobs[1].target, [("Authorization", old)])
        assert (answer.status, challenge_of(answer)[0]) == (401, "Basic")
        assert DATA[:32] not in answer.body
        scheme, challenge = challenge_of(cache.get(blobs[1].target))
        assert (scheme, challenge["scope"]) == ("Bearer", "repository:team/app:pull")
    _, new = token_by(challenge, challenge["scope"])
    assert pull(cache, origin, blobs[1], new) == (200, True)
    assert len(origin.fetches(blobs[1])) <= 3  # the bytes once; what was refused, by GET too
    assert sum(e.sent for e in origin.entries(blobs[1])) == blobs[1].size


def test_a_docker_hub_like_quota_is_spent_once(new_origin, new_cache):
    origin = new_origin(profile=DockerHub(quota=2))
    cache = new_cache(origin)
    manifest, blobs = origin.image("library/app", "v1", [DATA])
    for n in range(5):
        answer = cache.get(manifest.tag_target, [ACCEPT])
        assert (answer.status, answer.body) == (200, manifest.data)
        assert answer.header("ratelimit-limit") == "2;w=21600"
        assert answer.header("ratelimit-remaining") == "1;w=21600", n
        assert answer.header("docker-ratelimit-source") == "192.0.2.7"
        cache.fetch(blobs[1])
    assert origin.profile.left == 1 and len(origin.gets(manifest)) == 1


def test_who_has_no_quota_left_still_pulls_what_is_here(new_origin, new_cache):
    origin = new_origin(profile=DockerHub(quota=1))
    cache = new_cache(origin)
    manifest, _ = origin.image("library/app", "v1", [DATA])
    other, _ = origin.image("library/other", "v1", [noise(20)])
    assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
    assert origin.profile.left == 0
    for target in (manifest.tag_target, manifest.target):
        answer = cache.get(target, [ACCEPT])
        assert (answer.status, answer.body) == (200, manifest.data)
        assert answer.header("ratelimit-remaining") == "0;w=21600"
    refused = cache.get(other.tag_target, [ACCEPT])
    assert (refused.status, refused.header("Retry-After")) == (429, "60")
    assert refused.error_code() == "TOOMANYREQUESTS"
