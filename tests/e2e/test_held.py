"""Credentials that the cache holds for a registry: tokens and Basic, for clients that have none."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from harness import BINARY, Download, all_taken, noise, put_file, wait_until, yaml
from realm import SERVICE, Realm, TakesTokens, decoded
from script import Access, Answer, basic
from test_client_auth import hashed, write_users
from test_reload import hup

DATA = noise(60_000, 51)
USER, PASSWORD = "cache-robot", "h3ld-s3cret:%&="
HELD = basic(USER, PASSWORD)


def write_secret(path, text=f"{USER}:{PASSWORD}\n", mode=0o600):
    return put_file(path, text, mode)


@pytest.fixture
def secret(tmp_path):
    return write_secret(tmp_path / "secret")


@pytest.fixture
def new_realm():
    made = []

    def make(users=None, **options):
        made.append(Realm({HELD: ["team/app", "team/other"]} if users is None else users, **options))
        return made[-1].start()

    yield make
    for r in made:
        r.stop()


@pytest.fixture
def realm(new_realm):
    return new_realm()


@pytest.fixture
def registry(new_origin, realm):
    """A registry that takes this realm's tokens."""
    return new_origin(profile=TakesTokens(realm))


def config(origin, secret, clients="anonymous", **server):
    corp = {"hosts": [origin.host], "scheme": origin.scheme}
    if secret:
        corp["credentials"] = str(secret)
    return {"registries": {"corp": corp}, "defaultBackend": {"registry": "corp"},
            "auth": {"clients": clients}, **server}


@pytest.fixture
def held(new_cache, secret):
    """A cache that holds the credential for this registry."""
    def make(origin, **server):
        return new_cache(server=config(origin, secret, **server))
    return make


def said(answer):
    return answer.json()["errors"][0]["message"]


# --- tokens ------------------------------------------------------------------------------------


def test_a_realm_that_hangs_takes_no_more_than_the_time_of_one_answer(registry, realm, held):
    """Whoever asks it, and however many listeners there are that would ask it one after the other."""
    cache = held(registry, listeners=4, firstByteTimeout="2s")
    blob = registry.blob("team/app", DATA)
    realm.gate.clear()
    began = time.monotonic()
    clients = [Download(cache, blob.target, connection=cache.connect_to(k % 4)) for k in range(8)]
    answers = [c.result() for c in clients]
    took = time.monotonic() - began
    realm.gate.set()
    assert {a.status for a in answers} == {504} and all("realm" in said(a) for a in answers)
    assert 2 <= took < 5
    wait_until(lambda: cache.get(blob.target).status == 200, "the realm is asked again")


def test_a_realm_that_limits_is_left_alone_for_as_long_as_it_says(registry, realm, held):
    """A storm of clients would have it limit us for ever; here they come for longer than any other pause."""
    cache = held(registry, listeners=2)
    blob = registry.blob("team/app", DATA)
    realm.status, realm.retry_after = 429, "13"
    began = time.monotonic()

    def refused_for_long():
        assert cache.get(blob.target).status == 502
        return time.monotonic() - began > 11

    wait_until(refused_for_long, "time has passed", 20)
    assert len(realm.asked) == 1
    realm.status = None
    wait_until(lambda: cache.get(blob.target).status == 200, "it is asked again then", 10)
    assert len(realm.asked) == 2


def test_clients_without_credentials_pull_with_the_cache_s(registry, realm, held):
    cache = held(registry)
    manifest, blobs = registry.image("team/app", "v1", [DATA])
    for _ in ("cold", "hot"):
        assert cache.get(manifest.tag_target, [("Accept", "*/*")]).body == manifest.data
        for blob in blobs:
            cache.fetch(blob)
            assert cache.head(blob.target).status == 200
        assert cache.get("/v2/team/app/tags/list").status == 200
    # The listener that was not told yet what the registry wants asks without a token first.
    assert [e.status for e in registry.fetches(blobs[1]) if e.status != 401] == [200]
    asked = realm.asked[0]
    assert (asked["method"], asked["authorization"]) == ("GET", HELD)
    assert (asked["service"], asked["scope"], asked["account"]) == \
        (SERVICE, "repository:team/app:pull", USER)
    assert len(realm.asked) == 1
    told = {e.header("Authorization") for e in registry.entries()}
    assert told == {None, "Bearer t0ken-0"}  # the password itself went to the realm only


def test_each_repository_has_a_token_of_its_own(registry, realm, held):
    cache = held(registry)
    for repository in ("team/app", "team/other", "team/app"):
        cache.fetch(registry.blob(repository, DATA))
    assert [a["scope"] for a in realm.asked] == \
        ["repository:team/app:pull", "repository:team/other:pull"]


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_both_names_of_a_token_are_known(new_realm, new_origin, held, key):
    origin = new_origin(profile=TakesTokens(new_realm(key=key)))
    held(origin).fetch(origin.blob("team/app", DATA))


def test_what_a_client_sends_as_its_own_credential_stays_here(registry, held):
    cache = held(registry)
    blob = registry.blob("team/app", DATA)
    for value in (basic("client", "own"), "Bearer of-the-client"):
        cache.fetch(blob, [("Authorization", value)])
    assert all("client" not in str(e.headers) and basic("client", "own") not in str(e.headers)
               for e in registry.entries())


def test_eighty_clients_of_four_listeners_are_one_token(registry, realm, held):
    cache = held(registry, listeners=4, workers=80)
    blobs = [registry.blob("team/app", noise(2000, n)) for n in range(20)]
    realm.gate.clear()
    downloads = [Download(cache, blob.target) for blob in blobs for _ in range(4)]
    wait_until(lambda: len(realm.asked) > 0, "the realm is asked")
    for d in downloads:
        wait_until(lambda c=d.connection: all_taken(c.local_port, cache.port), "it is asked for")
    assert {cache.listener_of(d.connection) for d in downloads} == {0, 1, 2, 3}
    realm.gate.set()
    for d in downloads:
        assert d.result().status == 200
    for blob in blobs:
        cache.fetch(blob)
    assert len(realm.asked) == 1


def test_the_death_of_the_listener_that_asks_is_not_the_end_of_it(registry, realm, held):
    cache = held(registry, listeners=2)
    blob = registry.blob("team/app", DATA)
    realm.gate.clear()
    with cache.connect_to(0) as first, cache.connect_to(1) as second:
        first.ask("GET", blob.target)
        wait_until(lambda: len(realm.asked) == 1, "the first listener asks")
        second.ask("GET", blob.target)
        wait_until(lambda: len(registry.entries()) >= 2, "the second knows what it needs")
        os.kill(cache.listeners()[0], signal.SIGKILL)
        realm.gate.set()
        answer = second.receive()
    assert (answer.status, answer.body) == (200, DATA)
    assert len(realm.asked) == 2


def test_an_expired_token_is_replaced_without_a_word_to_clients(registry, realm, held):
    cache = held(registry, listeners=4, workers=40)
    blobs = [registry.blob("team/app", noise(2000, n)) for n in range(20)]
    cache.fetch(blobs[0])
    registry.profile.expired.add("t0ken-0")
    downloads = [Download(cache, b.target) for b in blobs]
    assert {d.result().status for d in downloads} == {200}
    assert len(realm.asked) == 2  # by one listener for all


def test_harbor_s_basic_for_an_expired_token_is_a_new_token_too(registry, realm, held):
    registry.profile.harbor = True
    cache = held(registry)
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    registry.profile.expired.add("t0ken-0")
    cache.fetch(blob)
    assert len(realm.asked) == 2
    assert all(not (e.header("Authorization") or "").startswith("Basic")
               for e in registry.entries())


def test_a_refresh_token_is_told_by_post(new_realm, new_origin, held, secret):
    realm = new_realm(users={}, key="access_token", methods=("POST",))
    realm.refresh_tokens["r3fresh%&+"] = ["team/app"]
    write_secret(secret, "<token>:r3fresh%&+")
    origin = new_origin(profile=TakesTokens(realm))
    held(origin).fetch(origin.blob("team/app", DATA))
    assert [(a["method"], a["authorization"], a["grant_type"], a["service"], a["scope"])
            for a in realm.asked] == \
        [("POST", None, "refresh_token", SERVICE, "repository:team/app:pull")]


def test_a_realm_without_get_is_told_the_password_by_post(new_realm, new_origin, held):
    realm = new_realm(methods=("POST",), key="access_token")
    origin = new_origin(profile=TakesTokens(realm))
    held(origin).fetch(origin.blob("team/app", DATA))
    assert [a["method"] for a in realm.asked] == ["GET", "POST"]
    assert (realm.asked[1]["username"], realm.asked[1]["password"]) == (USER, PASSWORD)


# --- Basic -------------------------------------------------------------------------------------


def test_a_registry_that_takes_basic_gets_it(new_origin, held):
    origin = new_origin(access=Access({HELD: ["team/app"]}))
    cache = held(origin)
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for _ in range(2):
        assert cache.get(manifest.tag_target, [("Accept", "*/*")]).body == manifest.data
        cache.fetch(blobs[1])
    told = [e.header("Authorization") for e in origin.entries()]
    assert {decoded(t) for t in told if t} == {f"{USER}:{PASSWORD}"}
    assert told.count(None) <= cache.listener_count  # once a listener, before it knows


def test_a_registry_that_asks_for_nothing_is_told_nothing(origin, held):
    cache = held(origin)
    cache.fetch(origin.blob("team/app", DATA))
    assert {e.header("Authorization") for e in origin.entries()} == {None}


def test_a_redirect_s_host_is_told_nothing(new_origin, held):
    store = new_origin(refuse_authorization=True)
    origin = new_origin(access=Access({HELD: ["team/app"]}))
    blob = origin.blob("team/app", DATA)
    store.raw["/bucket/x"] = store.blob("x", DATA)
    blob.answer = blob.head = Answer(status=307, location=f"{store.url}/bucket/x?sig=1")
    held(origin).fetch(blob)
    assert {e.header("Authorization") for e in store.entries()} == {None}


# --- no ----------------------------------------------------------------------------------------


def no_challenge(answer):
    return answer.status == 502 and not answer.values("WWW-Authenticate") and \
        "cache's own credential" in said(answer)


def test_a_realm_that_refuses_is_502_and_is_not_asked_again_at_once(registry, realm, held):
    cache = held(registry, listeners=4)
    realm.users.clear()
    blobs = [registry.blob("team/app", noise(100, n)) for n in range(10)]
    for answer in [Download(cache, b.target) for b in blobs]:
        assert no_challenge(answer.result())
    assert no_challenge(cache.get("/v2/team/app/tags/list"))
    assert no_challenge(cache.get("/v2/team/app/manifests/v1"))
    assert len(realm.asked) == 1  # a wrong password is not told until the account is locked


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_registry_that_refuses_the_cache_s_credential_is_502(new_origin, held, status, method):
    grants = {HELD: ["team/else"]} if status == 403 else {}
    origin = new_origin(access=Access(grants))
    cache = held(origin)
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for target in (blobs[1].target, manifest.target, manifest.tag_target, "/v2/team/app/tags/list"):
        if target.endswith("list") and status == 403:
            continue
        answer = cache.request(method, target, [("Accept", "*/*")])
        assert answer.status == 502 and not answer.values("WWW-Authenticate"), target
        assert method == "HEAD" or no_challenge(answer), target


def test_a_credential_that_is_refused_from_now_on_opens_nothing_that_is_here(new_origin, held):
    origin = new_origin(access=Access({HELD: ["team/app"]}))
    cache = held(origin)
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob)
    origin.access.grants.clear()
    assert no_challenge(cache.get(blob.target))


def test_what_does_not_exist_is_still_404(registry, held):
    cache = held(registry)
    registry.blob("team/app", DATA)
    answer = cache.get("/v2/team/app/blobs/sha256:" + "0" * 64)
    assert (answer.status, answer.error_code()) == (404, "BLOB_UNKNOWN")


# --- where a credential may go -----------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://localhost:{port}/token", "http://[::1]:{port}/token",
                                 "http://127.0.0.1:{port}@evil.example/token", "//127.0.0.1/x",
                                 "http://127.0.0.1.evil.example:{port}/token", "ftp://127.0.0.1/t"])
def test_a_realm_elsewhere_is_told_nothing(new_realm, new_origin, held, url):
    realm = new_realm()
    origin = new_origin(profile=TakesTokens(realm, url.format(port=realm.port)))
    cache = held(origin)
    answer = cache.get(origin.blob("team/app", DATA).target)
    assert answer.status == 502 and not answer.values("WWW-Authenticate")
    assert realm.asked == []
    assert {e.header("Authorization") for e in origin.entries()} == {None}
    assert "another's realm" in cache.log() or "realm" not in url


def test_an_https_registry_s_realm_is_https(new_realm, new_origin, held, pki):
    realm = new_realm()  # by http
    origin = new_origin(profile=TakesTokens(realm), tls=pki.server_context())
    cache = held(origin, tls={"caPath": pki.ca})
    assert cache.get(origin.blob("team/app", DATA).target).status == 502
    assert realm.asked == []


def test_tokens_of_an_https_realm(new_realm, new_origin, held, pki):
    realm = new_realm(tls=pki.server_context())
    origin = new_origin(profile=TakesTokens(realm), tls=pki.server_context())
    held(origin, tls={"caPath": pki.ca}).fetch(origin.blob("team/app", DATA))
    assert len(realm.asked) == 1


def test_a_realm_s_redirect_is_not_followed(new_realm, new_origin, held):
    thief = new_realm()
    realm = new_realm()
    realm.status, realm.location = 307, thief.url
    origin = new_origin(profile=TakesTokens(realm))
    cache = held(origin)
    assert cache.get(origin.blob("team/app", DATA).target).status == 502
    assert len(realm.asked) == 1 and thief.asked == []


@pytest.mark.parametrize("body", [b"", b"{}", b"no", b'{"token":""}', b'{"token":3}', b"[]",
                                  b'{"token":"a\\r\\nX-Evil: 1"}', b'{"token":"a b"}',
                                  b"x" * 200_000], ids=lambda body: repr(body[:30]))
def test_a_realm_that_talks_nonsense_is_502(new_realm, new_origin, held, body):
    realm = new_realm()
    realm.body = body
    origin = new_origin(profile=TakesTokens(realm))
    cache = held(origin)
    answer = cache.get(origin.blob("team/app", DATA).target)
    assert answer.status == 502 and not answer.values("WWW-Authenticate")
    assert {e.header("Authorization") for e in origin.entries()} == {None}


def test_a_realm_that_is_down_is_502_and_comes_back(new_realm, new_origin, held):
    realm = new_realm()
    realm.status = 503
    origin = new_origin(profile=TakesTokens(realm))
    cache = held(origin)
    blob = origin.blob("team/app", DATA)
    assert cache.get(blob.target).status == 502
    realm.status = None
    cache.fetch(blob)


def test_only_repositories_are_read_with_it(registry, realm, held):
    """A client must not get at the registry's other paths, or its tokens, as the cache's account."""
    cache = held(registry)
    for target in ("/v2/_catalog", "/auth/token?service=x", "/v2/auth?scope=x", "/",
                   "/api/v2.0/users", "/v2/team/app/blobs/uploads/u0", "/v2/team/app/else"):
        assert cache.get(target).status in (400, 404), target
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for target in ("/v2/team/app/blobs/uploads/", "/v2/team/app/manifests/v1", "/auth/token"):
            assert cache.request(method, target, [], b"{}").status == 405, (method, target)
    own = cache.get("/token?service=x&scope=repository:team/app:pull").json()["token"]
    for method in ("GET", "HEAD"):
        answer = cache.request(method, "/v2/", [("Authorization", f"Bearer {own}")])
        assert answer.status == 200
    assert registry.entries() == [] and realm.asked == []


def test_clients_that_name_it_by_a_prefix_get_a_token_of_the_cache_s(registry, realm, new_cache, secret):
    """podman and crane ask the ping, then /token: neither is to end in a question for a password."""
    server = config(registry, secret)
    del server["defaultBackend"]
    cache = new_cache(server=server)
    blob = registry.blob("team/app", DATA)
    target = blob.target.replace("/v2/", "/v2/corp/")
    assert cache.get("/v2/").values("WWW-Authenticate")[0].startswith("Bearer realm=")
    answer = cache.get("/token?service=x&scope=repository:corp/team/app:pull")
    assert answer.status == 200
    for who in ([], [("Authorization", f"Bearer {answer.json()['token']}")]):
        for method in ("GET", "HEAD"):
            pulled = cache.request(method, target, who)
            assert pulled.status == 200 and pulled.body == (DATA if method == "GET" else b"")
    assert {a["authorization"] for a in realm.asked} == {HELD}
    assert cache.request("PUT", "/v2/corp/team/app/manifests/v1", [], b"{}").status == 405


# --- its file ----------------------------------------------------------------------------------


def test_another_password_by_hup(registry, realm, held, secret):
    cache = held(registry)
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    other = basic(USER, "another")
    realm.users = {other: ["team/app"]}
    cache.fetch(blob)  # the token is still good
    write_secret(secret, f"{USER}:another")
    hup(cache)
    cache.fetch(blob)
    assert [a["authorization"] for a in realm.asked] == [HELD, other]


BAD_FILES = {
    "others may read it": (f"{USER}:x", 0o604, "mode 0604 opens it to others, expected 0600"),
    "the group may read it": (f"{USER}:x", 0o640, "mode 0640 opens it to others, expected 0600"),
    "no colon": (USER, 0o600, "not of the form user:password"),
    "no user": (":x", 0o600, "not of the form user:password"),
    "no password": (f"{USER}:", 0o600, "the password is empty"),
    "two lines": (f"{USER}:x\ny:z\n", 0o600, "more than one line"),
    "nothing": ("", 0o600, "not of the form user:password"),
    "too much": ("a:" + "x" * 20000, 0o600, "more than 16384 bytes"),
}


@pytest.mark.parametrize("text,mode,why", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_changes_nothing_and_a_start_fails(registry, held, secret, text, mode, why):
    cache = held(registry)
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    write_secret(secret, text, mode)
    hup(cache, "the configuration is not changed")
    assert f"server.registries.corp.credentials: {secret}: {why}" in cache.log()
    cache.fetch(blob)
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2 and why in done.stderr


def test_that_everybody_may_use_it_has_to_be_said(new_cache, origin, secret):
    server = config(origin, secret)
    del server["auth"]
    cache = new_cache(start=False, server={**server, "address": "127.0.0.1:0"})
    cache.config_path.write_text(yaml(cache.config) + "\n")
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2 and "anonymous if that is meant" in done.stderr


# --- with clients that the cache knows ---------------------------------------------------------


ALICE, BOB = basic("alice", "wonder-land"), basic("bob", "builder-2")


@pytest.fixture
def users(tmp_path):
    return str(write_users(tmp_path / "users", hashed("alice", "wonder-land"),
                           hashed("bob", "builder-2")))


def test_two_users_of_the_cache_pull_with_its_credential(registry, realm, new_cache, secret, users):
    server = config(registry, secret)
    server["auth"] = {"clients": "password", "htpasswd": users}
    cache = new_cache(server=server)
    manifest, blobs = registry.image("team/app", "v1", [DATA])
    for who in (ALICE, BOB, ALICE):
        assert cache.get("/v2/", [("Authorization", who)]).status == 200
        assert cache.get(manifest.tag_target, [("Authorization", who), ("Accept", "*/*")]).body \
            == manifest.data
        cache.fetch(blobs[1], [("Authorization", who)])
    before = len(registry.entries())
    for who in ([], [("Authorization", basic("alice", "x"))], [("Authorization", HELD)],
                [("Authorization", "Bearer t0ken-0")]):
        answer = cache.get(blobs[1].target, who)
        assert answer.status == 401 and answer.values("WWW-Authenticate") == ['Basic realm="registry-cache"']
    assert len(registry.entries()) == before and len(realm.asked) == 1
    told = {a["authorization"] for a in realm.asked} | {e.header("Authorization")
                                                        for e in registry.entries()}
    assert told == {HELD, None, "Bearer t0ken-0"}


def test_a_registry_without_credentials_gives_known_clients_what_it_gives_anybody(
        new_realm, new_origin, new_cache, users):
    """Docker Hub wants a token of anonymous clients, too: the cache gets it."""
    realm = new_realm(users={None: ["team/app"]})
    origin = new_origin(profile=TakesTokens(realm))
    server = config(origin, None)
    server["auth"] = {"clients": "password", "htpasswd": users}
    cache = new_cache(server=server)
    open_blob, closed = origin.blob("team/app", DATA), origin.blob("team/private", noise(50))
    for who in (ALICE, BOB):
        cache.fetch(open_blob, [("Authorization", who)])
        answer = cache.get(closed.target, [("Authorization", who)])
        assert (answer.status, answer.error_code()) == (403, "DENIED")
        assert not answer.values("WWW-Authenticate")
    told = {a["authorization"] for a in realm.asked} | {e.header("Authorization")
                                                        for e in origin.entries()}
    assert not [t for t in told if t and not t.startswith("Bearer t0ken-")]


# --- finding it --------------------------------------------------------------------------------


def mappings(pid):
    """(first, last, is it dumped?) of the process's memory."""
    out, span = [], None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if m := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line):
            span = (int(m[1], 16), int(m[2], 16), m[3])
        elif line.startswith("VmFlags:") and "r" in span[2]:
            out.append((span[0], span[1], " dd" not in line))
    return out


def dumped(pid):
    """What a core dump of the process would have in it."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for first, last, is_dumped in mappings(pid):
            if is_dumped:
                try:
                    memory.seek(first)
                    parts.append(memory.read(last - first))
                except (OSError, ValueError, OverflowError):
                    pass  # vvar, vsyscall
    return b"".join(parts)


def test_the_credential_and_its_tokens_are_in_no_log_file_or_core(registry, realm, new_cache, secret):
    long = PASSWORD * 40  # where copies grow, they are left behind
    write_secret(secret, f"{USER}:{long}")
    realm.users = {basic(USER, long): ["team/app"]}
    cache = new_cache(server=config(registry, secret), log={"level": "trace"}, sandbox=False)
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    realm.users.clear()
    registry.profile.expired.add("t0ken-0")
    assert cache.get(blob.target).status == 502
    wanted = (PASSWORD.encode(), basic(USER, long)[6:106].encode(), b"t0ken-0")
    core = dumped(cache.master)
    assert b"registry-cache" in core and not [w for w in wanted if w in core]
    for pid in cache.listeners().values():
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0", limits)
    places = {f"/proc/{p}/{n}": pathlib.Path(f"/proc/{p}/{n}").read_bytes()
              for p in (cache.master, *cache.children()) for n in ("cmdline", "environ")}
    cache.stop()
    for path in [cache.log_path, *(p for p in cache.data.rglob("*") if p.is_file())]:
        places[str(path)] = path.read_bytes()
    for name, data in places.items():
        assert not [w for w in wanted if w in data], name


# --- a client's own Basic ----------------------------------------------------------------------


CLIENT, OTHER = basic("client", "own"), basic("other", "own")


@pytest.fixture
def exchanging(new_realm, new_origin, new_cache):
    """(cache, registry that takes tokens only, its realm)"""
    realm = new_realm(users={CLIENT: ["team/app"], OTHER: ["team/other"]})
    origin = new_origin(profile=TakesTokens(realm))
    return new_cache(origin, server={"listeners": 4}), origin, realm


def test_a_client_s_basic_is_exchanged_where_only_tokens_are_taken(exchanging):
    cache, origin, realm = exchanging
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for _ in range(8):
        who = [("Authorization", CLIENT), ("Accept", "*/*")]
        assert cache.get(manifest.tag_target, who).body == manifest.data
        cache.fetch(blobs[1], who)
        assert cache.head(blobs[1].target, who).status == 200
    assert len(realm.asked) == 1 and realm.asked[0]["authorization"] == CLIENT
    assert len(origin.fetches(blobs[1])) <= 2
    assert {e.header("Authorization") for e in origin.entries()} == {CLIENT, "Bearer t0ken-0"}


def test_one_client_s_token_is_never_another_s(exchanging):
    cache, origin, realm = exchanging
    blob = origin.blob("team/app", DATA)
    for _ in range(4):
        cache.fetch(blob, [("Authorization", CLIENT)])
        for who in ([("Authorization", OTHER)], [("Authorization", basic("client", "wrong"))], []):
            answer = cache.get(blob.target, who)
            assert answer.status == 401 and DATA[:32] not in answer.body
            assert answer.values("WWW-Authenticate")[0].startswith("Bearer realm=")
    assert sum(a["authorization"] == CLIENT for a in realm.asked) == 1
    wrong = [a for a in realm.asked if a["authorization"] == basic("client", "wrong")]
    assert len(wrong) <= 2  # a password that the realm has refused is not told to it at once again


@pytest.mark.parametrize("named", ["localhost", "localhost:{port}", "localhost:1", None])
def test_a_realm_elsewhere_that_the_configuration_names_is_asked(new_realm, new_origin, new_cache, secret, named):
    realm = new_realm()
    realm.url = realm.url.replace("127.0.0.1", "localhost")
    registry = new_origin(profile=TakesTokens(realm))
    server = config(registry, secret)
    if named:
        server["registries"]["corp"]["realm"] = named.format(port=realm.port)
    cache = new_cache(server=server)
    blob = registry.blob("team/app", DATA)
    allowed = named in ("localhost", "localhost:{port}")
    assert cache.get(blob.target).status == (200 if allowed else 502)
    assert (len(realm.asked) > 0) == allowed


def test_a_client_s_basic_goes_to_no_realm_elsewhere(new_realm, new_origin, new_cache):
    realm = new_realm(users={CLIENT: ["team/app"]})
    origin = new_origin(profile=TakesTokens(realm, f"http://localhost:{realm.port}/token"))
    cache = new_cache(origin)
    answer = cache.get(origin.blob("team/app", DATA).target, [("Authorization", CLIENT)])
    assert answer.status == 401 and realm.asked == []


def test_where_basic_is_taken_too_it_is_not_exchanged(new_realm, new_origin, new_cache):
    realm = new_realm(users={CLIENT: ["team/app"]})
    origin = new_origin(profile=TakesTokens(realm, also_basic=True))
    cache = new_cache(origin)
    answer = cache.get(origin.blob("team/app", DATA).target, [("Authorization", CLIENT)])
    assert answer.status == 401 and len(answer.values("WWW-Authenticate")) == 2
    assert realm.asked == []


def test_renewing_does_not_make_hits_slow(registry, realm, held):
    """A hundred hits of four listeners with a known token take no word to the realm."""
    cache = held(registry, listeners=4)
    blob = registry.blob("team/app", DATA)
    cache.fetch(blob)
    began = time.monotonic()
    for _ in range(100):
        cache.fetch(blob)
    assert len(realm.asked) == 1 and time.monotonic() - began < 20
