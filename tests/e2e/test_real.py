"""A real registry (docker-registry) and a real client (skopeo), with images made here."""
import shutil

import pytest
from client import MIB
from harness import noise
from oci import Layout, folders
from registry import USER, Registry, htpasswd, push, skopeo
from script import digest_of

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")

@pytest.fixture
def new_registry(tmp_path):
    made = []

    def make(private=False):
        made.append(Registry(tmp_path / f"registry{len(made)}",
                             htpasswd(tmp_path) if private else ""))
        return made[-1].start()

    yield make
    for r in made:
        r.stop()


@pytest.fixture
def image(tmp_path):
    return Layout(tmp_path / "layout", folders(tmp_path / "rootfs", [6 * MIB, 100_000, 1, 3 * MIB]))


def pull(image, cache, folder, repository="team/app", credentials=None, ok=True):
    creds = ["--src-creds", credentials] if credentials else []
    done = skopeo("copy", "--preserve-digests", "--src-tls-verify=false", *creds,
                  f"docker://127.0.0.1:{cache.port}/{repository}:{image.tag}", f"dir:{folder}",
                  ok=ok)
    if ok:
        image.check_copy(folder)
    return done


def test_an_image_is_pulled_cold_and_hot_and_the_second_time_from_here(new_registry, new_cache,
                                                                       image, tmp_path):
    registry = new_registry()
    push(image, registry.host)
    cache = new_cache(registry)
    pull(image, cache, tmp_path / "cold")
    gets = registry.object_gets()
    assert len([g for g in gets if "/blobs/" in g]) == len(image.blobs) - 1
    pull(image, cache, tmp_path / "hot")
    assert registry.object_gets() == gets
    assert {p.name for p in cache.objects()} == {d.removeprefix("sha256:") for d in image.blobs}
    cache.check_objects()


def test_a_private_image_needs_its_credentials_cold_and_hot(new_registry, new_cache, image,
                                                            tmp_path):
    registry = new_registry(private=True)
    push(image, registry.host, credentials=USER)
    cache = new_cache(registry)
    pull(image, cache, tmp_path / "nobody", ok=False)
    pull(image, cache, tmp_path / "cold", credentials=USER)
    gets = registry.object_gets()
    pull(image, cache, tmp_path / "hot", credentials=USER)
    assert registry.object_gets() == gets
    for wrong in (None, "alice:guess", "bob:wonder-land"):
        done = pull(image, cache, tmp_path / "refused", credentials=wrong, ok=False)
        assert "unauthorized" in done.stderr or "authentication required" in done.stderr
    assert not list((tmp_path / "refused").glob("[0-9a-f]*"))


def test_a_push_through_the_cache_arrives_and_comes_back(new_registry, new_cache, image, tmp_path):
    registry = new_registry(private=True)
    cache = new_cache(registry)
    push(image, f"127.0.0.1:{cache.port}", credentials=USER)
    skopeo("copy", "--src-tls-verify=false", "--src-creds", USER,
           f"docker://{registry.host}/team/app:{image.tag}",
           f"dir:{tmp_path / 'direct'}")
    image.check_copy(tmp_path / "direct")
    pull(image, cache, tmp_path / "through", credentials=USER)


def test_a_layer_that_two_images_share_is_fetched_once(new_registry, new_cache, tmp_path):
    registry = new_registry()
    base, extra = folders(tmp_path / "base", [2 * MIB]), folders(tmp_path / "extra", [1000, 2000],
                                                                 seed=1)
    images = [Layout(tmp_path / f"layout{n}", [base[0], extra[n]]) for n in range(2)]
    for n, image in enumerate(images):
        push(image, registry.host, f"team/app{n}")
    cache = new_cache(registry)
    for n, image in enumerate(images):
        pull(image, cache, tmp_path / f"copy{n}", f"team/app{n}")
    shared = set(images[0].blobs) & set(images[1].blobs)
    assert shared
    for digest in shared:
        assert len([g for g in registry.object_gets() if g.endswith(digest)]) == 1


def test_tags_are_listed_and_an_image_is_deleted_through_the_cache(new_registry, new_cache, image,
                                                                   tmp_path):
    registry = new_registry()
    cache = new_cache(registry)
    push(image, f"127.0.0.1:{cache.port}")
    listed = skopeo("list-tags", "--tls-verify=false", f"docker://127.0.0.1:{cache.port}/team/app")
    assert f'"{image.tag}"' in listed.stdout
    pull(image, cache, tmp_path / "before")
    skopeo("delete", "--tls-verify=false", f"docker://127.0.0.1:{cache.port}/team/app:{image.tag}")
    pull(image, cache, tmp_path / "after", ok=False)


def test_ranges_and_heads_are_as_the_registry_s_own(new_registry, new_cache, image):
    registry = new_registry()
    push(image, registry.host)
    cache = new_cache(registry)
    digest, data = max(image.blobs.items(), key=lambda item: len(item[1]))
    target = f"/v2/team/app/blobs/{digest}"
    for _ in ("cold", "hot"):
        answer = cache.get(target, [("Range", "bytes=1000-1999")])
        assert (answer.status, answer.body) == (206, data[1000:2000])
        head = cache.head(target)
        assert (head.header("Content-Length"),
                head.header("Docker-Content-Digest")) == (str(len(data)), digest)
    missing = cache.get(f"/v2/team/app/blobs/{digest_of(noise(10))}")
    assert (missing.status, missing.error_code()) == (404, "BLOB_UNKNOWN")
