"""The carriers of a registry's name: Host, ns, a prefix of the repository, a prefix of the path, and
X-Dragonfly-Registry; alone, together and against each other."""
import json

import pytest
from harness import noise
from script import Access, Answer, basic

NAMES = ("one.test", "two.test:5000", "three")
BY_NS, BY_PREFIX, BY_MOUNT, BY_HEADER = "ns", "prefix", "mount", "header"
CARRIERS = (BY_NS, BY_PREFIX, BY_MOUNT, BY_HEADER)
ACCEPT = ("Accept", "*/*")


class Registries:
    """Three origins, another manifest under the same tag in each, and a cache that knows them by
    name. The second has a port in its name, and an alias."""

    def __init__(self, new_origin, new_cache, default=None, **server):
        self.origins = dict(zip(NAMES, (new_origin() for _ in NAMES)))
        for name, o in self.origins.items():
            o.manifest("team/app", "v1", json.dumps({"schemaVersion": 2, "of": name}).encode())
        self.cache = new_cache(default, server={"registries": self.config(), **server})

    def config(self):
        out = {name: {"hosts": [o.host], "scheme": "http"} for name, o in self.origins.items()}
        out["two.test:5000"]["aliases"] = ["two"]
        return out

    def entries(self):
        return [e for o in self.origins.values() for e in o.entries()]


@pytest.fixture
def three(new_origin, new_cache):
    return Registries(new_origin, new_cache)


def component(name):
    return "two" if name == "two.test:5000" else name


def carried(carrier, name, path="/v2/team/app/manifests/v1"):
    """(target, headers) that ask this registry for the path."""
    if carrier == BY_NS:
        return f"{path}{'&' if '?' in path else '?'}ns={name.replace(':', '%3A')}", []
    if carrier == BY_HEADER:
        return path, [("X-Dragonfly-Registry", f"https://{name}")]
    if carrier == BY_MOUNT:
        return f"/{component(name)}{path}", []
    return path.replace("/v2/", f"/v2/{component(name)}/", 1), []


def ask(cache, carrier, name, path="/v2/team/app/manifests/v1", method="GET", **more):
    target, headers = carried(carrier, name, path)
    return cache.request(method, target, [ACCEPT, *headers], **more)


# --- one by one --------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", NAMES)
def test_each_carrier_leads_to_the_registry_that_it_names(three, carrier, name):
    for _ in ("cold", "hot"):
        answer = ask(three.cache, carrier, name)
        assert (answer.status, answer.json()["of"]) == (200, name)
    seen = three.entries()
    assert {e.header("Host") for e in seen} == {three.origins[name].host}
    assert {e.path for e in seen} <= {t for x in three.origins[name].things.values()
                                      for t in (x.target, x.tag_target)}
    for e in seen:
        assert "ns=" not in e.target and e.header("X-Dragonfly-Registry") is None


@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_only_passes_is_stripped_too(three, carrier):
    """Lists and uploads go another way through the cache than objects."""
    origin = three.origins["one.test"]
    origin.pages["/v2/team/app/tags/list"] = (200, (), b'{"tags":["v1"]}')
    assert ask(three.cache, carrier, "one.test", "/v2/team/app/tags/list?n=1").status == 200
    assert origin.entries()[-1].target == "/v2/team/app/tags/list?n=1"
    answer = ask(three.cache, carrier, "one.test", "/v2/team/app/blobs/uploads/", "POST", body=b"")
    assert answer.status == 202 and origin.entries()[-1].target == "/v2/team/app/blobs/uploads/"
    for e in origin.entries():
        assert e.header("X-Dragonfly-Registry") is None
    assert sum(len(o.entries()) for o in three.origins.values()) == len(origin.entries())


@pytest.mark.parametrize("ns, echo", [("one.test", "one.test"), ("ONE.test", "one.test"),
                                      ("two.test%3A5000", "two.test:5000")])
def test_ns_is_echoed_and_only_ns(three, ns, echo):
    answer = three.cache.get(f"/v2/team/app/manifests/v1?ns={ns}", [ACCEPT])
    assert (answer.status, answer.header("OCI-Namespace")) == (200, echo)
    answer = three.cache.get(f"/v2/team/none/manifests/v1?ns={ns}", [ACCEPT])
    assert (answer.status, answer.header("OCI-Namespace")) == (404, echo)
    for carrier in (BY_PREFIX, BY_MOUNT, BY_HEADER):
        assert ask(three.cache, carrier, "one.test").header("OCI-Namespace") is None


def test_the_same_blob_by_every_carrier_is_fetched_once(new_origin, new_cache):
    site = Registries(new_origin, new_cache)
    blob = site.origins["one.test"].blob("team/app", noise(100_000))
    for carrier in CARRIERS:
        answer = ask(site.cache, carrier, "one.test", blob.target)
        assert (answer.status, answer.body) == (200, blob.data)
    assert len(site.origins["one.test"].fetches(blob)) == 1
    assert {e.path for e in site.origins["one.test"].entries()} == {blob.target}


def test_docker_hub_has_three_names(new_origin, new_cache):
    hub = new_origin()
    hub.manifest("library/app", "v1", b"{}")
    cache = new_cache(server={"registries": {"docker.io": {"hosts": [hub.host], "scheme": "http"}}})
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        for carrier in CARRIERS:
            assert ask(cache, carrier, name, "/v2/library/app/manifests/v1").status == 200
    assert {e.path for e in hub.heads()} == {"/v2/library/app/manifests/v1"}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_library_is_put_before_one_component_where_it_is_configured(new_origin, new_cache, carrier):
    hub, other = new_origin(), new_origin()
    hub.manifest("library/app", "v1", b"{}")
    other.manifest("app", "v1", b"{}")
    cache = new_cache(server={"registries": {
        "docker.io": {"hosts": [hub.host], "scheme": "http", "library": True},
        "one.test": {"hosts": [other.host], "scheme": "http"}}})
    for repository in ("app", "library/app"):
        assert ask(cache, carrier, "docker.io", f"/v2/{repository}/manifests/v1").status == 200
    assert ask(cache, carrier, "one.test", "/v2/app/manifests/v1").status == 200
    assert {e.path for e in hub.heads()} == {"/v2/library/app/manifests/v1"}


# --- several at once ---------------------------------------------------------------------------


def test_prefix_and_ns_that_agree_are_stripped_once(three):
    """BuildKit sends both."""
    answer = three.cache.get("/v2/one.test/team/app/manifests/v1?ns=one.test", [ACCEPT])
    assert answer.json()["of"] == "one.test"
    origin = three.origins["one.test"]
    origin.manifest("one.test/app", "v1", b'{"deep":1}')
    answer = three.cache.get("/v2/one.test/one.test/app/manifests/v1?ns=one.test", [ACCEPT])
    assert answer.json() == {"deep": 1}


@pytest.mark.parametrize("target, header, words", [
    ("/v2/one.test/team/app/manifests/v1?ns=three", None, ("one.test", "three")),
    ("/one.test/v2/team/app/manifests/v1?ns=three", None, ("one.test", "three")),
    ("/v2/team/app/manifests/v1?ns=three", "one.test", ("one.test", "three")),
    ("/v2/two/team/app/manifests/v1", "one.test", ("one.test", "two.test:5000")),
    ("/v2/team/app/manifests/v1?ns=one.test&ns=one.test", None, ("ns", "more than once")),
    ("/v2/team/app/manifests/v1?ns=one.test&n%73=three", None, ("ns", "more than once")),
])
def test_carriers_that_disagree_are_400_and_nobody_is_asked(three, target, header, words):
    answer = three.cache.get(target, [("X-Dragonfly-Registry", header)] if header else [])
    assert (answer.status, answer.error_code()) == (400, "NAME_INVALID")
    message = answer.json()["errors"][0]["message"]
    assert all(w in message for w in words), message
    assert three.entries() == []


@pytest.mark.parametrize("target, header", [
    ("/v2/team/app/manifests/v1?ns=169.254.169.254", None),
    ("/v2/team/app/manifests/v1?ns=localhost", None), ("/v2/team/app/manifests/v1?ns=", None),
    ("/v2/?ns=elsewhere.test", None), ("/v2/team/app/tags/list?ns=one.test%00", None),
    ("/v2/team/app/manifests/v1", "http://169.254.169.254/latest"),
    ("/v2/team/app/manifests/v1", "https://user:secret@one.test"),
    ("/v2/team/app/manifests/v1", "elsewhere.test"),
    ("/v2/elsewhere.test/app/manifests/v1", None), ("/elsewhere.test/v2/app/manifests/v1", None),
    ("/v2/two.test:5000/team/app/manifests/v1", None),
])
def test_a_name_that_is_not_configured_is_404_and_nobody_is_asked(three, target, header):
    answer = three.cache.get(target, [("X-Dragonfly-Registry", header)] if header else [])
    assert (answer.status, answer.error_code()) == (404, "NAME_UNKNOWN")
    assert three.entries() == []
    assert "secret" not in three.cache.log()


def test_ns_at_a_port_of_this_machine_is_not_connected_to(three, new_origin):
    other = new_origin()
    for carrier in (BY_NS, BY_HEADER):
        assert ask(three.cache, carrier, other.host).status == 404
    assert other.entries() == []


# --- beside Host rules and the default ---------------------------------------------------------


@pytest.fixture
def ruled(new_origin, new_cache):
    """The three, a rule to a fourth for the Host ruled.test, one to the first, and a default."""
    fourth, default = new_origin(), new_origin()
    for o, name in ((fourth, "fourth"), (default, "default")):
        o.manifest("team/app", "v1", json.dumps({"of": name}).encode())
        o.manifest("one.test/app", "v1", json.dumps({"of": name}).encode())
        o.manifest("one.test", "v1", json.dumps({"of": name}).encode())
    rules = [{"regex": "^ruled.test$", "host": fourth.host, "scheme": "http"}]
    site = Registries(new_origin, new_cache, default, upstreamRules=rules)
    site.fourth, site.default = fourth, default
    return site


def test_a_host_rule_leaves_the_path_to_its_registry(ruled):
    answer = ruled.cache.get("/v2/one.test/app/manifests/v1", [ACCEPT], host="ruled.test")
    assert answer.json()["of"] == "fourth"


def test_a_host_rule_is_not_changed_by_ns_or_header(ruled):
    """containerd adds the name that it knows, whatever the mirror; another registry's is a mistake."""
    for name, status in (("elsewhere.test", 200), (ruled.fourth.host, 200), ("one.test", 400)):
        for carrier in (BY_NS, BY_HEADER):
            answer = ask(ruled.cache, carrier, name, host="ruled.test")
            assert answer.status == status, name
            assert status != 200 or answer.json()["of"] == "fourth"
    assert ruled.entries() == []


def test_what_names_nothing_goes_to_the_default(ruled):
    for target in ("/v2/team/app/manifests/v1", "/v2/one.test/manifests/v1"):
        assert ruled.cache.get(target, [ACCEPT]).json()["of"] == "default"
    assert ask(ruled.cache, BY_NS, ruled.default.host).json()["of"] == "default"
    assert ask(ruled.cache, BY_PREFIX, "one.test").json()["of"] == "one.test"


# --- what comes back ---------------------------------------------------------------------------


PAGES = {BY_NS: "/v2/team/app/tags/list?last=b&n=2&ns=one.test",
         BY_PREFIX: "/v2/one.test/team/app/tags/list?last=b&n=2",
         BY_MOUNT: "/one.test/v2/team/app/tags/list?last=b&n=2",
         BY_HEADER: "/v2/team/app/tags/list?last=b&n=2"}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("absolute", [True, False])
def test_the_next_page_is_named_as_the_client_names_the_registry(three, carrier, absolute):
    origin = three.origins["one.test"]
    base = origin.url if absolute else ""
    origin.pages["/v2/team/app/tags/list"] = (200, ((
        "Link", f'<{base}/v2/team/app/tags/list?last=b&n=2>; rel="next"'),), b'{"tags":[]}')
    answer = ask(three.cache, carrier, "one.test", "/v2/team/app/tags/list?n=2")
    assert answer.header("Link") == f'<{PAGES[carrier]}>; rel="next"'
    headers = carried(carrier, "one.test")[1]
    assert three.cache.get(PAGES[carrier], headers).status == 200
    assert origin.entries()[-1].target == "/v2/team/app/tags/list?last=b&n=2"


def test_the_ns_of_a_link_is_as_the_client_wrote_it(three):
    origin = three.origins["two.test:5000"]
    path = f"/v2/team/app/referrers/sha256:{'0' * 64}"
    origin.pages[path] = (200, (("Link", '<?page=2>; rel="next"'),
                                ("Content-Type", "application/vnd.oci.image.index.v1+json")), b"{}")
    answer = three.cache.get(f"{path}?ns=two.test%3a5000")
    assert answer.header("Link") == '<?page=2&ns=two.test%3a5000>; rel="next"'


def test_a_link_elsewhere_is_left_alone(three):
    origin = three.origins["one.test"]
    for link in ('<https://elsewhere.test/v2/x>; rel="next"', '<//elsewhere.test/v2/x>; rel="next"',
                 'no link at all', '<unclosed'):
        origin.pages["/v2/team/app/tags/list"] = (200, (("Link", link),), b"{}")
        answer = ask(three.cache, BY_PREFIX, "one.test", "/v2/team/app/tags/list")
        assert answer.header("Link") == link


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_push_goes_through_by_every_carrier(three, carrier):
    """Each Location is followed as it is given; only the header has to be sent again."""
    data = noise(10_000)
    digest = three.origins["one.test"].blob("elsewhere", data).digest
    headers = carried(carrier, "one.test")[1]
    answer = ask(three.cache, carrier, "one.test", "/v2/team/new/blobs/uploads/", "POST", body=b"")
    assert answer.status == 202
    base = f"http://127.0.0.1:{three.cache.port}"
    location = answer.header("Location")
    assert location.startswith(base)
    target = location.removeprefix(base)
    answer = three.cache.request("PUT", f"{target}{'&' if '?' in target else '?'}digest={digest}",
                                 headers, body=data)
    assert answer.status == 201
    stored = three.cache.get(answer.header("Location").removeprefix(base), headers)
    assert (stored.status, stored.body) == (200, data)
    assert {name for name, o in three.origins.items() if o.entries()} == {"one.test"}


def test_a_push_s_location_is_https_behind_a_balancer_that_ends_tls(three):
    answer = three.cache.request("POST", "/v2/one.test/team/new/blobs/uploads/",
                                 [("X-Forwarded-Proto", "https")], body=b"", host="cache.test")
    assert answer.status == 202
    assert answer.header("Location").startswith("https://cache.test/v2/one.test/team/new/blobs/")


# --- permissions -------------------------------------------------------------------------------


def test_a_private_blob_of_one_registry_is_not_opened_by_another_s_name(new_origin, new_cache):
    site = Registries(new_origin, new_cache)
    secret = site.origins["one.test"]
    blob = secret.blob("team/app", noise(50_000))
    alice = ("Authorization", basic("alice", "pw"))
    secret.access = Access({alice[1]: {"*"}})
    target, headers = carried(BY_PREFIX, "one.test", blob.target)
    assert site.cache.get(target, [alice, *headers]).status == 200
    for carrier in CARRIERS:
        assert ask(site.cache, carrier, "one.test", blob.target).status == 401
        for name in ("two.test:5000", "three"):
            assert ask(site.cache, carrier, name, blob.target).status == 404


def test_a_credential_goes_to_the_named_registry_only(three):
    alice = ("Authorization", basic("alice", "pw"))
    for carrier in CARRIERS:
        target, headers = carried(carrier, "one.test")
        three.cache.get(target, [alice, ACCEPT, *headers])
    assert {e.header("Authorization") for e in three.origins["one.test"].entries()} == {alice[1]}
    assert all(three.origins[n].entries() == [] for n in ("two.test:5000", "three"))


def test_one_registry_that_fails_leaves_the_others_alone(three):
    thing = three.origins["one.test"].tags["team/app"]["v1"]
    thing.answer = thing.head = Answer(status=503)
    assert ask(three.cache, BY_PREFIX, "one.test").status == 503
    assert ask(three.cache, BY_PREFIX, "three").json()["of"] == "three"
