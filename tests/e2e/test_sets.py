"""Several hosts for one registry: which is asked, and which when that one fails."""
import ssl
import time

import pytest
from client import MIB, SLOW
from harness import Download, free_port, noise, wait_until
from origin import Exchange
from script import OCI_MANIFEST, Access, Answer, Gate, basic

ALICE, BOB = basic("alice", "a-secret"), basic("bob", "b-secret")
ACCEPT = ("Accept", OCI_MANIFEST)
DATA = noise(300_000, 7)
LARGE = noise(4 * MIB, 8)
FIRST_BYTE = 2 * SLOW  # seconds: server.firstByteTimeout


@pytest.fixture
def pair(new_origin):
    """Two hosts with the same things; each thing is (of the first, of the second)."""
    return new_origin(), new_origin()


@pytest.fixture
def set_cache(new_cache):
    """A cache in front of a registry of these hosts (origins, or "host:port")."""
    def make(*hosts, registry=None, **server):
        names = [h if isinstance(h, str) else h.host for h in hosts]
        return new_cache(server={
            "firstByteTimeout": f"{int(FIRST_BYTE * 1000)}ms",
            "registries": {"corp": {"hosts": names, "scheme": "http", **(registry or {})}},
            "defaultBackend": {"registry": "corp"}, **server})
    return make


def both(pair, make):
    return make(pair[0]), make(pair[1])


def blobs(pair, data=DATA):
    return both(pair, lambda o: o.blob("team/app", data))


def manifests(pair):
    return both(pair, lambda o: o.manifest("team/app", "v1", b'{"schemaVersion":2}'))


def dead():
    return f"127.0.0.1:{free_port()}"


# --- which host --------------------------------------------------------------------------------


def test_the_first_host_is_asked_as_long_as_it_answers(pair, set_cache):
    cache = set_cache(*pair)
    (blob, _), (manifest, _) = blobs(pair), manifests(pair)
    for _ in range(2):
        cache.fetch(blob)
        assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
    assert cache.get("/v2/").status == 401  # the cache's own: its registries have prefixes, too
    assert pair[1].entries() == []


def test_a_rule_and_the_default_may_name_registries(new_cache, new_origin):
    a, b = new_origin(), new_origin()
    cache = new_cache(server={
        "registries": {"a": {"hosts": [dead(), a.host], "scheme": "http"},
                       b.host: {"scheme": "http"}},
        "upstreamRules": [{"regex": "^a[.]", "registry": "a"}],
        "defaultBackend": {"registry": b.host}})
    ours, theirs = a.blob("team/app", DATA), b.blob("team/app", LARGE)
    assert cache.get(ours.target, host="a.test").body == DATA
    assert cache.get(theirs.target, host="b.test").body == LARGE
    assert cache.get(ours.target, host="b.test").status == 404


BROKEN = {"reset": Answer(before_head="reset"), "fin": Answer(before_head="fin"),
          "hang": Answer(before_head="hang"),
          **{str(n): Answer(status=n) for n in (408, 500, 502, 503, 504)}}


@pytest.mark.parametrize("how", ["refused", "trap", *BROKEN])
def test_when_the_first_host_fails_the_second_answers(pair, set_cache, trap, how):
    """Checks, tags, fills and what passes; within the time that a client waits."""
    first = {"refused": dead, "trap": lambda: trap("hang").host}.get(how, lambda: pair[0])()
    cache = set_cache(first, pair[1])
    (blob_a, blob), (manifest_a, manifest) = blobs(pair), manifests(pair)
    if how in BROKEN:
        for thing in (blob_a, manifest_a):
            thing.head = thing.answer = BROKEN[how]
        pair[0].pages["/v2/team/app/tags/list"] = (503, (), b"")
    pair[1].pages["/v2/team/app/tags/list"] = (200, (), b"{}")
    for _ in range(2):  # cold, hot
        begun = time.monotonic()
        assert cache.get(blob.target).body == DATA
        assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
        assert time.monotonic() - begun < 3 * FIRST_BYTE
    assert cache.head(blob.target).status == 200
    assert cache.get("/v2/team/app/tags/list").body == b"{}"
    assert len(pair[1].fetches(blob)) == 1


def test_tls_that_cannot_be_trusted_leads_to_the_second_host(new_origin, set_cache, pki):
    unknown, known = new_origin(tls=self_signed(pki)), new_origin(tls=pki.server_context())
    cache = set_cache(unknown, known, registry={"scheme": "https", "caPath": pki.ca})
    blob = known.blob("team/app", DATA)
    cache.fetch(blob)
    assert unknown.entries() == []


def self_signed(pki):
    """The CA's own certificate has no name of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.ca, pki.ca.replace("ca.crt", "ca.key"))
    return context


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_refusal_is_an_answer_and_not_a_failure(pair, set_cache, status):
    cache = set_cache(*pair)
    blob_a, blob = blobs(pair)
    blob_a.head = blob_a.answer = Answer(status=status)
    for method in ("GET", "HEAD"):
        assert cache.request(method, blob.target).status == status
    assert pair[1].entries() == []


def test_a_limit_is_of_the_host_that_set_it(pair, set_cache):
    cache = set_cache(*pair)
    blob_a, blob = blobs(pair)
    blob_a.head = blob_a.answer = Answer(status=429, headers=(("Retry-After", "60"),))
    assert cache.get(blob.target).status == 429
    assert cache.get(blob.target).status == 429
    pair[0].stop()
    wait_until(lambda: cache.head("/v2/", [("Authorization", BOB)]).status == 200,
               "the second host answers")
    assert len(pair[0].entries()) == 1


def test_what_no_host_can_answer_is_told_as_the_last_one_said_it(pair, set_cache):
    cache = set_cache(*pair)
    blob_a, blob_b = blobs(pair)
    blob_a.head = blob_a.answer = Answer(status=502)
    blob_b.head = blob_b.answer = Answer(status=503)
    assert cache.head(blob_a.target).status == 503
    assert len(pair[0].heads()) == len(pair[1].heads()) == 1


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_when_all_hosts_hang_the_client_is_told_in_time(set_cache, trap, count):
    cache = set_cache(*(trap("hang").host for _ in range(count)), downAfter=0)
    target = f"/v2/team/app/blobs/sha256:{'0' * 64}"
    for ask in (cache.get, cache.head):
        begun = time.monotonic()
        answer = ask(target)
        took = time.monotonic() - begun
        assert answer.status == 504
        assert FIRST_BYTE * 0.9 < took < FIRST_BYTE * 1.5 + 0.5, took


def test_the_time_is_one_for_all_that_a_request_asks(new_cache, new_origin, trap):
    """HEAD is refused late, and what is asked then hangs: the client does not wait twice."""
    origin = new_origin()
    cache = new_cache(origin, server={"firstByteTimeout": f"{int(FIRST_BYTE * 1000)}ms"})
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    elsewhere = trap("hang")
    blob.head = Answer(status=405)
    blob.answer = Answer(status=307, location=f"http://{elsewhere.host}/x")
    begun = time.monotonic()
    assert cache.get(blob.target).status == 504
    assert time.monotonic() - begun < FIRST_BYTE * 1.5 + 0.5
    assert elsewhere.connections == 1


# --- one request, one host ---------------------------------------------------------------------


def test_a_tag_and_its_manifest_come_from_the_same_host(new_origin, set_cache):
    """The hosts differ: what the second said of the tag, the second delivers."""
    first, second = new_origin(), new_origin()
    cache = set_cache(first, second)
    old = first.manifest("team/app", "v1", b'{"schemaVersion":2,"old":1}')
    new = second.manifest("team/app", "v1", b'{"schemaVersion":2,"new":1}')
    old.head = Answer(before_head="reset")
    for _ in range(2):
        assert cache.get(new.tag_target, [ACCEPT]).body == new.data
    assert first.gets() == [] and len(second.fetches(new)) == 1


def test_a_host_that_comes_back_is_used_again(new_origin, set_cache):
    port = free_port()
    second = new_origin()
    cache = set_cache(f"127.0.0.1:{port}", second, downAfter=2)
    blob = second.blob("team/app", DATA)
    for _ in range(4):
        cache.fetch(blob)
    assert cache.log().count(f"registry http://127.0.0.1:{port} is down") == 1
    first = new_origin(port=port)
    first.blob("team/app", DATA)
    wait_until(lambda: cache.fetch(blob) and first.entries(), "the first host is asked again", 20)
    second.forget()
    cache.fetch(blob)
    assert second.entries() == []
    assert cache.log().count(f"registry http://127.0.0.1:{port} answers again") == 1


# --- transfers that break ----------------------------------------------------------------------


@pytest.mark.parametrize("then", ["fin", "reset", "hang"])
def test_a_transfer_that_breaks_goes_on_at_the_next_host(pair, set_cache, then):
    cache = set_cache(*pair, upstreamTimeout=f"{int(1000 * SLOW)}ms")
    blob_a, blob_b = blobs(pair, LARGE)
    blob_a.answer = Answer(at=MIB, then=then)
    cache.fetch(blob_b)
    (begun,), (rest,) = pair[0].fetches(blob_a), pair[1].fetches(blob_b)
    assert begun.sent == MIB and rest.first == MIB and rest.sent == len(LARGE) - MIB
    assert rest.header("If-Range") is None  # the first host's tag means nothing here
    cache.fetch(blob_b)
    assert len(pair[1].fetches(blob_b)) == 1
    cache.check_objects()


def test_a_transfer_that_breaks_goes_on_at_the_same_host_when_there_is_no_other(pair, set_cache):
    cache = set_cache(pair[0], dead())
    blob, _ = blobs(pair, LARGE)
    blob.once.append(Answer(at=MIB, then="reset"))
    cache.fetch(blob)
    _, rest = pair[0].fetches(blob)
    assert rest.first == MIB and rest.header("If-Range") == Exchange.etag(LARGE)


def test_a_second_host_with_other_bytes_never_completes_an_object(pair, set_cache):
    cache = set_cache(*pair)
    blob_a, blob_b = blobs(pair, LARGE)
    blob_a.answer = Answer(at=MIB, then="reset")
    blob_b.answer = Answer(body=noise(len(LARGE), 99))
    answer = cache.get(blob_a.target)
    assert not (answer.status == 200 and answer.complete)
    assert cache.objects() == []
    blob_a.answer = blob_b.answer = Answer()
    wait_until(lambda: cache.get(blob_a.target).body == LARGE, "it is fetched again")


def test_hosts_that_take_turns_in_breaking_still_deliver(pair, set_cache):
    cache = set_cache(*pair)
    blob_a, blob_b = blobs(pair, LARGE)
    for n in range(1, 8):
        (blob_a if n % 2 else blob_b).once.append(
            Answer(at=n * MIB // 2, then=("fin", "reset")[n % 2]))
    cache.fetch(blob_a)
    fetched = pair[0].sent(blob_a) + pair[1].sent(blob_b)
    assert len(LARGE) <= fetched < len(LARGE) * 1.2
    cache.check_objects()


def test_followers_do_not_see_that_the_host_changed(pair, set_cache):
    cache = set_cache(*pair, listeners=3)
    blob_a, blob_b = blobs(pair, LARGE)
    gate = Gate(MIB)
    blob_a.answer = Answer(at=2 * MIB, then="reset", gate=gate)
    downloads = [Download(cache, blob_a.target) for _ in range(6)]
    gate.wait_reached()
    gate.open()
    for d in downloads:
        d.result()
        assert d.intact(LARGE)
    assert len(pair[0].fetches(blob_a)) == len(pair[1].fetches(blob_b)) == 1


# --- credentials, trust, writing ---------------------------------------------------------------


def test_a_credential_goes_to_the_hosts_of_its_registry_and_to_no_other(new_origin, new_cache):
    grants = Access({ALICE: ["*"]})
    first, second, other = (new_origin(access=grants) for _ in range(3))
    cache = new_cache(server={
        "registries": {"corp": {"hosts": [first.host, second.host], "scheme": "http"},
                       "other": {"hosts": [other.host], "scheme": "http"}},
        "defaultBackend": {"registry": "corp"}})
    blob = second.blob("team/app", DATA)
    first.blob("team/app", DATA).answer = Answer(before_head="reset")
    cache.fetch(blob, [("Authorization", ALICE)])
    cache.fetch(blob, [("Authorization", ALICE)])
    assert {e.header("Authorization") for e in [*first.entries(), *second.entries()]} == {ALICE}
    assert other.entries() == []


def test_each_registry_trusts_its_own_authority(new_origin, new_cache, pki):
    origin = new_origin(tls=pki.server_context())
    cache = new_cache(server={
        "registries": {"ours": {"hosts": [origin.host], "caPath": pki.ca},
                       "theirs": {"hosts": [origin.host]}},
        "upstreamRules": [{"regex": "^ours", "registry": "ours"},
                          {"regex": "^theirs", "registry": "theirs"}], "downAfter": 0})
    blob = origin.blob("team/app", DATA)
    for _ in range(2):  # also when the other's connection is there to be used
        assert cache.get(blob.target, host="ours.test").body == DATA
        assert cache.get(blob.target, host="theirs.test").status == 502


def test_an_authority_that_cannot_be_read_is_said_at_the_start(new_cache, tmp_path):
    cache = new_cache(start=False, server={
        "registries": {"a": {"caPath": str(tmp_path / "none.pem")}}})
    cache.launch()
    assert cache.wait() != 0
    assert "server.registries.a.caPath" in cache.log() and "none.pem" in cache.log()


def test_what_writes_goes_to_one_host_and_its_location_stays_here(pair, set_cache):
    cache = set_cache(dead(), pair[1], downAfter=1)
    assert cache.request("POST", "/v2/team/app/blobs/uploads/", body=b"").status == 502
    answer = cache.request("POST", "/v2/team/app/blobs/uploads/", body=b"")
    assert answer.status == 202
    assert answer.header("Location").startswith(f"http://127.0.0.1:{cache.port}/v2/")
    assert len(pair[1].entries(method="POST")) == 1


def test_what_writes_is_never_sent_twice(pair, set_cache):
    cache = set_cache(*pair)
    pair[0].pages["/v2/"] = (200, (), b"")
    pair[0].limited = None
    target = "/v2/team/app/blobs/uploads/"
    pair[0].stop()
    assert cache.request("POST", target, body=b"").status == 502
    assert pair[1].entries(method="POST") == []
