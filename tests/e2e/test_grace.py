"""server.checkGrace: what a registry allowed a credential a short time ago is served to it while the
registry cannot answer; and nothing else ever is."""
import pytest
from client import SLOW
from harness import free_port, noise, shared_memory, wait_until
from script import DOCKER_MANIFEST, OCI_MANIFEST, Access, Answer, basic
from test_reload import hup

ALICE, BOB = basic("alice", "a-secret"), basic("bob", "b-secret")
ACCEPT = ("Accept", OCI_MANIFEST)
DATA, OTHER = noise(200_000, 5), noise(70_000, 6)


def as_user(user, *more):
    return [*more, ("Authorization", user)] if user else [*more]


@pytest.fixture
def image(origin):
    origin.access = None
    return origin.manifest("team/app", "v1", b'{"schemaVersion":2}'), origin.blob("team/app", DATA)


@pytest.fixture
def grace_cache(new_cache):
    def make(origin, grace="10m", **server):
        return new_cache(origin, server={"checkGrace": grace, "firstByteTimeout":
                                         f"{int(1000 * SLOW)}ms", **server})
    return make


def pull(cache, image, user=ALICE):
    """By tag, and the blob: both are allowed and here then."""
    manifest, blob = image
    assert cache.get(manifest.tag_target, as_user(user, ACCEPT)).body == manifest.data
    cache.fetch(blob, as_user(user))


def served(cache, image, user=ALICE):
    manifest, blob = image
    for target, data in ((manifest.tag_target, manifest.data), (manifest.target, manifest.data),
                         (blob.target, blob.data)):
        answer = cache.get(target, as_user(user, ACCEPT))
        assert (answer.status, answer.complete) == (200, True), (target, answer.body[:300])
        assert answer.body == data and 0 <= int(answer.header("Age")) < 600
        head = cache.head(target, as_user(user, ACCEPT))
        assert head.status == 200 and int(head.header("Content-Length")) == len(data)
    assert cache.wait_access(outcome="grace")["status"] == "200"


def refused(cache, image, user=ALICE, **more):
    manifest, blob = image
    for target in (manifest.tag_target, manifest.target, blob.target):
        for ask in (cache.get, cache.head):
            answer = ask(target, as_user(user, ACCEPT), **more)
            assert answer.status in (502, 503, 504), (target, answer.status)
            assert blob.data[:32] not in answer.body and manifest.data not in answer.body


FAILURES = {"down": None, "hang": Answer(before_head="hang"), "reset": Answer(before_head="reset"),
            "429": Answer(status=429, headers=(("Retry-After", "60"),)),
            **{str(n): Answer(status=n) for n in (408, 500, 502, 503, 504)}}


def fail(origin, image, how):
    if how == "down":
        origin.stop()
    for thing in image:
        thing.head = thing.answer = FAILURES[how] or Answer()
    if how == "429":
        origin.limited = 60
    if how in ("408", "500", "502", "503", "504"):
        origin.pages[image[0].tag_target] = (int(how), (), b"")


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("user", [ALICE, None], ids=["alice", "anonymous"])
def test_what_was_allowed_is_served_while_nobody_can_be_asked(origin, image, grace_cache, how, user):
    cache = grace_cache(origin)
    pull(cache, image, user)
    fail(origin, image, how)
    served(cache, image, user)


def test_without_the_option_nothing_is_served_unchecked(new_cache, origin, image):
    cache = new_cache(origin)
    pull(cache, image)
    assert cache.get(image[1].target, as_user(ALICE)).header("Age") is None
    origin.stop()
    refused(cache, image)


@pytest.mark.parametrize("user", [BOB, None, "Bearer alice", ALICE + "x"])
def test_another_credential_gets_nothing(origin, image, grace_cache, user):
    cache = grace_cache(origin)
    pull(cache, image, ALICE)
    origin.stop()
    refused(cache, image, user)
    served(cache, image, ALICE)


def test_another_repository_and_another_registry_get_nothing(origin, image, grace_cache, new_origin):
    other = new_origin()
    cache = grace_cache(origin, upstreamRules=[
        {"regex": "^other", "host": other.host, "scheme": "http"}])
    pull(cache, image)
    manifest, blob = image
    origin.stop()
    other.stop()
    for target in (blob.target.replace("team/app", "team/application"),
                   blob.target.replace("team/app", "team"),
                   manifest.tag_target.replace("v1", "v2"),
                   blob.target.replace("/blobs/", "/manifests/"),
                   manifest.target.replace("/manifests/", "/blobs/")):
        assert cache.get(target, as_user(ALICE, ACCEPT)).status == 502, target
    refused(cache, image, host="other.test")
    served(cache, image)


def test_what_is_here_but_was_never_allowed_to_this_credential_is_not_served(origin, image,
                                                                           grace_cache):
    cache = grace_cache(origin)
    pull(cache, image, ALICE)
    extra = origin.blob("team/app", OTHER)
    cache.fetch(extra, as_user(BOB))
    origin.stop()
    assert cache.get(extra.target, as_user(BOB)).body == OTHER
    assert cache.get(extra.target, as_user(ALICE)).status == 502
    assert cache.get(image[1].target, as_user(BOB)).status == 502


def test_what_is_not_here_is_not_served(origin, image, grace_cache):
    cache = grace_cache(origin)
    extra = origin.blob("team/app", OTHER)
    pull(cache, image)
    assert cache.head(extra.target, as_user(ALICE)).status == 200  # allowed, and not fetched
    origin.stop()
    assert cache.get(extra.target, as_user(ALICE)).status == 502
    assert cache.head(extra.target, as_user(ALICE)).status == 502


def test_lists_pings_and_writes_are_not_served(origin, image, grace_cache):
    cache = grace_cache(origin)
    origin.pages["/v2/team/app/tags/list"] = (200, (), b"{}")
    for target in ("/v2/", "/v2/team/app/tags/list"):
        assert cache.get(target, as_user(ALICE)).status == 200
    origin.stop()
    for target in ("/v2/", "/v2/team/app/tags/list"):
        assert cache.get(target, as_user(ALICE)).status == 502
    assert cache.request("POST", "/v2/team/app/blobs/uploads/", as_user(ALICE), b"").status == 502


def test_the_grace_ends(origin, image, grace_cache):
    grace = 4 * SLOW
    cache = grace_cache(origin, grace=f"{int(1000 * grace)}ms")
    pull(cache, image)
    blob = image[1]
    origin.stop()
    answer = cache.get(blob.target, as_user(ALICE))
    assert answer.body == blob.data and int(answer.header("Age")) <= grace
    wait_until(lambda: cache.get(blob.target, as_user(ALICE)).status == 502, "the grace is over", 20)
    refused(cache, image)


def test_being_served_does_not_prolong_the_grace(origin, image, grace_cache):
    """Asked again and again, it ends all the same."""
    cache = grace_cache(origin, grace=f"{int(3000 * SLOW)}ms")
    pull(cache, image)
    origin.stop()
    blob, ages = image[1], []

    def over():
        answer = cache.get(blob.target, as_user(ALICE))
        if answer.status == 200:
            ages.append(int(answer.header("Age")))
        return answer.status == 502

    wait_until(over, "the grace is over", 20)
    assert ages == sorted(ages)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_ends_the_grace_of_that_credential_in_that_repository(origin, image, grace_cache,
                                                                         status):
    cache = grace_cache(origin, listeners=2)
    origin.access = Access({ALICE: ["*"], BOB: ["*"]})
    pull(cache, image, ALICE)
    pull(cache, image, BOB)
    del origin.access.grants[ALICE]
    if status == 403:
        origin.access.grants[ALICE] = ["elsewhere"]
    assert cache.get(image[1].target, as_user(ALICE)).status == status
    origin.stop()
    refused(cache, image, ALICE)
    served(cache, image, BOB)


def test_a_404_ends_the_grace_of_what_is_gone(origin, image, grace_cache):
    cache = grace_cache(origin)
    pull(cache, image)
    manifest, blob = image
    extra = origin.blob("team/app", OTHER)
    cache.fetch(extra, as_user(ALICE))
    extra.head = extra.answer = Answer(status=404)
    assert cache.get(extra.target, as_user(ALICE)).status == 404
    origin.stop()
    assert cache.get(extra.target, as_user(ALICE)).status == 502
    served(cache, image)


def test_a_tag_that_is_gone_ends_its_grace_and_not_its_manifest_s(origin, image, grace_cache):
    cache = grace_cache(origin)
    pull(cache, image)
    manifest, _ = image
    origin.pages[manifest.tag_target] = (404, (), b"")
    assert cache.get(manifest.tag_target, as_user(ALICE, ACCEPT)).status == 404
    origin.stop()
    assert cache.get(manifest.tag_target, as_user(ALICE, ACCEPT)).status == 502
    assert cache.get(manifest.target, as_user(ALICE, ACCEPT)).body == manifest.data


def test_what_is_allowed_again_after_a_refusal_has_its_grace_again(origin, image, grace_cache):
    cache = grace_cache(origin)
    origin.access = Access({ALICE: ["*"]})
    pull(cache, image)
    origin.access.grants[ALICE] = []
    assert cache.get(image[1].target, as_user(ALICE)).status == 403
    origin.access.grants[ALICE] = ["*"]
    pull(cache, image)
    origin.stop()
    served(cache, image)


def test_a_tag_is_what_this_credential_was_told_last(origin, image, grace_cache):
    cache = grace_cache(origin)
    pull(cache, image, BOB)
    old, _ = image
    new = origin.manifest("team/app", "v1", b'{"schemaVersion":2,"new":1}')
    assert cache.get(new.tag_target, as_user(ALICE, ACCEPT)).body == new.data
    origin.stop()
    assert cache.get(new.tag_target, as_user(ALICE, ACCEPT)).body == new.data
    assert cache.get(new.tag_target, as_user(BOB, ACCEPT)).body == old.data
    assert cache.get(new.tag_target, as_user(ALICE, ("Accept", DOCKER_MANIFEST))).status == 502


def test_all_listeners_know_and_a_reload_forgets_nothing_but_a_restart_does(origin, image,
                                                                            grace_cache):
    cache = grace_cache(origin, listeners=3)
    blob = image[1]
    with cache.connect_to(0) as c:
        assert c.request("GET", blob.target, as_user(ALICE)).body == blob.data
    origin.stop()
    for listener in (1, 2, 0):
        with cache.connect_to(listener) as c:
            assert c.request("GET", blob.target, as_user(ALICE)).body == blob.data
    hup(cache)
    assert cache.get(blob.target, as_user(ALICE)).body == blob.data
    cache.restart()
    assert cache.get(blob.target, as_user(ALICE)).status == 502


def test_another_host_that_answers_is_asked_and_not_the_grace(new_origin, new_cache):
    first, second = new_origin(), new_origin()
    cache = new_cache(server={
        "checkGrace": "10m",
        "registries": {"corp": {"hosts": [first.host, second.host], "scheme": "http"}},
        "defaultBackend": {"registry": "corp"}})
    blob, _ = first.blob("team/app", DATA), second.blob("team/app", DATA)
    cache.fetch(blob, as_user(ALICE))
    first.stop()
    assert cache.fetch(blob, as_user(ALICE)).header("Age") is None
    second.stop()
    assert cache.fetch(blob, as_user(ALICE)).header("Age") is not None


def test_ranges_and_conditions_work(origin, image, grace_cache):
    cache = grace_cache(origin)
    pull(cache, image)
    blob = image[1]
    origin.stop()
    part = cache.get(blob.target, as_user(ALICE, ("Range", "bytes=5-9")))
    assert (part.status, part.body) == (206, blob.data[5:10])
    same = cache.get(blob.target, as_user(ALICE, ("If-None-Match", f'"{blob.digest}"')))
    assert same.status == 304
    stranger = cache.get(blob.target, as_user(BOB, ("If-None-Match", f'"{blob.digest}"')))
    assert stranger.status == 502


def test_a_registry_that_is_back_is_asked_again(new_origin, grace_cache):
    port = free_port()
    first = new_origin(port=port)
    cache = grace_cache(first)
    blob = first.blob("team/app", DATA)
    cache.fetch(blob, as_user(ALICE))
    first.stop()
    assert cache.fetch(blob, as_user(ALICE)).header("Age") is not None
    second = new_origin(port=port, access=Access({BOB: ["*"]}))
    second.blob("team/app", DATA)
    wait_until(lambda: cache.get(blob.target, as_user(ALICE)).status == 401, "it is asked", 20)


def test_no_credential_and_no_name_is_kept_in_memory(origin, image, grace_cache):
    cache = grace_cache(origin)
    pull(cache, image)
    memory = shared_memory(cache.master)
    for secret in (ALICE.split()[1], "team/app", "a-secret"):
        assert secret.encode() not in memory
    assert bytes.fromhex(image[1].digest.partition(":")[2]) in memory  # it was looked at
