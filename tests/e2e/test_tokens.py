"""The cache's own ping, challenge and /token, for clients that put a registry's name before its
repositories."""
import base64
import json
import re
import urllib.parse

import pytest
from client import Connection
from harness import noise
from script import Access, basic

ALICE = basic("alice", "wonder land")
JSON = (("Content-Type", "application/json"),)
ANY = ("Accept", "*/*")


class Site:
    """A private origin of either kind, an open one, and a cache that knows them by name."""

    def __init__(self, new_origin, new_cache, challenge="bearer", default=None, **registry):
        self.private, self.open = new_origin(), new_origin()
        for o in (self.private, self.open):
            self.manifest = o.manifest("team/app", "v1", b'{"schemaVersion":2}')
        self.blob = self.private.blob("team/app", noise(5000))
        self.good = "Bearer good" if challenge == "bearer" else ALICE
        self.private.access = Access({self.good: {"*"}}, challenge=challenge)
        self.reply(200, b'{"token":"good",  "expires_in":60}')
        self.cache = new_cache(default, server={"registries": {
            "private.test": {"hosts": [self.private.host], "scheme": "http", **registry},
            "open.test": {"hosts": [self.open.host], "scheme": "http"}}})

    def reply(self, status, body, headers=JSON):
        self.private.pages["/token"] = (status, headers, body)

    def token(self, *scopes, authorization=None, more="", **options):
        query = "&".join(f"scope={urllib.parse.quote(s, safe='')}" for s in scopes)
        headers = [("Authorization", authorization)] if authorization else []
        return self.cache.get(f"/token?{query}{more}", headers, **options)

    def asked(self, origin=None):
        """What came to the realm."""
        return [e for e in (origin or self.private).entries() if e.path == "/token"]


@pytest.fixture
def site(new_origin, new_cache):
    return Site(new_origin, new_cache)


@pytest.fixture
def users(new_origin, new_cache):
    return Site(new_origin, new_cache, "basic")


PULL = "repository:private.test/team/app:pull"


def challenge(answer):
    """The parameters of the one challenge."""
    value = answer.header("WWW-Authenticate")
    assert value.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', value))


def bearer(answer):
    return [("Authorization", "Bearer " + answer.json()["token"]), ANY]


# --- the ping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/v2/", "/v2"])
def test_the_ping_names_the_cache_s_own_realm(site, method, target):
    answer = site.cache.request(method, target, host="Cache.test:7000")
    assert answer.status == 401
    assert challenge(answer) == {"realm": "http://cache.test:7000/token",
                                 "service": "cache.test:7000"}
    assert method == "HEAD" or answer.error_code() == "UNAUTHORIZED"
    assert site.cache.request(method, target, [("Authorization", "Bearer x")]).status == 200
    assert site.private.entries() == site.open.entries() == []


@pytest.mark.parametrize("said, scheme", [
    ("https", "https"), ("HTTPS", "https"), ("https, http", "https"), ("https,http", "https"),
    ("http", "http"), ("http, https", "http"), ("httpsx", "http"), ("ftp", "http"), ("", "http")])
def test_the_own_realm_is_https_behind_a_balancer_that_ends_tls(site, said, scheme):
    """Else a client would send its password in the clear, or nowhere."""
    for target in ("/v2/", "/v2/private.test/team/app/manifests/v1"):
        answer = site.cache.get(target, [("X-Forwarded-Proto", said)], host="cache.test")
        assert answer.status == 401
        assert challenge(answer)["realm"] == f"{scheme}://cache.test/token"


def test_with_tls_of_our_own_the_realm_is_never_http(new_origin, new_cache, pki):
    origin = new_origin()
    cache = new_cache(server={"registries": {"one.test": {"hosts": [origin.host], "scheme": "http"}},
                              "tls": {"certPath": pki.cert, "keyPath": pki.key}})
    for said in ([], [("X-Forwarded-Proto", "http")]):
        with Connection(cache.address, tls=pki.client_context()) as c:
            answer = c.request("GET", "/v2/", said)
        assert challenge(answer)["realm"].startswith("https://127.0.0.1")


def test_a_ping_that_names_its_registry_is_that_registry_s(site):
    for target in ("/v2/?ns=private.test", "/private.test/v2/"):
        answer = site.cache.get(target)
        assert answer.status == 401 and site.private.url in answer.values("WWW-Authenticate")[0]
    for target in ("/v2/?ns=open.test", "/open.test/v2/", "/v2/open.test/"):
        assert site.cache.get(target).status == 200


def test_a_host_that_is_none_gets_no_challenge(site):
    for host in ('a"b', "a b", "a/b"):
        answer = site.cache.get("/v2/", host=host)
        assert answer.status == 400 and answer.values("WWW-Authenticate") == []


def test_without_registries_the_ping_is_the_default_s(new_cache, new_origin):
    origin = new_origin(access=Access({}, challenge="bearer"))
    cache = new_cache(origin)
    answer = cache.get("/v2/")
    assert answer.status == 401 and origin.url in answer.values("WWW-Authenticate")[0]
    assert cache.get("/token?scope=x").status == 401      # the default's own
    assert origin.entries()[-1].target == "/token?scope=x"


def test_where_no_path_can_name_a_registry_the_ping_is_the_default_s(new_cache, new_origin):
    origin = new_origin()
    cache = new_cache(origin, server={"registries": {"127.0.0.1:5": {"scheme": "http"}}})
    assert cache.get("/v2/").status == 200
    assert len(origin.entries()) == 1


# --- the challenge of an object ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bearer", "basic"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_401_by_prefix_names_the_cache_s_realm_and_the_client_s_scope(new_origin, new_cache, kind,
                                                                        method):
    site = Site(new_origin, new_cache, kind)
    for target in ("/v2/private.test/team/app/manifests/v1",
                   f"/v2/private.test{site.blob.target.removeprefix('/v2')}"):
        answer = site.cache.request(method, target, [ANY])
        assert answer.status == 401
        assert challenge(answer)["realm"] == f"http://127.0.0.1:{site.cache.port}/token"
        assert challenge(answer)["scope"] == PULL
        assert "error" not in challenge(answer)
        answer = site.cache.request(method, target, [ANY, ("Authorization", "Bearer old")])
        assert answer.status == 401 and challenge(answer)["error"] == "invalid_token"


def test_the_registry_s_own_scope_and_error_are_kept(new_origin, new_cache):
    site = Site(new_origin, new_cache)
    site.private.pages["/v2/team/app/tags/list"] = (401, (
        ("WWW-Authenticate", f'Bearer realm="{site.private.url}/token",service="s",'
         'scope="repository:team/app:pull,push registry:catalog:*",error="insufficient_scope"'),
        ("WWW-Authenticate", "Basic realm=x")), b"{}")
    answer = site.cache.get("/v2/private.test/team/app/tags/list")
    assert challenge(answer)["error"] == "insufficient_scope"
    assert challenge(answer)["scope"] == \
        "repository:private.test/team/app:pull,push registry:catalog:*"


def test_who_names_the_registry_otherwise_gets_its_own_challenge(site):
    for target, headers in (("/v2/team/app/manifests/v1?ns=private.test", []),
                            ("/private.test/v2/team/app/manifests/v1", []),
                            ("/v2/private.test/team/app/manifests/v1?ns=private.test", []),
                            ("/v2/team/app/manifests/v1",
                             [("X-Dragonfly-Registry", "private.test")])):
        answer = site.cache.get(target, headers)
        lines = answer.values("WWW-Authenticate")
        assert lines[0] == (f'Bearer realm="{site.private.url}/token",service="origin",'
                            'scope="repository:team/app:pull"')
        assert lines[1] == 'Basic realm="origin"'


# --- tokens of the registry --------------------------------------------------------------------


def test_a_token_is_the_realm_s_answer_byte_by_byte(site):
    answer = site.token(PULL, authorization=ALICE, more="&account=alice&service=cache&client_id=x")
    assert (answer.status, answer.body) == (200, b'{"token":"good",  "expires_in":60}')
    asked, = site.asked()
    assert asked.query == {"scope": ["repository:team/app:pull"], "service": ["origin"],
                           "account": ["alice"], "client_id": ["x"]}
    assert asked.header("Authorization") == ALICE
    assert site.open.entries() == []
    assert {e.header("Authorization") for e in site.private.entries()} == {None, ALICE}
    pulled = site.cache.get("/v2/private.test/team/app/manifests/v1", bearer(answer))
    assert pulled.status == 200
    assert site.private.heads()[-1].header("Authorization") == "Bearer good"
    for secret in (ALICE.split()[1], "wonder land", "good"):
        assert secret not in site.cache.log()


def test_the_realm_is_learned_once_for_a_while(site):
    for _ in range(3):
        with site.cache.connect_to(0) as c:
            assert c.request("GET", f"/token?scope={PULL}").status == 200
    assert len(site.private.heads()) == 1 and len(site.asked()) == 3


def test_the_realm_is_learned_from_a_pull_too(site):
    with site.cache.connect_to(0) as c:
        assert c.request("GET", "/v2/private.test/team/app/manifests/v1", [ANY]).status == 401
        before = len(site.private.entries())
        assert c.request("GET", f"/token?scope={PULL}").status == 200
    assert [e.path for e in site.private.entries()[before:]] == ["/token"]


def test_the_union_of_scopes_that_clients_send_becomes_one(site):
    """GG and oras ask for what they want and for what the challenge said."""
    assert site.token(PULL, PULL, f"{PULL} repository:private.test/other:pull,push").status == 200
    assert site.asked()[-1].query["scope"] == ["repository:team/app:pull",
                                               "repository:other:pull,push"]


def test_scopes_of_two_registries_are_400(site):
    for scopes in ((PULL, "repository:open.test/a:pull"), (PULL, "repository:nothing/a:pull"),
                   (f"{PULL} repository:open.test/a:pull",)):
        assert site.token(*scopes, authorization=ALICE).status == 400
    assert site.private.entries() == site.open.entries() == []


@pytest.mark.parametrize("scope", ["repository:elsewhere.test/a:pull", "repository:a:pull",
                                   "repository:private.test/../x:pull",
                                   "repository:private.test/UPPER:pull", "repository::pull",
                                   "repository:private.test/a\r\nX: y:pull"])
def test_a_scope_that_names_no_registry_is_400_and_nobody_is_asked(site, scope):
    assert site.token(scope, authorization=ALICE).status == 400
    assert site.private.entries() == site.open.entries() == []


@pytest.mark.parametrize("status, told", [(401, 401), (403, 403), (404, 404), (400, 400),
                                          (500, 503), (502, 502), (503, 503)])
def test_a_realm_s_refusal_is_relayed_and_is_never_a_bearer_challenge(site, status, told):
    site.reply(status, b'{"details":"no"}', (*JSON, ("WWW-Authenticate", 'Bearer realm="x"')))
    answer = site.token(PULL, authorization=ALICE)
    assert answer.status == told
    assert all(v.startswith("Basic ") for v in answer.values("WWW-Authenticate"))
    assert (told == 401) == bool(answer.values("WWW-Authenticate"))
    assert status >= 500 or answer.body == b'{"details":"no"}'


def test_a_page_and_a_flood_are_no_tokens(site):
    site.reply(200, b"<html>log in", (("Content-Type", "text/html"),))
    assert site.token(PULL).status == 502
    site.reply(200, b"x" * 200_000)
    assert site.token(PULL).status == 502


def test_a_form_is_put_to_the_realm_in_the_registry_s_words(site):
    form = urllib.parse.urlencode({"grant_type": "refresh_token", "refresh_token": "re/fresh",
                                   "service": "cache", "client_id": "c",
                                   "scope": f"{PULL} {PULL} repository:private.test/b:pull"})
    answer = site.cache.request("POST", "/token", [
        ("Content-Type", "application/x-www-form-urlencoded")], form.encode())
    assert answer.status == 200                       # the origin sends the form back
    assert urllib.parse.parse_qs(answer.body.decode()) == {
        "grant_type": ["refresh_token"], "refresh_token": ["re/fresh"], "service": ["origin"],
        "client_id": ["c"], "scope": ["repository:team/app:pull repository:b:pull"]}
    asked, = site.asked()
    assert asked.header("Content-Type") == "application/x-www-form-urlencoded"
    assert asked.target == "/token"
    assert "re/fresh" not in site.cache.log() and "re%2Ffresh" not in site.cache.log()


def test_a_form_may_come_byte_by_byte_and_must_end(site):
    form = f"grant_type=password&username=u&password=p&scope={PULL}".encode()
    with site.cache.connect() as c:
        c.send(c.head("POST", "/token", length=len(form)))
        for byte in form:
            c.send(bytes([byte]))
        assert c.receive("POST").status == 200
        assert c.request("GET", "/v2/", [("Authorization", "x")]).status == 200
    assert site.cache.request("POST", "/token", body=b"x" * 70_000).status == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_get_no_token(site, method):
    answer = site.cache.request(method, f"/token?scope={PULL}")
    assert answer.status == 404 and site.private.entries() == []


def test_a_body_of_a_get_is_no_second_request(site):
    with site.cache.connect() as c:
        c.send(c.head("GET", f"/token?scope={PULL}", length=30) + b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.receive().status == 400
        assert c.closed_by_peer()


def test_a_realm_elsewhere_gets_nothing(new_origin, new_cache):
    """Credentials go to the registry's own domain, or to what the configuration names."""
    thief = new_origin()
    thief.pages["/token"] = (200, JSON, b'{"token":"good"}')
    thief_url = f"http://localhost:{thief.port}/token"
    challenged = (401, (("WWW-Authenticate", f'Bearer realm="{thief_url}"'),), b"{}")
    for registry, status in (({}, 502), ({"realm": "localhost"}, 200),
                             ({"realm": f"localhost:{thief.port}"}, 200),
                             ({"realm": "localhost:1"}, 502)):
        site = Site(new_origin, new_cache, **registry)
        site.private.pages["/v2/team/app/manifests/latest"] = challenged
        thief.forget()
        assert site.token(PULL, authorization=ALICE).status == status
        assert len(thief.entries()) == (status == 200)


def test_a_realm_s_redirect_elsewhere_gets_no_credential(site, new_origin):
    other = new_origin()
    other.pages["/there"] = (200, JSON, b'{"token":"other"}')
    site.reply(307, b"", (("Location", f"{other.url}/there"),))
    answer = site.token(PULL, authorization=ALICE)
    assert answer.status == 200
    assert [e.header("Authorization") for e in other.entries()] == [None]
    answer = site.cache.request("POST", "/token", body=f"scope={PULL}&password=secret".encode())
    assert answer.status in (200, 502) and len(other.entries()) == 1


# --- registries without tokens -----------------------------------------------------------------


def test_an_open_registry_has_an_anonymous_token_that_stays_here(site):
    scope = "repository:open.test/team/app:pull"
    for authorization in (None, ALICE):
        answer = site.token(scope, authorization=authorization)
        assert answer.status == 200 and answer.json()["access_token"] == answer.json()["token"]
        pulled = site.cache.get("/v2/open.test/team/app/manifests/v1", bearer(answer))
        assert pulled.status == 200
    assert {e.header("Authorization") for e in site.open.entries()} == {None}


def test_a_registry_with_users_gets_user_and_password_again(users):
    answer = users.token(PULL, authorization=ALICE)
    assert answer.status == 200
    for _ in ("cold", "hot"):
        pulled = users.cache.get("/v2/private.test/team/app/manifests/v1", bearer(answer))
        assert pulled.status == 200
        pulled = users.cache.get(f"/v2/private.test{users.blob.target.removeprefix('/v2')}",
                                 bearer(answer))
        assert pulled.body == users.blob.data
    assert {e.header("Authorization") for e in users.private.entries()} == {None, ALICE}
    secret = base64.b64decode(ALICE.split()[1]).decode()
    for text in (ALICE.split()[1], secret, answer.json()["token"]):
        assert text not in users.cache.log()


def test_wrong_users_are_told_at_once(users):
    for authorization in (None, basic("alice", "guess")):
        answer = users.token(PULL, authorization=authorization)
        assert answer.status == 401 and answer.error_code() == "UNAUTHORIZED"
        assert answer.header("WWW-Authenticate").startswith("Basic ")


def test_a_form_s_user_is_one_too(users):
    form = {"grant_type": "password", "username": "alice", "password": "wonder land", "scope": PULL}
    answer = users.cache.request("POST", "/token", body=urllib.parse.urlencode(form).encode())
    assert answer.status == 200
    assert users.cache.get("/v2/private.test/team/app/manifests/v1", bearer(answer)).status == 200
    form["password"] = "guess"
    answer = users.cache.request("POST", "/token", body=urllib.parse.urlencode(form).encode())
    assert answer.status == 401


def test_a_token_of_ours_is_good_after_a_restart_and_at_another_node(users, new_cache):
    headers = bearer(users.token(PULL, authorization=ALICE))
    other = new_cache(server=users.cache.config["server"])
    assert other.get("/v2/private.test/team/app/manifests/v1", headers).status == 200
    users.cache.restart()
    assert users.cache.get("/v2/private.test/team/app/manifests/v1", headers).status == 200


def test_a_token_of_ours_opens_nothing_at_another_registry(users):
    """The credential in it is for one registry; nobody else sees it, or the token."""
    users.open.access = Access({ALICE: {"*"}})
    headers = bearer(users.token(PULL, authorization=ALICE))
    for target in ("/v2/open.test/team/app/manifests/v1", "/open.test/v2/team/app/manifests/v1",
                   "/v2/team/app/manifests/v1?ns=open.test"):
        assert users.cache.get(target, headers).status == 401
    assert {e.header("Authorization") for e in users.open.entries()} == {None}
    pushed = users.cache.request("POST", "/v2/open.test/a/blobs/uploads/", headers, b"")
    assert pushed.status in (202, 401)
    assert {e.header("Authorization") for e in users.open.entries()} == {None}


@pytest.mark.parametrize("token", ["registry-cache.1.", "registry-cache.1..", "registry-cache.1.zz.x",
                                   "registry-cache.1.7.", "registry-cache.1.707269.a b",
                                   "registry-cache.1." + "00" * 40 + ".x", "registry-cache.1"])
def test_a_token_that_is_made_up_is_no_credential(users, token):
    answer = users.cache.get("/v2/private.test/team/app/manifests/v1",
                             [("Authorization", "Bearer " + token), ANY])
    assert answer.status == 401
    assert {e.header("Authorization") for e in users.private.entries()} <= {None, f"Bearer {token}"}
    assert token == "registry-cache.1" or \
        {e.header("Authorization") for e in users.private.entries()} == {None}


def test_where_the_cache_holds_the_credential_clients_need_none(new_origin, new_cache, tmp_path):
    """They are given a token all the same, for their ping asked for one; theirs goes nowhere."""
    (tmp_path / "secret").write_text("alice:wonder land\n")
    (tmp_path / "secret").chmod(0o600)
    site = Site(new_origin, new_cache, "basic")
    config = {name: dict(entry) for name, entry in site.cache.config["server"]["registries"].items()}
    config["private.test"]["credentials"] = str(tmp_path / "secret")
    cache = new_cache(server={"registries": config, "auth": {"clients": "anonymous"}})
    for authorization in (None, basic("bob", "other")):
        headers = [("Authorization", authorization)] if authorization else []
        answer = cache.get(f"/token?scope={PULL}", headers)
        assert answer.status == 200
        assert cache.get("/v2/private.test/team/app/manifests/v1", bearer(answer)).status == 200
    assert {e.header("Authorization") for e in site.private.entries()} == {None, ALICE}   # asks first


# --- logins, defaults --------------------------------------------------------------------------


def test_a_login_without_a_scope_is_checked_where_there_is_one_registry(new_origin, new_cache):
    site = Site(new_origin, new_cache, "basic")
    config = {"private.test": site.cache.config["server"]["registries"]["private.test"]}
    alone = new_cache(server={"registries": config})
    good = alone.get("/token?account=alice&service=x", [("Authorization", ALICE)])
    assert good.status == 200 and alone.get("/v2/", bearer(good)).status == 200
    assert alone.get("/token", [("Authorization", basic("alice", "guess"))]).status == 401
    site.private.forget()
    assert site.cache.get("/token", [("Authorization", ALICE)]).status == 200
    assert site.private.entries() == site.open.entries() == []      # not known whose it is


def test_the_default_s_clients_find_its_realm_through_the_cache(new_origin, new_cache):
    """Docker pings before it pulls, and the ping names no registry."""
    hub = new_origin(access=Access({"Bearer hub": {"*"}}, challenge="bearer"))
    hub.manifest("library/app", "v1", b"{}")
    hub.pages["/token"] = (200, JSON, b'{"token":"hub"}')
    site = Site(new_origin, new_cache, default=hub)
    assert challenge(site.cache.get("/v2/"))["realm"].endswith("/token")
    answer = site.token("repository:library/app:pull")
    assert answer.json() == {"token": "hub"}
    assert site.asked(hub)[-1].query == {"scope": ["repository:library/app:pull"],
                                         "service": ["origin"]}
    assert site.cache.get("/v2/library/app/manifests/v1", bearer(answer)).status == 200
    assert site.private.entries() == site.open.entries() == []


def test_a_registry_that_is_away_is_502_and_comes_back(site):
    port = site.private.port
    site.private.stop()
    answer = site.token(PULL, authorization=ALICE)
    assert answer.status == 502 and str(port) in json.dumps(answer.json())


def test_library_is_put_into_scopes_too(new_origin, new_cache):
    site = Site(new_origin, new_cache, library=True)
    scopes = ("repository:private.test/app:pull", "repository:private.test/library/app:pull")
    assert site.token(*scopes).status == 200
    assert site.asked()[-1].query["scope"] == ["repository:library/app:pull"]
    answer = site.cache.get("/v2/private.test/app/manifests/v1", [ANY])
    assert challenge(answer)["scope"] == "repository:private.test/library/app:pull"
