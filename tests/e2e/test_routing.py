"""From Host and path to an upstream."""
import pytest
from harness import noise
from script import Answer, digest_of

RULE = {"regex": r"^port-([0-9]+)\.cache\.test(:[0-9]+)?$", "host": "127.0.0.1:$group1",
        "scheme": "http"}


@pytest.fixture
def pair(new_origin):
    """Two origins with another manifest under the same tag."""
    out = []
    for n in range(2):
        o = new_origin()
        o.manifest("team/app", "v1", b'{"schemaVersion":2,"n":%d}' % n)
        out.append(o)
    return out


def by_tag(cache, **more):
    return cache.get("/v2/team/app/manifests/v1", [("Accept", "*/*")], **more)


def test_the_first_rule_that_matches_host_names_the_upstream(new_cache, pair):
    cache = new_cache(server={"upstreamRules": [RULE]})
    for n, o in enumerate(pair):
        for suffix in ("", ":7000"):
            answer = by_tag(cache, host=f"port-{o.port}.cache.test{suffix}")
            assert (answer.status, answer.json()["n"]) == (200, n)


def test_host_is_compared_without_case(new_cache, pair):
    cache = new_cache(server={"upstreamRules": [RULE]})
    assert by_tag(cache, host=f"PORT-{pair[1].port}.Cache.TEST").json()["n"] == 1


def test_rules_are_tried_in_order_and_the_default_is_last(new_cache, pair):
    rules = [{"regex": "^special$", "host": pair[1].host, "scheme": "http"},
             {"regex": "^spec", "host": "127.0.0.1:1", "scheme": "http"}]
    cache = new_cache(pair[0], server={"upstreamRules": rules})
    assert by_tag(cache, host="special").json()["n"] == 1
    assert by_tag(cache, host="spectacle").status == 502
    assert by_tag(cache, host="anything").json()["n"] == 0
    assert by_tag(cache).json()["n"] == 0


def test_an_unknown_host_without_a_default_is_404(new_cache, pair):
    cache = new_cache(server={"upstreamRules": [RULE]})
    answer = by_tag(cache, host="elsewhere.test")
    assert answer.status == 404 and answer.error_code() == "NAME_UNKNOWN"
    assert all(o.entries() == [] for o in pair)


def test_the_upstream_sees_its_own_name_as_host(new_cache, pair):
    cache = new_cache(server={"upstreamRules": [RULE]})
    by_tag(cache, host=f"port-{pair[0].port}.cache.test")
    assert {e.header("Host") for e in pair[0].entries()} == {pair[0].host}


def test_the_same_digest_from_two_upstreams_is_stored_once(new_cache, new_origin):
    first, second = new_origin(), new_origin()
    rules = [{"regex": "^second$", "host": second.host, "scheme": "http"}]
    cache = new_cache(first, server={"upstreamRules": rules})
    blob, twin = first.blob("team/app", noise(1000)), second.blob("other/name", noise(1000))
    cache.fetch(blob)
    answer = cache.get(twin.target, host="second")
    assert (answer.status, answer.body) == (200, twin.data)
    assert len(cache.objects()) == 1 and second.fetches(twin) == []


def test_a_capture_that_makes_no_host_is_400(new_cache, pair):
    rule = {"regex": r"^(.*)\.cache\.test$", "host": "$group1", "scheme": "http"}
    cache = new_cache(server={"upstreamRules": [rule]})
    for host in ("a@b.cache.test", "a/b.cache.test", "a b.cache.test", "a?b.cache.test",
                 ".cache.test"):
        assert by_tag(cache, host=host).status == 400, host


@pytest.mark.parametrize("query, sent",
                         [("?ns=docker.io", ""), ("?ns=a%3A5000&n=3", "?n=3"),
                          ("?n=3&ns=x", "?n=3"),
                                         ("?ns=a&ns=b", ""), ("?nsx=1", "?nsx=1"),
                          ("?n=1&ns=a&last=b", "?n=1&last=b")])
def test_ns_is_never_sent_upstream(cache, origin, query, sent):
    origin.pages["/v2/team/app/tags/list"] = (200, (), b"{}")
    origin.manifest("team/app", "v1", b"{}")
    assert cache.get("/v2/team/app/tags/list" + query).status == 200
    assert origin.gets()[-1].target == "/v2/team/app/tags/list" + sent
    assert cache.get("/v2/team/app/manifests/v1" + query).status == 200
    assert all("ns=" not in e.target for e in origin.entries())


def test_ns_names_no_host_to_connect_to(cache, origin, new_origin):
    other = new_origin()
    manifest = origin.manifest("team/app", "v1", b"{}")
    cache.get(f"{manifest.tag_target}?ns={other.host}")
    assert other.entries() == []


TRICKS = ["/v2/../etc/passwd", "/v2/team/../../app/manifests/v1", "/v2/team%2Fapp/manifests/v1",
          "/v2/team/app/manifests/..%2F..%2Fx", "/v2/team/app/manifests/%00",
          "/v2/%2e%2e/app/manifests/v1",
          "/v2/team/app/blobs/sha256:" + "A" * 64, "/v2/team/app/blobs/sha256:" + "a" * 63,
          "/v2/team/app/blobs/sha512:" + "a" * 64, "/v2/Team/app/manifests/v1",
          "/v2//app/manifests/v1",
          "/v2/team/app-/manifests/v1", "/v2/team/app/blobs/sha256:../../../../etc/passwd"]


@pytest.mark.parametrize("target", TRICKS)
def test_a_path_trick_is_400_and_goes_nowhere(cache, origin, target):
    assert cache.get(target).status == 400
    assert origin.entries() == []
    assert cache.objects() == []


@pytest.mark.parametrize("repository",
                         ["a", "a/b/c/d/e", "a/blobs/b", "a/manifests/b", "blobs",
                          "my_repo__x/a.b-c--d",
                                        "blobs/uploads"])
def test_every_repository_name_of_the_grammar_works(cache, origin, repository):
    blob, manifest = origin.blob(repository, b"bytes"), origin.manifest(repository, "V1_x.y-z",
                                                                        b"{}")
    for _ in ("cold", "hot"):
        cache.fetch(blob)
        assert cache.get(manifest.tag_target, [("Accept", "*/*")]).body == b"{}"
        assert cache.get(manifest.target, [("Accept", "*/*")]).body == b"{}"
    assert len(origin.fetches(blob)) == 1


def test_what_is_not_below_v2_is_the_upstream_s_to_answer(cache, origin):
    for target in ("/", "/etc/passwd", "/v1/x", "/v22/"):
        answer = cache.get(target)
        assert answer.status == 404, target
        assert answer.json()["errors"][0]["detail"] == {"port": origin.port}
        assert origin.gets()[-1].target == target
    assert cache.objects() == []


def test_a_manifest_under_blobs_is_passed_to_the_upstream_s_judgement(cache, origin):
    """containerd may try it; the upstream says 404, and so do we, though we have the digest."""
    manifest = origin.manifest("team/app", "v1", b"{}")
    cache.fetch(manifest)
    assert cache.get(f"/v2/team/app/blobs/{manifest.digest}").status == 404


def test_an_absolute_target_is_understood(cache, origin):
    blob = origin.blob("team/app", b"bytes")
    with cache.connect() as c:
        assert c.request("GET", f"http://127.0.0.1:{cache.port}{blob.target}").body == b"bytes"


def test_a_digest_that_nobody_has_is_the_upstream_s_404(cache, origin):
    for _ in range(2):
        answer = cache.get(f"/v2/team/app/blobs/{digest_of(b'nothing')}")
        assert answer.status == 404 and answer.error_code() == "BLOB_UNKNOWN"
    blob = origin.blob("team/app", b"nothing")
    cache.fetch(blob)


def test_an_upstream_that_fails_for_one_host_leaves_the_other_alone(new_cache, pair):
    cache = new_cache(server={"upstreamRules": [RULE]})
    pair[0].tags["team/app"]["v1"].answer = pair[0].tags["team/app"]["v1"].head = Answer(status=404)
    assert by_tag(cache, host=f"port-{pair[0].port}.cache.test").status == 404
    assert by_tag(cache, host=f"port-{pair[1].port}.cache.test").status == 200
