"""Who may read what: every request is checked with its own client's credentials, and a refusal is
the upstream's own."""
import pytest
from client import KIB, MIB
from harness import Download, noise, wait_until
from script import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Access, Answer, Gate, basic

ALICE, BOB, CAROL = basic("alice", "a-secret"), basic("bob", "b-secret"), basic("carol", "c-secret")
DATA = noise(300_000, 3)


def as_user(authorization):
    return [("Authorization", authorization)] if authorization else []


def access(**options):
    return Access({ALICE: ["team/app"], BOB: ["team/other"], CAROL: ["*"]}, **options)


def refusal_without_a_byte(answer, status, origin, data):
    """The upstream's own refusal: its status and its body, and nothing of the object."""
    assert answer.status == status
    assert answer.complete
    assert answer.json()["errors"][0]["detail"] == {"port": origin.port}
    assert data[:32] not in answer.body
    assert answer.header("Docker-Content-Digest") is None


@pytest.mark.parametrize("user, denial, status",
                         [(BOB, 403, 403), (BOB, 404, 404), (None, 403, 401),
                                                  (basic("mallory", "x"), 403, 401)])
@pytest.mark.parametrize("warm", [True, False], ids=["hot", "cold"])
def test_who_is_not_allowed_gets_the_upstreams_refusal(new_origin, new_cache, user, denial, status,
                                                       warm):
    origin = new_origin(access=access(denial=denial))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    if warm:
        cache.fetch(blob, as_user(ALICE))
    refusal_without_a_byte(cache.get(blob.target, as_user(user)), status, origin, DATA)
    head = cache.head(blob.target, as_user(user))
    assert (head.status, head.body, head.header("Docker-Content-Digest")) == (status, b"", None)
    cache.fetch(blob, as_user(ALICE))
    assert all(e.header("Authorization") in (user, ALICE) for e in origin.entries())


def test_challenges_are_relayed_one_line_each_and_verbatim(new_origin, new_cache):
    origin = new_origin(access=access(challenge="bearer"))
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    lines = [f'Bearer realm="{origin.url}/token",service="origin",scope="repository:team/app:pull"',
             'Basic realm="origin"']
    for warm in (False, True):
        answer = cache.get(blob.target)
        assert answer.status == 401 and answer.values("WWW-Authenticate") == lines, warm
        refused = cache.get(blob.target, as_user("Bearer expired"))
        assert 'error="invalid_token"' in refused.values("WWW-Authenticate")[0]
        cache.fetch(blob, as_user(CAROL))


def test_the_ping_tells_the_upstreams_challenge(new_origin, new_cache):
    origin = new_origin(access=access(challenge="bearer"))
    cache = new_cache(origin)
    answer = cache.get("/v2/")
    assert answer.status == 401 and len(answer.values("WWW-Authenticate")) == 2
    assert cache.get("/v2/", as_user(ALICE)).status == 200


def test_no_byte_to_who_is_not_allowed_while_another_fills(new_origin, new_cache):
    origin = new_origin(access=access())
    cache = new_cache(origin)
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    alice = Download(cache, blob.target, as_user(ALICE), cache.connect_to(0))
    blob.answer.gate.wait_reached()
    for listener in (0, 1):  # the filling one and the other
        with cache.connect_to(listener) as c:
            for user, status in ((BOB, 403), (None, 401)):
                refusal_without_a_byte(c.request("GET", blob.target, as_user(user)), status, origin,
                                       blob.data)
    carol = Download(cache, blob.target, as_user(CAROL))
    wait_until(lambda: CAROL in [e.header("Authorization") for e in origin.heads(blob)],
               "Carol is checked")
    blob.answer.gate.open()
    assert alice.result().body == blob.data
    assert carol.result().body == blob.data
    assert len(origin.fetches(blob)) == 1


def test_a_follower_is_checked_before_its_first_byte(new_origin, new_cache):
    """Carol's check hangs: though the bytes are there, none of them may come."""
    origin = new_origin(access=access())
    cache = new_cache(origin, server={"firstByteTimeout": "2s"})
    blob = origin.blob("team/app", noise(3 * MIB))
    blob.answer = Answer(gate=Gate(MIB))
    alice = Download(cache, blob.target, as_user(ALICE))
    blob.answer.gate.wait_reached()
    blob.head = Answer(before_head="hang")
    answer = cache.get(blob.target, as_user(CAROL))
    assert answer.status == 504 and blob.data[:32] not in answer.body
    blob.answer.gate.open()
    assert alice.result().body == blob.data


def test_a_revoked_credential_gets_nothing_of_a_hot_blob(new_origin, new_cache):
    origin = new_origin(access=access())
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    with cache.connect() as c:
        assert c.request("GET", blob.target, as_user(ALICE)).body == DATA
        del origin.access.grants[ALICE]
        refusal_without_a_byte(c.request("GET", blob.target, as_user(ALICE)), 401, origin, DATA)


def test_the_same_digest_in_a_repository_that_lacks_it_is_404(new_origin, new_cache):
    origin = new_origin(access=access())
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, as_user(CAROL))
    answer = cache.get(blob.target.replace("team/app", "team/other"), as_user(CAROL))
    refusal_without_a_byte(answer, 404, origin, DATA)
    assert answer.error_code() == "BLOB_UNKNOWN"


def test_what_the_upstream_has_deleted_is_404_though_we_have_it(cache, origin):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    del origin.things[blob.target]
    refusal_without_a_byte(cache.get(blob.target), 404, origin, DATA)


def test_checks_in_flight_are_not_shared_between_credentials(new_origin, new_cache):
    origin = new_origin(access=access())
    cache = new_cache(origin, server={"listeners": 1})
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, as_user(ALICE))
    users = [ALICE, BOB, None, CAROL] * 15
    downloads = [Download(cache, blob.target, as_user(u)) for u in users]
    wanted = {ALICE: 200, BOB: 403, None: 401, CAROL: 200}
    for user, d in zip(users, downloads):
        answer = d.result()
        assert answer.status == wanted[user]
        assert (answer.body == DATA) == (answer.status == 200)


def test_429_is_relayed_with_retry_after(cache, origin):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    origin.limited = 17
    for target in (blob.target, "/v2/team/app/manifests/latest"):
        answer = cache.get(target)
        assert (answer.status, answer.error_code()) == (429, "TOOMANYREQUESTS")
        assert 1 <= int(answer.header("Retry-After")) <= 17
        assert DATA[:32] not in answer.body and answer.header("Docker-Content-Digest") is None


def test_an_upstream_that_is_down_opens_nothing(cache, origin):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    origin.stop()
    answer = cache.get(blob.target)
    assert answer.status == 502 and DATA[:32] not in answer.body
    assert answer.json()["errors"]


@pytest.mark.parametrize("status, answered", [(500, 503), (503, 503), (502, 502), (504, 502)])
def test_a_check_that_fails_is_a_server_error(cache, origin, status, answered):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    blob.head = blob.answer = Answer(status=status)
    answer = cache.get(blob.target)
    assert answer.status == answered and DATA[:32] not in answer.body


def test_a_check_that_hangs_is_504(new_cache, origin):
    cache = new_cache(origin, server={"firstByteTimeout": "1s"})
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    blob.head = blob.answer = Answer(before_head="hang")
    assert cache.get(blob.target).status == 504


# --- registries that answer HEAD badly ---------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 405, 501])
@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_head_is_refused_but_get_is_allowed(cache, origin, status, kind):
    thing = origin.blob("team/app", DATA) if kind == "blob" else origin.manifest("team/app", "v1",
                                                                                 b"{}")
    thing.head = Answer(status=status)
    headers = [("Authorization", ALICE), ("Accept", thing.media_type)]
    for _ in ("cold", "hot", "hot"):
        assert cache.fetch(thing, headers).header("Docker-Content-Digest") == thing.digest
        head = cache.head(thing.target, headers)
        assert head.status == 200 and head.header("Content-Length") == str(thing.size)
    assert len(origin.fetches(thing)) <= 1 or kind == "manifest"
    assert sum(e.sent for e in origin.gets(thing)) < 2 * thing.size + KIB


def test_head_and_get_are_refused(cache, origin):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    blob.head, blob.answer = Answer(status=405), Answer(status=403)
    refusal_without_a_byte(cache.get(blob.target, as_user(ALICE)), 403, origin, DATA)


def test_the_quirk_of_an_upstream_is_no_pass_for_others(new_origin, new_cache):
    """HEAD is 405 for everybody; the GET of the ladder still tells who may."""
    origin = new_origin(access=access())
    cache = new_cache(origin)
    blob = origin.blob("team/app", DATA)
    blob.head = Answer(status=405)
    for _ in range(3):
        cache.fetch(blob, as_user(ALICE))
        refusal_without_a_byte(cache.get(blob.target, as_user(BOB)), 403, origin, DATA)


# --- Accept ------------------------------------------------------------------------------------


def test_accept_is_forwarded_with_all_its_lines_in_order(cache, origin):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    lines = [OCI_INDEX, OCI_MANIFEST + ", */*;q=0.1", DOCKER_MANIFEST]
    for target in (manifest.tag_target, manifest.target, manifest.target):
        assert cache.get(target, [("Accept", a) for a in lines]).body == manifest.data
    assert len(origin.entries(manifest)) >= 4
    for e in origin.entries(manifest):
        assert ", ".join(e.values("Accept")) == ", ".join(lines)


def test_a_404_for_one_accept_is_not_kept_for_another(cache, origin):
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    manifest.needs_accept = True
    for target in (manifest.tag_target, manifest.target):
        for _ in range(2):
            assert cache.get(target, [("Accept", DOCKER_MANIFEST)]).status == 404
            assert cache.get(target, [("Accept", OCI_MANIFEST)]).body == manifest.data


def test_the_client_s_other_headers_stay_here(cache, origin):
    blob = origin.blob("team/app", DATA)
    private = [("Cookie", "session=1"), ("X-Forwarded-For", "10.0.0.1"),
               ("Accept-Encoding", "gzip"),
               ("Range", "bytes=5-9"), ("TE", "trailers")]
    assert cache.get(blob.target, private).body == DATA[5:10]
    for e in origin.entries(blob):
        assert e.header("Accept-Encoding") == "identity"
        assert e.header("Cookie") is None and e.header("TE") is None
        assert e.header("Range") != "bytes=5-9" or e.method == "GET"


def test_no_credential_is_written_anywhere(new_origin, new_cache):
    origin = new_origin(access=access())
    cache = new_cache(origin, log={"level": "trace", "access": True})
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, as_user(ALICE))
    cache.get(blob.target, as_user(BOB))
    cache.stop()
    secrets = [u.split()[1].encode() for u in (ALICE, BOB)] + [b"a-secret", b"b-secret"]
    for path in [cache.log_path, *(p for p in cache.data.rglob("*") if p.is_file())]:
        data = path.read_bytes()
        assert not [s for s in secrets if s in data], path


# --- who may vouch -----------------------------------------------------------------------------


def two_upstreams(new_origin, new_cache, trusted):
    """Origin `first` fills the cache; `second` is asked for the same digest under another Host."""
    first, second = new_origin(), new_origin()
    rules = [{"regex": "^second$", "host": second.host, "scheme": "http", "trusted": trusted}]
    cache = new_cache(first, server={"upstreamRules": rules})
    blob = first.blob("team/app", DATA)
    cache.fetch(blob)
    return second, cache, blob


def test_an_untrusted_upstream_opens_nothing_by_saying_200(new_origin, new_cache):
    second, cache, blob = two_upstreams(new_origin, new_cache, False)
    lie = second.blob("evil/app", DATA)
    lie.answer = Answer(body=b"?" * len(DATA))  # HEAD claims the digest, the bytes are not there
    answer = cache.get(lie.target, host="second")
    assert DATA[:32] not in answer.body
    assert not (answer.status == 200 and answer.complete)
    assert cache.fetch(blob).body == DATA


def test_an_untrusted_upstream_vouches_once_it_has_delivered_the_bytes(new_origin, new_cache):
    second, cache, _ = two_upstreams(new_origin, new_cache, False)
    honest = second.blob("good/app", DATA)
    for _ in range(3):
        answer = cache.get(honest.target, host="second")
        assert (answer.status, answer.body) == (200, DATA)
    assert len(second.fetches(honest)) == 1


def test_a_trusted_upstream_vouches_by_its_check(new_origin, new_cache):
    second, cache, _ = two_upstreams(new_origin, new_cache, True)
    honest = second.blob("good/app", DATA)
    answer = cache.get(honest.target, host="second")
    assert (answer.status, answer.body) == (200, DATA)
    assert second.fetches(honest) == [] and len(second.heads(honest)) == 1
