"""What keeps a storm of clients from a registry: a limit that it has set for a credential, and that it
does not answer."""
import email.utils
import select
import time

import pytest
from client import SLOW
from harness import Download, free_port, noise, shared_memory, wait_until
from profiles import DockerHub
from script import OCI_MANIFEST, Answer, basic
from test_reload import hup, upgrade
from trap import Trap

ALICE, BOB = basic("alice", "a-secret"), basic("bob", "b-secret")
ACCEPT = ("Accept", OCI_MANIFEST)
DATA = noise(200_000, 5)
QUOTA = (("ratelimit-limit", "100;w=21600"), ("RateLimit-Remaining", "0;w=21600"),
         ("docker-ratelimit-source", "192.0.2.7"))


def as_user(user):
    return [("Authorization", user)] if user else []


def limited(headers):
    return Answer(status=429, headers=headers)


# --- 429 ---------------------------------------------------------------------------------------


def pull(cache, manifest, user, listener=None):
    """What containerd does with a tag under 429: it asks five times more, at once."""
    with (cache.connect() if listener is None else cache.connect_to(listener)) as c:
        for _ in range(6):
            answer = c.request("HEAD", manifest.tag_target, [ACCEPT, *as_user(user)])
            assert answer.status == 429, answer
            assert 1 <= int(answer.header("Retry-After")) <= 30
        return answer


@pytest.mark.parametrize("user", [ALICE, None], ids=["alice", "anonymous"])
def test_a_storm_of_retries_reaches_the_registry_once(new_cache, origin, user):
    cache = new_cache(origin, server={"listeners": 3})
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    origin.limited = 30
    for listener in (0, 1, 2, 0):
        pull(cache, manifest, user, listener)
    for target in (manifest.tag_target, manifest.target, "/v2/team/app/tags/list"):
        answer = cache.get(target, [ACCEPT, *as_user(user)])
        assert (answer.status, answer.error_code()) == (429, "TOOMANYREQUESTS")
        assert answer.header("Content-Type") == "application/json"
    assert len(origin.entries()) == 1


def test_another_credential_and_another_registry_are_not_limited(new_cache, new_origin):
    limiting, other = new_origin(), new_origin()
    cache = new_cache(limiting, server={"upstreamRules": [
        {"regex": "^other", "host": other.host, "scheme": "http"}]})
    manifest = limiting.manifest("team/app", "v1", b'{"schemaVersion":2}')
    elsewhere = other.manifest("team/app", "v1", b'{"schemaVersion":2}')
    limiting.limited = 30
    pull(cache, manifest, ALICE)
    limiting.limited = None
    for user in (BOB, None):
        assert cache.get(manifest.tag_target, [ACCEPT, *as_user(user)]).body == manifest.data
    answer = cache.get(elsewhere.tag_target, [ACCEPT, *as_user(ALICE)], host="other.test")
    assert answer.body == elsewhere.data
    pull(cache, manifest, ALICE)


def test_the_quota_s_fields_are_told_with_each_repeat(cache, origin):
    blob = origin.blob("team/app", DATA)
    blob.answer = blob.head = limited((*QUOTA, ("Retry-After", "25"), ("X-Own", "1")))
    assert cache.get(blob.target).header("X-Own") == "1"
    for method in ("GET", "HEAD", "GET"):
        answer = cache.request(method, blob.target)
        assert answer.status == 429 and 1 <= int(answer.header("Retry-After")) <= 25
        for name, value in QUOTA:
            assert answer.header(name) == value, name
        assert answer.header("X-Own") is None and answer.header("Set-Cookie") is None
    assert len(origin.entries()) == 1


@pytest.mark.parametrize("value, least, most", [
    ("date", 55, 60), (None, 1, 7), ("nonsense", 1, 7), ("86400", 100, 120), ("0", 1, 1)])
def test_how_long_a_limit_holds(new_cache, origin, value, least, most):
    """Seconds, a date, not said, more than is believed, nothing at all."""
    cache = new_cache(origin, server={"rateLimitDefault": "7s", "rateLimitMax": "2m"})
    blob = origin.blob("team/app", DATA)
    if value == "date":
        value = email.utils.formatdate(time.time() + 60, usegmt=True)
    blob.answer = limited((("Retry-After", value),) if value else ())
    assert cache.get(blob.target).header("Retry-After") == value
    again = cache.get(blob.target)
    if most > 1:  # a limit of a second may be over
        assert least <= int(again.header("Retry-After")) <= most
        assert len(origin.entries()) == 1


def test_when_a_limit_is_over_the_registry_is_asked_again(cache, origin):
    blob = origin.blob("team/app", DATA)
    blob.once.append(limited((("Retry-After", "1"),)))
    assert cache.get(blob.target).status == 429
    wait_until(lambda: cache.get(blob.target).status == 200, "the limit is over")
    assert len(origin.fetches(blob)) == 2
    cache.fetch(blob)


def test_when_a_limit_is_over_one_client_tries_for_all(new_cache, origin):
    """The registry is not met by all of them at once, in case that it has not changed its mind."""
    cache = new_cache(origin, server={"listeners": 2})
    blob = origin.blob("team/app", DATA)
    blob.answer = limited((("Retry-After", "1"),))
    assert cache.get(blob.target).status == 429
    blob.answer = limited((("Retry-After", "30"),))
    wait_until(lambda: len(origin.entries()) == 2 or cache.get(blob.target) is None,
               "the limit was tried")
    for d in [Download(cache, blob.target) for _ in range(8)]:
        assert d.result().status == 429
    assert len(origin.entries()) == 2


def test_a_limit_is_known_after_a_reload_and_an_upgrade(new_cache, origin):
    cache = new_cache(origin)
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    origin.limited = 60
    pull_once = [ACCEPT, *as_user(ALICE)]
    assert cache.head(manifest.tag_target, pull_once).status == 429
    hup(cache)
    upgrade(cache)
    assert cache.head(manifest.tag_target, pull_once).status == 429
    assert len(origin.entries()) == 1


def test_503_for_mirrors_whose_clients_go_elsewhere(new_cache, origin):
    cache = new_cache(origin, server={"rateLimitStatus": "503"})
    manifest = origin.manifest("team/app", "v1", b'{"schemaVersion":2}')
    origin.limited = 30
    for target in (manifest.tag_target, manifest.target, "/v2/team/app/tags/list", "/v2/"):
        answer = cache.get(target, [ACCEPT])
        assert (answer.status, answer.error_code()) == (503, "TOOMANYREQUESTS")
        assert 1 <= int(answer.header("Retry-After")) <= 30
    assert len(origin.entries()) == 1


def test_a_limit_on_gets_of_manifests_keeps_nobody_from_blobs_and_heads(new_cache, new_origin):
    """Docker Hub counts the GET of a manifest and nothing else; what is here is still served."""
    origin = new_origin(profile=DockerHub(quota=1))
    cache = new_cache(origin)
    manifest, blobs = origin.image("library/app", "v1", [DATA])
    other, _ = origin.image("library/other", "v1", [noise(20)])
    assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
    for _ in range(3):
        assert cache.get(other.tag_target, [ACCEPT]).status == 429
    assert len(origin.gets(other)) == 1
    assert cache.get(manifest.tag_target, [ACCEPT]).body == manifest.data
    cache.fetch(blobs[1])


def test_what_writes_is_not_kept_back(cache, origin):
    origin.limited = 30
    assert cache.get("/v2/").status == 429
    origin.limited = None
    assert cache.get("/v2/").status == 429
    assert cache.request("POST", "/v2/team/app/blobs/uploads/", body=b"").status == 202


def test_nothing_of_a_credential_is_kept(cache, origin):
    blob = origin.blob("team/app", DATA)
    origin.limited = 30
    for _ in range(2):
        answer = cache.get(blob.target, as_user(ALICE))
        assert answer.status == 429
    secret = ALICE.split()[1].encode()
    assert secret not in answer.body and secret.decode() not in cache.log()
    for pid in (*cache.listeners().values(), cache.master):
        assert secret not in shared_memory(pid), pid


# --- hosts that do not answer ------------------------------------------------------------------


def down_cache(new_cache, host, **server):
    return new_cache(server={"defaultBackend": {"host": host, "scheme": "http"}, "downAfter": 3,
                             **server})


def fail_until_down(cache, host, target="/v2/"):
    """Asks until the cache says that the host is down; returns how often it asked."""
    for n in range(1, 10):
        cache.get(target)
        if f"registry http://{host} is down" in cache.log():
            return n
    raise AssertionError("it is not down")


def test_a_host_that_takes_no_connections_is_not_asked_any_more(new_cache, trap):
    host = trap("close")
    cache = down_cache(new_cache, host.host, listeners=3, downMax="5m")
    answer = cache.get("/v2/")
    assert answer.status == 502 and "not asked" not in answer.json()["errors"][0]["message"]
    assert fail_until_down(cache, host.host) == 2
    asked = host.connections
    for listener in (0, 1, 2, 0, 1, 2):
        with cache.connect_to(listener) as c:
            begun = time.monotonic()
            answer = c.request("GET", "/v2/")
            assert time.monotonic() - begun < 0.5 * SLOW
        if "not asked" not in answer.json()["errors"][0]["message"]:
            break  # a second has passed: this one was let through
        assert answer.status == 502 and answer.error_code() == "UNAVAILABLE"
        assert "the last 3 requests to it failed (no connection)" in answer.json()[
            "errors"][0]["message"]
        assert host.connections == asked


def test_a_host_that_hangs_is_504_at_once_when_it_is_known(new_cache, trap):
    host = trap("hang")
    cache = down_cache(new_cache, host.host, firstByteTimeout="1s")
    fail_until_down(cache, host.host)
    begun = time.monotonic()
    answer = cache.get("/v2/")
    assert answer.status == 504 and "not asked" in answer.json()["errors"][0]["message"]
    assert time.monotonic() - begun < 0.5 * SLOW


def test_one_request_at_a_time_tries_a_host_that_is_down(new_cache, trap):
    """Over all listeners; the others are answered meanwhile."""
    port = free_port()
    cache = down_cache(new_cache, f"127.0.0.1:{port}", listeners=3, firstByteTimeout="20s")
    fail_until_down(cache, f"127.0.0.1:{port}")
    host = trap("hang", port)
    probes = []

    def tried():
        probes.append(Download(cache, "/v2/"))
        return host.connections > 0

    wait_until(tried, "a request is let through")
    for _ in range(30):
        answer = cache.get("/v2/")
        assert answer.status in (502, 504)
        assert "not asked" in answer.json()["errors"][0]["message"]
    assert host.connections == 1


def test_who_tries_and_leaves_lets_another_try(new_cache, trap):
    port = free_port()
    cache = down_cache(new_cache, f"127.0.0.1:{port}", firstByteTimeout="60s")
    fail_until_down(cache, f"127.0.0.1:{port}")
    host = trap("hang", port)

    def tried(wanted):
        with cache.connect() as c:
            c.ask("GET", "/v2/")
            wait_until(lambda: host.connections >= wanted
                       or select.select([c.socket], [], [], 0)[0], "an answer")
        return host.connections >= wanted

    wait_until(lambda: tried(1), "a request is let through", 20)
    wait_until(lambda: tried(2), "another is, as the first has left", 20)


def test_a_host_that_answers_again_is_used_again_and_each_change_is_said_once(new_cache, new_origin):
    port = free_port()
    host = f"127.0.0.1:{port}"
    cache = down_cache(new_cache, host, listeners=3)
    fail_until_down(cache, host)
    for _ in range(20):
        cache.get("/v2/")
    origin = new_origin(port=port)
    wait_until(lambda: cache.get("/v2/").status == 200, "the host is asked again", 20)
    for d in [Download(cache, "/v2/") for _ in range(12)]:
        assert d.result().status == 200
    assert cache.log().count(f"registry http://{host} is down") == 1
    assert cache.log().count(f"registry http://{host} answers again") == 1
    assert len(origin.entries()) >= 13


def test_a_host_that_is_down_keeps_nobody_from_another(new_cache, new_origin, trap):
    dead, origin = trap("close"), new_origin()
    cache = down_cache(new_cache, dead.host, upstreamRules=[
        {"regex": "^other", "host": origin.host, "scheme": "http"}])
    fail_until_down(cache, dead.host)
    blob = origin.blob("team/app", DATA)
    assert cache.get(blob.target, host="other.test").body == DATA


def test_errors_and_refusals_do_not_make_a_host_down(cache, origin):
    origin.pages["/v2/x/tags/list"] = (503, (), b"")
    origin.pages["/v2/y/tags/list"] = (404, (), b"")
    for _ in range(12):
        assert cache.get("/v2/x/tags/list").status == 503
        assert cache.get("/v2/y/tags/list").status == 404
    assert "is down" not in cache.log() and len(origin.entries()) == 24


def test_down_after_0_is_never(new_cache, trap):
    host = trap("close")
    cache = down_cache(new_cache, host.host, downAfter=0)
    for n in range(1, 12):
        assert cache.get("/v2/").status == 502
        assert host.connections >= n


def test_a_fill_that_has_begun_outlasts_a_registry_that_restarts(new_cache, new_origin):
    """Its tries are what finds the host down; they go on, more and more seldom."""
    port = free_port()
    first = new_origin(port=port)
    cache = down_cache(new_cache, first.host, firstByteTimeout=f"{int(20 * SLOW)}s")
    blob = first.blob("team/app", noise(3_000_000))
    blob.answer = Answer(at=1_000_000, then="reset")
    download = Download(cache, blob.target)
    wait_until(lambda: first.sent(blob) >= 1_000_000, "it has begun")
    first.stop()
    cache.wait_log(f"registry http://{first.host} is down", 20)
    second = new_origin(port=port)
    again = second.blob("team/app", noise(3_000_000))
    assert download.result().body == again.data
    assert second.fetches(again)[0].first > 0


def test_tries_of_a_fill_are_further_and_further_apart(new_cache):
    """Connections are counted by when they came; the first and the last gap differ by far."""
    times = []

    class Watched(Trap):
        @property
        def connections(self):
            return len(times)

        @connections.setter
        def connections(self, value):
            if value:
                times.append(time.monotonic())

    host = Watched("close")
    try:
        cache = down_cache(new_cache, host.host, downAfter=0, firstByteTimeout="6s")
        answer = cache.get(f"/v2/team/app/blobs/sha256:{'1' * 64}")
        assert answer.status == 502
        assert "did not deliver the object: " in answer.json()["errors"][0]["message"]
    finally:
        host.stop()
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert 5 <= len(gaps) <= 12, gaps
    assert gaps[0] < 0.4 * SLOW and max(gaps[-3:]) > 3 * gaps[0], gaps
