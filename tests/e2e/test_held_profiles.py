"""Credentials that the cache holds, at registries as they are documented (profiles.py), and at real ones
with a real client."""
import shutil

import pytest
from client import MIB
from harness import noise
from oci import Layout, folders
from profiles import DockerHub, Ecr, Ghcr, Harbor
from realm import decoded
from registry import USER, Registry, htpasswd, push, skopeo
from script import basic
from test_client_auth import hashed, write_users
from test_held import HELD, config, no_challenge, write_secret
from token_server import TokenServer

DATA = noise(100_000, 43)
ANY = [("Accept", "*/*")]


@pytest.fixture
def new_held(new_cache, tmp_path):
    """A cache that holds "user:password" for this registry, for anybody."""
    def make(origin, text, **server):
        secret = write_secret(tmp_path / "secret", text)
        return new_cache(server=config(origin, secret, **server))
    return make


def pull(cache, *things):
    for thing in things:
        target = thing.tag_target if thing.kind == "manifests" else thing.target
        for method in ("GET", "HEAD"):
            answer = cache.request(method, target, ANY)
            assert (answer.status, answer.complete) == (200, True), (method, target, answer)
            assert method == "HEAD" or answer.body == thing.data


def test_an_ecr_like_registry_whose_head_lies_is_read_with_the_cache_s_credential(new_origin,
                                                                                 new_held):
    store = new_origin(refuse_authorization=True)
    origin = new_origin(profile=Ecr(store))
    cache = new_held(origin, decoded(Ecr.AUTHORIZATION))
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for _ in ("cold", "hot", "hot"):
        pull(cache, manifest, *blobs)
    assert len([e for e in store.gets() if e.header("Range") != "bytes=0-0"]) == len(blobs)
    heads = len([e for e in origin.heads() if "/blobs/" in e.path])
    pull(cache, *blobs)
    assert len([e for e in origin.heads() if "/blobs/" in e.path]) == heads  # it is remembered
    assert {e.header("Authorization") for e in origin.entries()} <= {None, Ecr.AUTHORIZATION}


def test_an_ecr_like_token_that_has_expired_is_the_cache_s_trouble(new_origin, new_held):
    origin = new_origin(profile=Ecr(new_origin()))
    cache = new_held(origin, "AWS:of-yesterday")
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for thing in (manifest, *blobs):
        assert no_challenge(cache.get(thing.target, ANY))


@pytest.mark.parametrize("profile", [Ghcr, Harbor])
def test_a_token_is_asked_for_the_repository_whatever_the_ping_says(new_origin, new_held, profile):
    origin = new_origin(profile=profile())
    cache = new_held(origin, "robot:secret")
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for _ in ("cold", "hot"):
        pull(cache, manifest, *blobs)
    assert origin.profile.asked == ["repository:team/app:pull"]
    realms = [e for e in origin.entries() if e.path == "/token"]
    assert [e.header("Authorization") for e in realms] == [basic("robot", "secret")]
    told = {e.header("Authorization") for e in origin.entries() if e.path != "/token"}
    assert told == {None, "Bearer token-0-of-team/app"}


def test_harbor_s_expired_token_is_replaced(new_origin, new_held):
    origin = new_origin(profile=Harbor())
    cache = new_held(origin, "robot:secret")
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    pull(cache, manifest, *blobs)
    origin.profile.expired.update(origin.profile.issued)
    pull(cache, manifest, *blobs)
    assert len(origin.profile.asked) == 2
    assert sum(e.sent for e in origin.entries(blobs[1])) == blobs[1].size


def test_a_docker_hub_like_quota_is_the_account_s_and_is_told(new_origin, new_held):
    origin = new_origin(profile=DockerHub(quota=1))
    cache = new_held(origin, "robot:secret")
    manifest, blobs = origin.image("library/app", "v1", [DATA])
    other, _ = origin.image("library/other", "v1", [noise(20)])
    for _ in range(3):
        pull(cache, manifest, *blobs)
    answer = cache.get(other.tag_target, ANY)
    assert (answer.status, answer.header("Retry-After")) == (429, "60")


# --- real ones ---------------------------------------------------------------------------------

real = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                          reason="docker-registry and skopeo are needed")
NAME, _, SECRET = USER.partition(":")


@pytest.fixture
def tokens(pki):
    server = TokenServer(pki, "127.0.0.1", {NAME: SECRET}, {NAME: {"team/app": ("pull", "push")}})
    yield server.start()
    server.stop()


@pytest.fixture
def real_registry(tmp_path, tokens, request):
    auth = tokens.registry_config() if request.param == "tokens" else htpasswd(tmp_path)
    registry = Registry(tmp_path / "registry", auth).start()
    yield registry
    registry.stop()


@real
@pytest.mark.parametrize("real_registry", ["tokens", "htpasswd"], indirect=True)
def test_two_users_of_the_cache_pull_from_a_real_private_registry(real_registry, tokens, new_cache,
                                                                  pki, tmp_path):
    image = Layout(tmp_path / "layout", folders(tmp_path / "rootfs", [3 * MIB, 100_000, 1]))
    push(image, real_registry.host, credentials=USER)
    secret = write_secret(tmp_path / "secret", USER)
    users = write_users(tmp_path / "users", hashed("alice-here", "a-1"), hashed("bob-here", "b-2"))
    server = config(real_registry, secret, listeners=4, tls={"caPath": pki.ca})
    server["auth"] = {"clients": "password", "htpasswd": str(users)}
    cache = new_cache(server=server)
    before = len(tokens.asked)

    def pulled(folder, *creds, ok=True):
        skopeo("copy", "--preserve-digests", "--src-tls-verify=false", *creds,
               f"docker://127.0.0.1:{cache.port}/team/app:{image.tag}", f"dir:{tmp_path / folder}",
               ok=ok)
        if ok:
            image.check_copy(tmp_path / folder)

    pulled("cold", "--src-creds", "alice-here:a-1")
    gets = real_registry.object_gets()
    pulled("hot", "--src-creds", "bob-here:b-2")
    assert real_registry.object_gets() == gets
    for creds in ((), ("--src-creds", "alice-here:b-2"), ("--src-creds", USER)):
        pulled("refused", *creds, ok=False)
    asked = tokens.asked[before:]
    assert asked in ([], [(NAME, "repository:team/app:pull", "pull")])
    assert bool(asked) == ("token" in real_registry.folder.joinpath("config.yml").read_text())
    cache.check_objects()


@real
@pytest.mark.parametrize("real_registry", ["tokens"], indirect=True)
def test_what_the_account_may_not_read_is_502_at_a_real_registry(real_registry, new_cache, pki,
                                                                 tmp_path):
    secret = write_secret(tmp_path / "secret", USER)
    cache = new_cache(server=config(real_registry, secret, tls={"caPath": pki.ca}))
    assert no_challenge(cache.get("/v2/team/closed/manifests/v1", ANY))
    write_secret(secret, f"{NAME}:wrong")
    cache.restart()
    assert no_challenge(cache.get("/v2/team/app/manifests/v1", ANY))
    assert HELD not in cache.log()
