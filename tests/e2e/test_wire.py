"""Odd but documented answers of registries, and what becomes of them (tests/wire.tsv names the
items): statuses, error bodies, fields, referrers, representations by Accept."""
import gzip
import json
import re
import subprocess
import threading

import pytest
from client import MIB, Body
from harness import BINARY, noise
from script import (DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, OCTETS, Access, Answer, basic,
                    digest_of)

DATA = noise(100_000, 41)
ALICE = basic("alice", "a-secret")
HTML = ("Content-Type", "text/html; charset=utf-8")
JSON = ("Content-Type", "application/json")
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
REFERRERS = f"/v2/team/app/referrers/{digest_of(b'subject')}"
TAGS = "/v2/team/app/tags/list"


def by_accept(cache, target, *lines, method="GET"):
    return cache.request(method, target, [("Accept", a) for a in lines])


# --- statuses: WIRE.md section 5 ---------------------------------------------------------------


STATUSES = [(408, 504), (500, 503), (503, 503), (502, 502), (504, 502), (507, 502), (300, 502),
            (304, 502), (305, 502), (302, 502), (204, 502)]


@pytest.mark.parametrize("status, answered", STATUSES)
@pytest.mark.parametrize("kind", ["hot blob", "manifest by tag", "manifest by digest"])
def test_a_status_that_says_nothing_of_the_object_becomes_a_server_error(new_cache, origin, status,
                                                                       answered, kind):
    cache = new_cache(origin, server={"upstreamTimeout": "2s"})
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    thing = origin.blob("team/app", DATA) if "blob" in kind else manifest
    target = manifest.tag_target if "tag" in kind else thing.target
    accept = [("Accept", OCI_MANIFEST)]
    assert cache.get(target, accept).body == thing.data
    thing.head = thing.answer = Answer(status=status)
    for method in ("HEAD", "GET"):
        answer = cache.request(method, target, accept)
        assert (answer.status, answer.complete) == (answered, True), method
        assert thing.data not in (answer.body or b"-")
    assert answer.json()["errors"] and answer.header("Location") is None
    thing.head, thing.answer = None, Answer()
    assert cache.get(target, accept).body == thing.data


@pytest.mark.parametrize("status, answered", STATUSES[:-1])
@pytest.mark.parametrize("target", ["/v2/", TAGS, REFERRERS], ids=["ping", "tags", "referrers"])
def test_a_list_s_status_is_mapped_as_an_object_s(standing, status, answered, target):
    cache, origin = standing
    origin.pages[target] = (status, (JSON,), b"" if status == 304 else b'{"errors":[]}')
    with cache.connect() as c:
        answer = c.request("GET", target)
        assert (answer.status, answer.complete) == (answered, True)
        assert c.request("HEAD", target).status == answered
        assert "errors" in answer.json()


def test_a_condition_on_a_list_may_be_answered_with_304(standing):
    cache, origin = standing
    origin.pages[TAGS] = (304, (("ETag", '"a"'),), b"")
    with cache.connect() as c:
        answer = c.request("GET", TAGS, [("If-None-Match", '"a"')])
        assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", '"a"')
        assert c.request("GET", TAGS).status == 502


def test_the_state_of_an_upload_is_204_with_its_location(standing):
    cache, origin = standing
    state = "/v2/team/app/blobs/uploads/u7"
    origin.pages[state] = (204, (("Location", f"{origin.url}{state}?s=1"), ("Range", "0-99")), b"")
    with cache.connect() as c:
        answer = c.request("GET", state)
        assert (answer.status, answer.header("Range")) == (204, "0-99")
        assert answer.header("Location") == f"http://127.0.0.1:{cache.port}{state}?s=1"
        assert c.request("GET", "/v2/").status == 200


@pytest.mark.parametrize("status, code", [(400, "UNSUPPORTED"), (401, "UNAUTHORIZED"),
                                          (403, "DENIED"), (404, "NAME_UNKNOWN"), (410, "GONE"),
                                          (418, "TEAPOT"), (451, "LEGAL")])
@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_a_refusal_is_relayed_byte_by_byte(standing, status, code, kind):
    """Also when it is no JSON: podman tells "no signature" by what it can parse (10.1)."""
    cache, origin = standing
    digest = digest_of(DATA)
    for body, content_type in ((json.dumps({"errors": [{"code": code}]}, indent=3).encode(),
                                "application/json"), (b"<html>no\r\n</html>", "text/html")):
        path = f"/v2/team/app/{kind}/{digest}"
        origin.pages[path] = (status, (("Content-Type", content_type), ("X-Own", "1")), body)
        answer = cache.get(path)
        assert (answer.status, answer.body) == (status, body)
        assert answer.header("Content-Type") == content_type and answer.header("X-Own") == "1"
        head = cache.head(path)
        assert (head.status, head.body) == (status, b"")


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_a_429_is_relayed_byte_by_byte(cache, origin, kind):
    path, body = f"/v2/team/app/{kind}/{digest_of(DATA)}", b'{ "errors": [ {"code":"MINE"} ] }'
    origin.pages[path] = (429, (("Content-Type", "application/json"), ("X-Own", "1"),
                                ("Retry-After", "600")), body)
    answer = cache.get(path)
    assert (answer.status, answer.body, answer.header("X-Own")) == (429, body, "1")
    head = cache.head(path)
    assert (head.status, head.body) == (429, b"")


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_refusal_without_a_body_is_given_one(cache, origin, status):
    path = f"/v2/team/app/manifests/{digest_of(DATA)}"
    origin.pages[path] = (status, (), b"")
    answer = cache.get(path)
    assert answer.status == status and answer.header("Content-Type") == "application/json"
    assert answer.error_code() in ("UNAUTHORIZED", "DENIED", "MANIFEST_UNKNOWN", "TOOMANYREQUESTS")


# --- login pages -------------------------------------------------------------------------------


@pytest.mark.parametrize("by_redirect", [False, True], ids=["at-once", "by-redirect"])
@pytest.mark.parametrize("what", ["tag", "digest", "hot blob", "tags", "referrers", "ping"])
def test_a_login_page_with_200_is_never_a_success(cache, origin, new_origin, by_redirect, what):
    if what == "ping" and not by_redirect:
        pytest.skip("Quay's own answer to an allowed ping is text/html")
    sso = new_origin()
    page = b"<html>log in</html>" + bytes(500)
    sso.pages["/login"] = (200, (HTML,), page)
    manifest, blob = origin.manifest("team/app", "v1", b'{"schemaVersion":2}'), origin.blob(
        "team/app", DATA)
    cache.fetch(blob)
    target = {"tag": manifest.tag_target, "digest": manifest.target, "hot blob": blob.target,
              "tags": TAGS, "referrers": REFERRERS, "ping": "/v2/"}[what]
    origin.pages[target] = (302, (("Location", f"{sso.url}/login"),), b"") if by_redirect else (
        200, (HTML,), page)
    for method in ("HEAD", "GET"):
        answer = cache.request(method, target, [("Accept", OCI_MANIFEST), ("Authorization", ALICE)])
        assert answer.status == (404 if what == "referrers" and not by_redirect else 502), method
        assert b"<html>" not in answer.body and DATA[:32] not in answer.body
    assert all(e.header("Authorization") is None for e in sso.entries())


# --- fields: WIRE.md 2.4, 4.3 ------------------------------------------------------------------


QUOTA = (("Warning", '299 - "this registry closes"'), ("ratelimit-limit", "100;w=21600"),
         ("RateLimit-Remaining", "76;w=21600"), ("docker-ratelimit-source", "192.0.2.7"))
NOT_FOR_CLIENTS = (("Set-Cookie", "session=1"), ("Alt-Svc", 'h3=":443"'),
                   ("Strict-Transport-Security", "max-age=1"),
                   ("X-Registry-Supports-Signatures", "1"), ("Location", "http://elsewhere.test/"),
                   ("Docker-Distribution-Api-Version", "registry/9.9"))


def check_fields(answer, quota=True):
    for name, value in QUOTA if quota else ():
        assert answer.header(name) == value, name
    for name, _ in NOT_FOR_CLIENTS[:-1]:
        assert answer.header(name) is None, name
    assert answer.header("Docker-Distribution-Api-Version") == "registry/2.0"


@pytest.mark.parametrize("by", ["tag", "digest", "blob"])
def test_warnings_and_quotas_are_told_and_what_is_not_for_clients_is_not(cache, origin, by):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    thing = origin.blob("team/app", DATA) if by == "blob" else manifest
    target = manifest.tag_target if by == "tag" else thing.target
    thing.head = thing.answer = Answer(headers=(*QUOTA, *NOT_FOR_CLIENTS[:-1]))
    for method in ("GET", "GET", "HEAD"):
        answer = cache.request(method, target, [("Accept", OCI_MANIFEST)])
        assert answer.status == 200, method
        check_fields(answer)
    ranged = cache.get(target, [("Accept", OCI_MANIFEST), ("Range", "bytes=0-3")])
    assert ranged.status == 206
    check_fields(ranged)


def test_one_client_s_quota_is_not_told_to_another(new_origin, new_cache):
    origin = new_origin()
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    blob.answer = Answer(headers=QUOTA)
    check_fields(cache.get(blob.target))
    answer = cache.get(blob.target, [("Authorization", ALICE)])  # its own check tells nothing
    assert answer.body == DATA and answer.header("ratelimit-limit") is None


@pytest.mark.parametrize("status", [401, 403, 404, 429])
@pytest.mark.parametrize("target", ["/v2/", TAGS, f"/v2/team/app/manifests/{digest_of(DATA)}"],
                         ids=["ping", "tags", "manifest"])
def test_a_refusal_s_fields_are_told_but_those_that_are_not_for_clients(cache, origin, status,
                                                                        target):
    fields = (*QUOTA, ("Retry-After", "9"), *NOT_FOR_CLIENTS[:-1])
    origin.pages[target] = (status, (*fields, JSON), b'{"errors":[]}')
    answer = cache.get(target)
    assert (answer.status, answer.header("Retry-After")) == (status, "9")
    check_fields(answer)


def test_a_challenge_keeps_its_error_and_its_lines(cache, origin):
    """containerd repeats a token up to five times unless `error=` ends it; one challenge a line."""
    lines = ['Bearer realm="https://auth.test/token",service="s",scope="repository:team/app:pull",'
             'error="invalid_token"', 'Basic realm="a, b"', "Negotiate"]
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    headers = tuple(("WWW-Authenticate", v) for v in lines)
    blob.head = blob.answer = Answer(status=401, headers=headers)
    for target in (blob.target, "/v2/"):
        origin.pages["/v2/"] = (401, headers, b"")
        for authorization in ("Bearer old", "Bearer old", None):
            more = [("Authorization", authorization)] if authorization else []
            answer = cache.get(target, more)
            assert answer.status == 401 and answer.values("WWW-Authenticate") == lines


# --- referrers and signatures: WIRE.md 10.1 ----------------------------------------------------


@pytest.mark.parametrize("status", [400, 405, 501])
def test_an_upstream_without_referrers_is_404_whatever_it_says(standing, status):
    cache, origin = standing
    origin.pages[REFERRERS] = (status, (("Allow", "POST"), ("Content-Type", "text/plain")), b"?")
    with cache.connect() as c:
        answer = c.request("GET", REFERRERS + "?artifactType=a%2Fb")
        assert answer.status == 404 and answer.error_code() == "UNSUPPORTED"
        assert answer.header("Content-Type") == "application/json"
        assert answer.header("Allow") is None
        head = c.request("HEAD", REFERRERS)
        assert (head.status, head.body) == (404, b"")


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "text/plain", None])
def test_what_is_no_index_is_no_list_of_referrers(standing, content_type):
    cache, origin = standing
    headers = (("Content-Type", content_type),) if content_type else ()
    origin.pages[REFERRERS] = (200, headers, b'{"schemaVersion":2,"manifests":[]}')
    answer = cache.get(REFERRERS)
    assert answer.status == 404 and answer.error_code() == "UNSUPPORTED"


def test_a_list_of_referrers_has_exactly_the_index_s_type(standing):
    cache, origin = standing
    index = b'{"schemaVersion":2,"manifests":[]}'
    for sent in (OCI_INDEX, OCI_INDEX + "; charset=utf-8", OCI_INDEX.upper()):
        origin.pages[REFERRERS] = (200, (("Content-Type", sent),), index)
        answer = cache.get(REFERRERS)
        assert (answer.status, answer.body) == (200, index)
        assert answer.header("Content-Type") == OCI_INDEX


def test_referrers_of_no_digest_are_400_and_not_asked_for(standing):
    cache, origin = standing
    for reference in ("sha256:abc", "latest", "sha256:" + "A" * 64):
        answer = cache.get(f"/v2/team/app/referrers/{reference}")
        assert answer.status == 400 and answer.error_code() == "DIGEST_INVALID", reference
    assert origin.entries() == []


@pytest.mark.parametrize("suffix", ["sig", "att", "sbom"])
def test_a_signature_is_seen_straight_after_signing(cache, origin, suffix):
    image = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    tag = f"{image.digest.replace(':', '-')}.{suffix}"
    target = f"/v2/team/app/manifests/{tag}"
    for method in ("HEAD", "GET", "GET"):
        answer = by_accept(cache, target, OCI_MANIFEST, method=method)
        assert answer.status == 404
    assert answer.error_code() == "MANIFEST_UNKNOWN"
    first = origin.manifest("team/app", tag, b'{"schemaVersion":2,"layers":[]}')
    assert by_accept(cache, target, OCI_MANIFEST).body == first.data
    second = origin.manifest("team/app", tag, b'{"schemaVersion":2,"layers":[],"annotations":{}}')
    assert by_accept(cache, target, OCI_MANIFEST).body == second.data


def test_referrers_are_seen_straight_after_signing(standing):
    cache, origin = standing
    assert cache.get(REFERRERS).status == 404
    origin.pages[REFERRERS] = (200, (("Content-Type", OCI_INDEX),), b'{"manifests":[]}')
    assert cache.get(REFERRERS).status == 200


def test_a_404_of_one_client_is_not_another_s(new_origin, new_cache):
    bob = basic("bob", "b")
    origin = new_origin(access=Access({ALICE: ["team/app"], bob: ["other"]}, denial=404))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    for _ in ("cold", "hot"):
        assert cache.get(blob.target, [("Authorization", bob)]).status == 404
        assert cache.get(blob.target, [("Authorization", ALICE)]).body == DATA


# --- documents: WIRE.md 3.1, 8 -----------------------------------------------------------------


def document(media_type, **more):
    """With odd white space and order: whoever writes it again gives other bytes."""
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, **more}, indent=3,
                      separators=(" ,", ":  ")).encode() + b"\n\n"


DOCUMENTS = {
    "docker schema 2": (DOCKER_MANIFEST, document(DOCKER_MANIFEST)),
    "docker list": (DOCKER_LIST, document(DOCKER_LIST, manifests=[])),
    "docker schema 1": (SCHEMA_1,
                        b'{\n   "schemaVersion": 1,\n   "signatures": [{"p":"\\u00e9"}]\n}'),
    "oci manifest": (OCI_MANIFEST, document(OCI_MANIFEST)),
    "oci index": (OCI_INDEX, document(OCI_INDEX, manifests=[])),
    "artifact": (ARTIFACT, document(ARTIFACT, artifactType="a/b", blobs=[])),
    "a type of the future": ("application/vnd.example.v9+cbor", b"\xa1\x00\xff"),
    "no media type inside": (OCI_MANIFEST, b'{"schemaVersion":2 , "layers":[]}'),
}


@pytest.mark.parametrize("media_type, data", DOCUMENTS.values(),
                         ids=[k.replace(" ", "-") for k in DOCUMENTS])
def test_a_document_comes_back_byte_by_byte_with_its_type(cache, origin, media_type, data):
    manifest = origin.manifest("team/app", "v1", data, media_type)
    for target in (manifest.tag_target, manifest.target):
        for method in ("GET", "HEAD", "GET"):
            answer = by_accept(cache, target, media_type, method=method)
            assert answer.status == 200
            assert answer.header("Content-Type") == media_type
            assert answer.header("Docker-Content-Digest") == manifest.digest
            assert answer.header("Content-Length") == str(len(data))
            assert answer.body == (data if method == "GET" else b"")
    cache.check_objects()


def test_a_head_that_says_a_length_of_nothing_is_no_word_on_the_size(cache, origin):
    """Proxies that drop a body count what is left of it."""
    blob = origin.blob("team/app", DATA)
    blob.head = Answer(body=Body(b""))
    for _ in ("cold", "hot"):
        cache.fetch(blob)
    assert len(origin.fetches(blob)) == 1
    blob.head = Answer(body=Body(b"another"))
    assert cache.get(blob.target).status == 502  # that is a word, and not on this object


@pytest.mark.parametrize("says_its_digest", [True, False])
def test_a_signed_manifest_of_schema_1_passes_with_the_digest_of_what_was_signed(cache, origin, says_its_digest):
    """Registries name it by its payload without the signatures (manifest/schema1 of distribution), which clients know."""
    payload = b'{\n   "schemaVersion": 1,\n   "fsLayers": []'
    manifest = origin.manifest("team/app", "v1", payload + b',\n   "signatures": [{"header": {}}]\n}', SCHEMA_1)
    del origin.things[manifest.target]
    manifest.digest = digest_of(payload + b"\n}")
    origin.things[manifest.target] = manifest
    if not says_its_digest:
        manifest.head = manifest.answer = Answer(digest_header=False)
    for target in (manifest.tag_target, manifest.target):
        for method in ("GET", "HEAD", "GET"):
            answer = by_accept(cache, target, SCHEMA_1, method=method)
            assert (answer.status, answer.header("Content-Type")) == (200, SCHEMA_1), (target, method)
            assert answer.header("Content-Length") == str(manifest.size)
            assert answer.body == (manifest.data if method == "GET" else b"")
            if says_its_digest:
                assert answer.header("Docker-Content-Digest") == manifest.digest
    assert cache.objects() == []


@pytest.mark.parametrize("name", ["docker schema 2", "docker list", "docker schema 1", "oci index",
                                  "artifact"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_document_whose_type_the_registry_leaves_out_is_given_its_own(cache, origin, name, by):
    media_type, data = DOCUMENTS[name]
    if name == "docker schema 1":  # it never says it
        data = b'{"schemaVersion":1,"name":"a","fsLayers":[],"history":[],"signatures":[{}]}'
    manifest = origin.manifest("team/app", "v1", data, media_type)
    manifest.head = manifest.answer = Answer(content_type="")
    target = manifest.tag_target if by == "tag" else manifest.target
    for method in ("HEAD", "GET", "HEAD", "GET"):
        answer = by_accept(cache, target, "*/*", method=method)
        assert (answer.status, answer.header("Content-Type")) == (200, media_type), method
        assert answer.header("Content-Length") == str(len(data))
        assert answer.header("Docker-Content-Digest") == manifest.digest


@pytest.mark.parametrize("said", ["sha256:abc", "nonsense", "", "sha256:" + "A" * 64,
                                  digest_of(b"other")[:-1] + "g"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_malformed_digest_is_replaced_by_the_right_one(cache, origin, said, by):
    """containerd ends a pull on one, without asking the next host (4.1)."""
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.head = manifest.answer = Answer(digest_header=False,
                                             headers=(("Docker-Content-Digest", said),))
    target = manifest.tag_target if by == "tag" else manifest.target
    for method in ("HEAD", "GET", "HEAD"):
        answer = by_accept(cache, target, OCI_MANIFEST, method=method)
        assert (answer.status, answer.header("Docker-Content-Digest")) == (200, manifest.digest)


def test_each_accept_gets_its_own_representation_of_a_tag(cache, origin):
    """One tag is an index for who takes one, and a manifest for who does not."""
    index = origin.manifest("team/app", "index", document(OCI_INDEX, manifests=[]), OCI_INDEX)
    plain = origin.manifest("team/app", "plain", document(DOCKER_MANIFEST), DOCKER_MANIFEST)

    class ByAccept:
        def answers(self, exchange, _):
            accept = ", ".join(exchange.entry.values("Accept"))
            if exchange.path.endswith("/manifests/v1"):
                exchange.serve(index if OCI_INDEX in accept else plain)
                return True
            return False

    origin.profile = ByAccept()
    for _ in range(2):
        for lines, wanted in (([OCI_MANIFEST, OCI_INDEX], index), ([DOCKER_MANIFEST], plain)):
            answer = by_accept(cache, "/v2/team/app/manifests/v1", *lines)
            assert answer.body == wanted.data
            assert answer.header("Content-Type") == wanted.media_type
            assert answer.header("Docker-Content-Digest") == wanted.digest


def test_the_404_of_an_accept_that_lacks_the_type_is_relayed_also_when_hot(cache, origin):
    """Docker Hub's and Harbor's "OCI manifest found, but accept header …", by tag and digest."""
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.needs_accept = True
    docker = [DOCKER_LIST, DOCKER_MANIFEST, SCHEMA_1]
    for target in (manifest.tag_target, manifest.target) * 2:
        answer = by_accept(cache, target, *docker)
        assert answer.status == 404 and answer.error_code() == "MANIFEST_UNKNOWN"
        assert "accept header" in answer.json()["errors"][0]["message"]
        assert by_accept(cache, target, *docker, OCI_MANIFEST).body == manifest.data
        assert by_accept(cache, target, *docker, method="HEAD").status == 404


def test_what_a_get_brings_counts_where_the_tag_has_moved_since_its_head(cache, origin):
    """HEAD says no digest, and the tag moves between the requests that follow (8.3)."""
    old = origin.manifest("team/app", "v1", b'{"schemaVersion":2,"n":1}')
    new = origin.manifest("team/app", "new", b'{"schemaVersion":2,"n":2}')
    old.head = Answer(digest_header=False)
    old.once.append(Answer(digest_header=False))
    old.answer = Answer(body=new.data, digest_header=False)
    for _ in range(3):
        answer = by_accept(cache, old.tag_target, OCI_MANIFEST)
        if answer.status == 200:
            assert answer.header("Docker-Content-Digest") == digest_of(answer.body)
            assert answer.header("Content-Length") == str(len(answer.body))
    assert answer.status == 200 and answer.body == new.data
    cache.check_objects()


def test_a_tag_whose_digest_is_of_an_unknown_algorithm_passes_and_is_not_kept(cache, origin):
    digest = "blake3:" + "ab" * 32
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.head = manifest.answer = Answer(digest_header=False,
                                             headers=(("Docker-Content-Digest", digest),))
    for method in ("HEAD", "GET", "GET"):
        answer = by_accept(cache, manifest.tag_target, OCI_MANIFEST, method=method)
        assert (answer.status, answer.header("Docker-Content-Digest")) == (200, digest)
        assert answer.header("Content-Length") == str(manifest.size)
        assert answer.header("Content-Type") == OCI_MANIFEST
        assert answer.body == (manifest.data if method == "GET" else b"")
    assert cache.objects() == []


def test_the_urls_of_a_foreign_layer_are_never_asked(cache, origin, new_origin):
    """Who writes a manifest would choose what the cache connects to (8.5)."""
    other = new_origin()
    other.raw["/layer"] = other.blob("x", DATA)
    layer = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
             "size": len(DATA), "digest": digest_of(DATA), "urls": [f"{other.url}/layer"]}
    manifest = origin.manifest("team/app", "v1", document(DOCKER_MANIFEST, layers=[layer]),
                               DOCKER_MANIFEST)
    for _ in ("cold", "hot"):
        assert by_accept(cache, manifest.tag_target, DOCKER_MANIFEST).body == manifest.data
        assert cache.get(f"/v2/team/app/blobs/{layer['digest']}").status == 404
    assert other.entries() == []


# --- redirects that are good for GET only: WIRE.md 6.1, 9.1 ------------------------------------


@pytest.mark.parametrize("status", [401, 403, 405, 501])
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_redirect_that_is_signed_for_get_only_works_cold_and_hot(cache, origin, new_origin,
                                                                   status, relative):
    store = origin if relative else new_origin(refuse_authorization=True)
    blob, behind = origin.blob("team/app", DATA), store.blob("bucket", DATA)
    store.raw["/signed/blob"] = behind
    behind.head = Answer(status=status)
    blob.head = blob.answer = Answer(
        status=307, location="/signed/blob?s=1" if relative else f"{store.url}/signed/blob?s=1")
    for _ in ("cold", "hot", "hot"):
        cache.fetch(blob, [("Authorization", ALICE)])
        answer = cache.head(blob.target, [("Authorization", ALICE)])
        assert (answer.status, answer.header("Content-Length")) == (200, str(len(DATA)))
        assert answer.header("Docker-Content-Digest") == blob.digest
    assert len(store.fetches(behind)) == 1
    if not relative:
        assert store.entries() and all(e.header("Authorization") is None for e in store.entries())


def test_a_signed_url_is_used_once_and_kept_nowhere(new_cache, origin, new_origin):
    cache = new_cache(origin, log={"level": "trace", "access": True})
    store = new_origin()
    blob, behind = origin.blob("team/app", DATA), store.blob("bucket", DATA)
    store.raw["/signed"] = behind
    for n in range(3):
        blob.head = blob.answer = Answer(status=302, location=f"{store.url}/signed?X-Sig=s3cr3t{n}")
        cache.fetch(blob)
    assert [e.query["X-Sig"] for e in store.entries()] == [[f"s3cr3t{n}"] for n in range(3)]
    cache.stop()
    for path in [cache.log_path, *(p for p in cache.data.rglob("*") if p.is_file())]:
        assert b"s3cr3t" not in path.read_bytes(), path


# --- encodings ---------------------------------------------------------------------------------


def test_nothing_is_encoded_for_a_client_that_takes_it(cache, origin):
    """containerd decodes any Content-Encoding: a tar+gzip layer must come as it is (3.2)."""
    layer = origin.blob("team/app", gzip.compress(DATA))
    accepts = [("Accept-Encoding", "zstd, gzip, deflate")]
    for _ in ("cold", "hot"):
        answer = cache.get(layer.target, accepts)
        assert answer.body == layer.data and answer.header("Content-Encoding") is None
        assert answer.header("Content-Type") == OCTETS
    assert all(e.values("Accept-Encoding") == ["identity"] for e in origin.entries(layer))


# --- methods, connections and herds ------------------------------------------------------------


def test_a_head_is_never_405(new_cache, origin):
    """Not where writing is refused, and not where the registry refuses HEAD (2.1)."""
    cache = new_cache(origin, server={"readOnly": True})
    blob, manifest = origin.blob("team/app", DATA), origin.manifest("team/app", "v1", b"{}")
    blob.head = manifest.head = Answer(status=405)
    for target in (blob.target, manifest.target, manifest.tag_target, "/v2/", "/v2"):
        for _ in ("cold", "hot"):
            assert by_accept(cache, target, OCI_MANIFEST, method="HEAD").status == 200, target
            by_accept(cache, target, OCI_MANIFEST)


def test_a_blob_under_manifests_is_the_upstream_s_to_judge(cache, origin):
    """containerd may try it; that we have the digest says nothing (2.1)."""
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    answer = cache.get(blob.target.replace("/blobs/", "/manifests/"))
    assert answer.status == 404 and answer.error_code() == "MANIFEST_UNKNOWN"


def test_expect_is_not_forwarded(standing):
    """It costs a second at who does not know it (11)."""
    cache, origin = standing
    origin.pages["/v2/_catalog"] = (200, (JSON,), b"{}")
    cache.get("/v2/_catalog", [("Expect", "something")])
    cache.request("POST", "/v2/team/app/blobs/uploads/", body=bytes(5000))
    with cache.connect() as c:
        c.send(c.head("POST", "/token", [("Expect", "100-continue")], length=2000) + bytes(2000))
        assert c.receive().status == 200
    assert len(origin.entries()) == 3
    assert all(e.header("Expect") is None for e in origin.entries())


def test_a_body_whose_length_is_known_is_not_chunked(cache, origin):
    blob, manifest = origin.blob("team/app", DATA), origin.manifest("team/app", "v1", b"{}")
    for _ in ("cold", "hot"):
        for target in (blob.target, manifest.tag_target, "/v2/", TAGS):
            for method in ("GET", "HEAD"):
                answer = by_accept(cache, target, OCI_MANIFEST, method=method)
                assert answer.header("Transfer-Encoding") is None
                assert answer.header("Content-Length") is not None, (method, target)


def test_an_object_that_is_evicted_while_it_is_sent_is_sent_to_its_end(cache, origin):
    blob = origin.blob("team/app", noise(16 * MIB, 42))
    cache.fetch(blob)
    with cache.connect(receive_buffer=8192) as c:
        c.ask("GET", blob.target)
        answer = c.receive_head()
        cache.object_path(blob.digest).unlink()
        c.receive_body(answer)
        assert answer.complete and answer.body == blob.data
    cache.fetch(blob)  # and it is fetched again, unseen
    assert len(origin.fetches(blob)) == 2


def test_a_layer_that_is_evicted_between_its_manifest_and_itself_is_fetched_again(cache, origin):
    """Clients that chose this mirror by its manifest have no other for the layers (5.3)."""
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    cache.fetch(blobs[1])
    assert by_accept(cache, manifest.tag_target, OCI_MANIFEST).body == manifest.data
    cache.object_path(blobs[1].digest).unlink()
    cache.fetch(blobs[1])
    assert len(origin.fetches(blobs[1])) == 2


def test_an_idle_connection_is_kept_longer_than_any_client_keeps_it(cache):
    """BuildKit closes after 120 s, and the cache must not be the first (11)."""
    done = subprocess.run([BINARY, "-c", str(cache.config_path), "--print-config"], text=True,
                          capture_output=True, check=True)
    printed = re.search(r"keepAliveTimeout: (?:(\d+)m)?(?:(\d+)s)?\n", done.stdout)
    assert 60 * int(printed[1] or 0) + int(printed[2] or 0) > 120


def test_a_herd_of_checks_for_one_manifest_shares_no_answer_between_accepts(cache, origin):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.needs_accept = True
    by_accept(cache, manifest.target, OCI_MANIFEST)
    results = []

    def ask(accept, wanted):
        results.append((by_accept(cache, manifest.target, accept).status, wanted))

    herd = [threading.Thread(target=ask, args=pair)
            for pair in [(OCI_MANIFEST, 200), (DOCKER_MANIFEST, 404)] * 15]
    for t in herd:
        t.start()
    for t in herd:
        t.join()
    assert len(results) == 30 and all(got == wanted for got, wanted in results)
