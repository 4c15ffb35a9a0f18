"""What the OCI distribution specification asks of a registry that is read from ("Pull" and "Content
Discovery"), through the cache: of a cold one and of a hot one."""
import json

import pytest
from client import Body
from harness import noise
from profiles import Conformant
from script import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of

BOTH = (("Accept", OCI_INDEX), ("Accept", OCI_MANIFEST))
ABSENT = digest_of(b"nobody has this")
EMPTY = b"{}"
LAYER = noise(4096, 51)  # of the size that the specification's own suite uses for ranges
SBOM, SIGNATURE = "application/vnd.example.sbom.v1", "application/vnd.example.signature.v1"


def manifest_of(**more):
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(EMPTY),
        "size": len(EMPTY)}, "layers": [], **more}).encode()


class Repository:
    """An image by tag and digest, an index over it, and three artifacts about it."""

    def __init__(self, origin, algorithm="sha256"):
        self.name, self.origin = "conformance/reading", origin
        self.layer = origin.blob(self.name, LAYER, algorithm)
        self.config = origin.blob(self.name, EMPTY, algorithm)
        self.image = origin.manifest(self.name, "image", manifest_of(), OCI_MANIFEST, algorithm)
        subject = {"mediaType": OCI_MANIFEST, "digest": self.image.digest, "size": self.image.size}
        self.index = origin.manifest(self.name, "index", json.dumps({
            "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [subject]
        }).encode(), OCI_INDEX, algorithm)
        self.about = [origin.manifest(self.name, f"about-{n}", manifest_of(
            artifactType=kind, subject=subject, annotations={"n": str(n)}))
                      for n, kind in enumerate((SBOM, SBOM, SIGNATURE))]

    @property
    def manifests(self):
        return [self.image, self.index, *self.about]

    @property
    def base(self):
        return f"/v2/{self.name}"


@pytest.fixture(params=["sha256", "sha512"])
def algorithm(request):
    return request.param


@pytest.fixture
def repository(origin, algorithm):
    origin.profile = Conformant()
    return Repository(origin, algorithm)


@pytest.fixture(params=["cold", "hot"])
def temperature(request, cache, repository):
    """Has the cache all of it, or nothing?"""
    if request.param == "hot":
        for thing in (repository.layer, repository.config):
            cache.fetch(thing)
        for thing in repository.manifests:
            cache.fetch(thing, BOTH)
    return request.param


def check_success(answer, thing, method):
    """Status, digest, length and type of an existing blob or manifest."""
    assert answer.status == 200 and answer.complete
    assert answer.header("Docker-Content-Digest") == thing.digest
    assert answer.header("Content-Length") == str(thing.size)
    assert answer.header("Content-Type") == thing.media_type
    assert answer.body == (thing.data if method == "GET" else b"")


# --- Pull ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_determining_support(cache, repository, method):
    """"Endpoints", end-1."""
    assert cache.request(method, "/v2/").status == 200


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_pulling_blobs(cache, repository, temperature, method):
    """"Pulling blobs" and "Checking if content exists in the registry"."""
    for blob in (repository.layer, repository.config):
        check_success(cache.request(method, blob.target), blob, method)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_pulling_manifests(cache, repository, temperature, method, by):
    """"Pulling manifests" and "Checking if content exists in the registry"."""
    for thing in repository.manifests:
        target = thing.tag_target if by == "tag" else thing.target
        check_success(cache.request(method, target, BOTH), thing, method)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path, code", [("manifests/nosuch", "MANIFEST_UNKNOWN"),
                                        (f"manifests/{ABSENT}", "MANIFEST_UNKNOWN"),
                                        (f"blobs/{ABSENT}", "BLOB_UNKNOWN")])
def test_what_does_not_exist_is_404(cache, repository, temperature, method, path, code):
    """The same sections, and "Error Codes"."""
    answer = cache.request(method, f"{repository.base}/{path}", BOTH)
    assert answer.status == 404
    if method == "GET":
        assert answer.error_code() == code
    else:
        assert answer.body == b""


def test_what_another_repository_has_does_not_exist_here(cache, repository, temperature):
    for thing in (repository.layer, repository.image):
        target = thing.target.replace(repository.name, "conformance/other")
        assert cache.get(target, BOTH).status == 404
        assert cache.head(target, BOTH).status == 404


@pytest.mark.parametrize("reference", ["sha256:totally-wrong", "sha256:" + "A" * 64, "sha256:baeb",
                                       "sha512:" + "a" * 64])
@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_a_digest_that_is_none_is_400_or_404(cache, repository, reference, kind):
    assert cache.get(f"{repository.base}/{kind}/{reference}").status in (400, 404)


def test_a_head_is_not_longer_than_its_head(cache, repository, temperature):
    """RFC 9110 section 9.3.2, on one connection with what follows."""
    with cache.connect() as c:
        for thing in (repository.layer, repository.image):
            check_success(c.request("HEAD", thing.target, BOTH), thing, "HEAD")
            check_success(c.request("GET", thing.target, BOTH), thing, "GET")


def test_a_digest_and_the_bytes_agree(cache, repository, temperature, algorithm):
    for thing in (repository.layer, *repository.manifests):
        answer = cache.get(thing.target, BOTH)
        got = answer.header("Docker-Content-Digest")
        assert digest_of(answer.body, got.split(":")[0]) == got


@pytest.mark.parametrize("value, first, last", [
    ("bytes=500-1499", 500, 1499),       # a piece
    ("bytes=500-", 500, 4095),           # open to its end
    ("bytes=-500", 3596, 4095),          # the last bytes
    ("bytes=2000-5000", 2000, 4095),     # over the end
])
def test_a_range_of_a_blob(cache, repository, temperature, value, first, last):
    """"Pulling blobs": Range by RFC 9110 section 14."""
    answer = cache.get(repository.layer.target, [("Range", value)])
    assert answer.status == 206 and answer.body == Body(LAYER[first:last + 1])
    assert answer.header("Content-Length") == str(last - first + 1)
    assert answer.header("Content-Range") == f"bytes {first}-{last}/{len(LAYER)}"


@pytest.mark.parametrize("value", ["bytes=500-0", "bytes=5000-10000"])
def test_a_range_that_cannot_be(cache, repository, temperature, value):
    answer = cache.get(repository.layer.target, [("Range", value)])
    assert answer.status == 416
    assert answer.header("Content-Range") == f"bytes */{len(LAYER)}"


def test_a_manifest_s_range_is_no_trap(cache, repository, temperature):
    """206 with exactly the bytes, or 200 with all."""
    answer = cache.get(repository.image.target, [*BOTH, ("Range", "bytes=0-9")])
    data = repository.image.data
    assert (answer.status, answer.body) in ((206, data[:10]), (200, data))


# --- Content Discovery --------------------------------------------------------------------------


TAGS = sorted(["image", "index", "about-0", "about-1", "about-2"])


def test_listing_tags(cache, repository, temperature):
    """"Listing Tags": sorted, as JSON."""
    answer = cache.get(f"{repository.base}/tags/list")
    assert answer.status == 200
    assert answer.json() == {"name": repository.name, "tags": TAGS}


@pytest.mark.parametrize("query, tags, more", [
    ("?n=2", TAGS[:2], True), ("?n=0", [], False), ("?n=100", TAGS, False),
    ("?last=about-1", TAGS[2:], False), ("?n=2&last=about-1", TAGS[2:4], True),
    ("?n=2&last=image", TAGS[4:], False), ("?last=zzz", [], False)])
def test_listing_some_tags(cache, repository, query, tags, more):
    answer = cache.get(f"{repository.base}/tags/list{query}")
    assert answer.status == 200 and answer.json()["tags"] == tags
    assert (answer.header("Link") is not None) == more


def follow(cache, target):
    """All pages, by their Link, which must lead back to the cache."""
    while target:
        answer = cache.get(target)
        assert answer.status == 200
        yield answer
        link = answer.header("Link")
        assert link is None or link.endswith('>; rel="next"')
        target = link and link[1:link.index(">")].removeprefix(f"http://127.0.0.1:{cache.port}")
        assert not target or target.startswith("/v2/")


def test_every_page_of_tags_is_reached_by_its_link(cache, repository):
    pages = [a.json()["tags"] for a in follow(cache, f"{repository.base}/tags/list?n=2")]
    assert pages == [TAGS[:2], TAGS[2:4], TAGS[4:]]


def test_the_tags_of_no_repository_are_404(cache, repository):
    answer = cache.get("/v2/conformance/nosuch/tags/list")
    assert answer.status == 404 and answer.error_code() == "NAME_UNKNOWN"


def test_a_new_tag_is_listed_at_once(cache, repository):
    assert "new" not in cache.get(f"{repository.base}/tags/list").json()["tags"]
    repository.origin.manifest(repository.name, "new", manifest_of(annotations={"new": "1"}))
    assert "new" in cache.get(f"{repository.base}/tags/list").json()["tags"]


def check_referrers(answer, things):
    assert answer.status == 200 and answer.header("Content-Type") == OCI_INDEX
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"]) == (2, OCI_INDEX)
    assert [d["digest"] for d in index["manifests"]] == [t.digest for t in things]
    assert all(d["artifactType"] and d["annotations"] for d in index["manifests"])


def test_listing_referrers(cache, repository, temperature):
    """"Listing Referrers"."""
    answer = cache.get(f"{repository.base}/referrers/{repository.image.digest}")
    check_referrers(answer, repository.about)
    assert answer.header("OCI-Filters-Applied") is None


@pytest.mark.parametrize("kind, chosen", [(SBOM, slice(0, 2)), (SIGNATURE, slice(2, 3)),
                                          ("application/vnd.example.none", slice(0, 0))])
@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_listing_referrers_of_one_artifact_type(cache, repository, kind, chosen, slash):
    answer = cache.get(f"{repository.base}/referrers/{repository.image.digest}?artifactType="
                       + kind.replace("/", slash))
    check_referrers(answer, repository.about[chosen])
    assert answer.header("OCI-Filters-Applied") == "artifactType"


def test_a_manifest_without_referrers_has_an_empty_list(cache, repository):
    for digest in (ABSENT, repository.about[0].digest):
        check_referrers(cache.get(f"{repository.base}/referrers/{digest}"), [])


def test_every_page_of_referrers_is_reached_by_its_link(cache, repository):
    repository.origin.profile = Conformant(page=1)
    base = f"{repository.base}/referrers/{repository.image.digest}"
    for query, things in (("", repository.about), (f"?artifactType={SBOM}", repository.about[:2])):
        for answer, thing in zip(follow(cache, base + query), things, strict=True):
            check_referrers(answer, [thing])


@pytest.mark.parametrize("digest", ["sha256:abc", "latest"])
def test_referrers_of_what_is_no_digest_are_400(cache, repository, digest):
    assert cache.get(f"{repository.base}/referrers/{digest}").status == 400


def test_an_artifact_is_pulled_by_what_the_list_says(cache, repository, temperature):
    """From discovery to pull: digest, size and type of a descriptor are those of the answer."""
    index = cache.get(f"{repository.base}/referrers/{repository.image.digest}").json()
    for descriptor in index["manifests"]:
        answer = cache.get(f"{repository.base}/manifests/{descriptor['digest']}", BOTH)
        assert answer.header("Content-Type") == descriptor["mediaType"]
        assert len(answer.body) == descriptor["size"]
        assert answer.json()["subject"]["digest"] == repository.image.digest


def test_the_referrers_tag_schema_works_where_the_api_does_not(cache, origin):
    """"Referrers Tag Schema": 404, then the tag made of the digest."""
    image = origin.manifest("conformance/old", "image", manifest_of())
    assert cache.get(f"/v2/conformance/old/referrers/{image.digest}").status == 404
    listed = origin.manifest("conformance/old", image.digest.replace(":", "-"), json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode(), OCI_INDEX)
    check_success(cache.get(listed.tag_target, BOTH), listed, "GET")


def test_an_image_of_docker_s_is_pulled_as_well(cache, origin):
    """"Content Negotiation": the type is that of the manifest, whatever else is accepted."""
    manifest = origin.manifest("conformance/docker", "v2", b'{"schemaVersion":2}', DOCKER_MANIFEST)
    for method in ("HEAD", "GET", "GET"):
        answer = cache.request(method, manifest.tag_target, [*BOTH, ("Accept", DOCKER_MANIFEST)])
        check_success(answer, manifest, method)
