"""Real clients that name the registry otherwise than by Host, set up as the README says, cold and hot,
through TLS, against each kind of registry: one name of the cache for all of them."""
import json
import shutil
import tarfile

import pytest
from clients import KINDS, OPEN, REPOSITORY, USERS, cold_then_hot, login
from daemons import Buildkitd
from go_tools import large_tool, tool
from registry import USER
from test_clients import (PRIVATE, containerd, containerd_pull, containers_mirror, crane_pull, docker_pull,
                          dockerd, machine, need, oras_copy, refused_when_hot, run, short_path,
                          skopeo_pull, storage_pull, trust, user_for)

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")
__all__ = ["containerd", "dockerd", "machine", "short_path"]     # fixtures that are used by name


@pytest.fixture
def new_machine_cache(new_cache, machine):
    """Makes caches that run in the machine: they ask the realm for tokens, and know it by its name."""
    def make(**server):
        made = new_cache(start=False, server=server)
        made.enter = machine.enter
        return made.start()
    return make


@pytest.fixture
def cache(new_machine_cache, site):
    return new_machine_cache(**site.by_name())


def host_of(cache):
    return f"cache.test:{cache.port}"


# --- podman, buildah, skopeo: a mirror with a path ---------------------------------------------


def prefix_mirror(machine, site, cache, kind):
    return containers_mirror(machine, site, kind, f"{host_of(cache)}/{kind}.test")


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_pulls_by_a_mirror_with_a_prefix(machine, site, cache, tmp_path, kind):
    location = prefix_mirror(machine, site, cache, kind)
    (tmp_path / "auth").write_text(login(user_for(kind), location))
    cold_then_hot(cache, site.registries[kind], site.image, skopeo_pull(machine, site, tmp_path, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["podman", "buildah"])
def test_podman_and_buildah_pull_by_a_mirror_with_a_prefix(machine, site, cache, tmp_path, short_path,
                                                           client, kind):
    need(client)
    location = prefix_mirror(machine, site, cache, kind)
    (tmp_path / "auth").write_text(login(user_for(kind), location))
    cold_then_hot(cache, site.registries[kind], site.image,
                  storage_pull(client, machine, tmp_path, short_path, f"{kind}.test/{REPOSITORY}",
                               site.image))


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("user", ["", "alice:guess", "bob:builder"])
def test_who_may_not_gets_nothing_of_a_hot_image_by_prefix(machine, site, cache, tmp_path, kind, user):
    location = prefix_mirror(machine, site, cache, kind)
    complaint = refused_when_hot(machine, site, tmp_path, location, user)
    assert any(w in complaint for w in ("unauthorized", "authentication required", "denied",
                                        "invalid username/password")), complaint


@pytest.mark.parametrize("kind", PRIVATE)
def test_podman_logs_in_at_a_cache_of_one_registry(machine, site, new_machine_cache, tmp_path, kind):
    """With one registry the user and password are tried at once."""
    need("podman")
    cache = new_machine_cache(**site.by_name(kind))
    trust(machine, site, "containers", host_of(cache))
    for user, ok in ((USER, True), ("alice:guess", False)):
        name, _, password = user.partition(":")
        run(machine, "podman", "login", "--authfile", tmp_path / "auth", "-u", name, "-p", password,
            host_of(cache), ok=ok)


# --- containerd --------------------------------------------------------------------------------


HOSTS_TOML = {"ns": ("", "", ""), "path": ("/{name}", "", ""),
              "override_path": ("/v2/{name}", "  override_path = true\n", ""),
              "header": ("", "", '  [host."{url}".header]\n'
                         '    X-Dragonfly-Registry = "https://{name}"\n')}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", HOSTS_TOML)
def test_containerd_pulls_by_hosts_toml(machine, site, cache, containerd, kind, way):
    name = f"{kind}.test"
    path, option, header = HOSTS_TOML[way]
    url = f"https://{host_of(cache)}{path.format(name=name)}"
    machine.write(f"containerd/certs.d/{name}/hosts.toml",
                  f'server = "https://{name}"\n[host."{url}"]\n'
                  f'  capabilities = ["pull", "resolve"]\n  ca = "{site.pki.ca}"\n'
                  f'  dial_timeout = "1s"\n{option}{header.format(url=url, name=name)}')

    cold_then_hot(cache, site.registries[kind], site.image, containerd_pull(containerd, site, kind))


def test_containerd_has_one_file_for_all_registries(machine, site, cache, containerd):
    machine.write("containerd/certs.d/_default/hosts.toml",
                  f'[host."https://{host_of(cache)}"]\n  capabilities = ["pull", "resolve"]\n'
                  f'  ca = "{site.pki.ca}"\n  dial_timeout = "1s"\n')
    for kind in KINDS:
        containerd.pull(f"{kind}.test/{REPOSITORY}:{site.image.tag}", user_for(kind))
        containerd.check_and_remove(f"{kind}.test/{REPOSITORY}:{site.image.tag}", site.image)
        assert cache.wait_access(upstream=f"http://{site.registries[kind].host}", status=200)
    unknown = containerd.call("images", "pull", "--snapshotter", "native", "--hosts-dir",
                              "/etc/containerd/certs.d", f"elsewhere.test/{REPOSITORY}:v1")
    assert unknown.returncode != 0 and "elsewhere.test" in unknown.stderr    # asked itself, in vain
    assert cache.wait_access(status=404, code="NAME_UNKNOWN")


# --- Docker Engine -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_docker_engine_pulls_from_the_default_of_a_cache_of_several(machine, site, new_machine_cache,
                                                                    dockerd, kind):
    """Its ping names no registry, so it is the cache's own, and so is the realm."""
    server = site.by_name(*(k for k in KINDS if k != kind))
    server["registries"]["docker.io"] = site.entry(kind)
    cache = new_machine_cache(defaultBackend={"registry": "docker.io"}, **server)
    machine.write("docker/daemon.json",
                  json.dumps({"registry-mirrors": [f"https://{host_of(cache)}"]}))
    trust(machine, site, "docker", host_of(cache))
    dockerd.start()
    dockerd.login(login(user_for(kind), "https://index.docker.io/v1/"))
    cold_then_hot(cache, site.registries[kind], site.image,
                  docker_pull(dockerd, site, f"{REPOSITORY}:{site.image.tag}"))


@pytest.mark.parametrize("kind", KINDS)
def test_docker_engine_pulls_by_a_prefix(machine, site, cache, dockerd, kind):
    trust(machine, site, "docker", host_of(cache))
    dockerd.start()
    dockerd.login(login(user_for(kind), host_of(cache)))
    cold_then_hot(cache, site.registries[kind], site.image,
                  docker_pull(dockerd, site,
                              f"{host_of(cache)}/{kind}.test/{REPOSITORY}:{site.image.tag}"))


# --- BuildKit and kaniko -----------------------------------------------------------------------


@pytest.fixture
def buildkitd(tmp_path, machine, site):
    daemon = Buildkitd(tmp_path / "buildkit", machine, large_tool("buildkitd"),
                       large_tool("buildctl"), site.pki.ca)
    yield daemon
    daemon.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["", "/{kind}.test"])
def test_buildkit_builds_from_a_mirror(machine, site, cache, buildkitd, tmp_path, kind, path):
    """With a path it sends prefix and ns."""
    mirror = f"{host_of(cache)}{path.format(kind=kind)}"
    machine.write("buildkit/buildkitd.toml",
                  f'[registry."{kind}.test"]\n  mirrors = ["{mirror}"]\n'
                  f'[registry."{host_of(cache)}"]\n  ca = ["{site.pki.ca}"]\n')
    buildkitd.start()
    buildkitd.login(login(user_for(kind), host_of(cache)))

    def pull(name):
        out = tmp_path / f"{name}.tar"
        buildkitd.build(f"FROM {kind}.test/{REPOSITORY}:{site.image.tag}\n", out)
        with tarfile.open(out) as tar:
            for layer in json.loads(site.image.blobs[site.image.manifest])["layers"]:
                member = "blobs/sha256/" + layer["digest"].removeprefix("sha256:")
                assert tar.extractfile(member).read() == site.image.blobs[layer["digest"]]

    cold_then_hot(cache, site.registries[kind], site.image, pull)


@pytest.mark.parametrize("kind", KINDS)
def test_kaniko_pulls_by_a_registry_map(machine, site, cache, tmp_path, kind):
    """By an alias without a dot, for it takes what looks like a host for one. Its warmer pulls as its
    executor does, and does not unpack an image over the root."""
    warmer, host = large_tool("warmer"), host_of(cache)
    (tmp_path / "config.json").write_text(login(user_for(kind), host))

    def pull(name):
        run(machine, warmer, "--cache-dir", tmp_path / name, "--registry-map",
            f"{kind}.test={host}/{kind}", "--registry-certificate", f"{host}={site.pki.ca}",
            "--image", f"{kind}.test/{REPOSITORY}:{site.image.tag}", DOCKER_CONFIG=tmp_path,
            SSL_CERT_FILE=site.pki.ca)
        with tarfile.open(tmp_path / name / site.image.manifest) as tar:
            held = {tar.extractfile(m).read() for m in tar if m.name.endswith(".tar.gz")}
        layers = json.loads(site.image.blobs[site.image.manifest])["layers"]
        assert held == {site.image.blobs[layer["digest"]] for layer in layers}

    cold_then_hot(cache, site.registries[kind], site.image, pull)


# --- clients without mirrors -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_crane_pulls_by_a_prefix(machine, site, cache, tmp_path, kind):
    (tmp_path / "config.json").write_text(login(user_for(kind), host_of(cache)))
    cold_then_hot(cache, site.registries[kind], site.image,
                  crane_pull(machine, site, tmp_path, f"{host_of(cache)}/{kind}.test/{REPOSITORY}"))


@pytest.mark.parametrize("kind", KINDS)
def test_oras_copies_by_a_prefix(machine, site, cache, tmp_path, kind):
    (tmp_path / "config.json").write_text(login(user_for(kind), host_of(cache)))
    cold_then_hot(cache, site.registries[kind], site.image,
                  oras_copy(machine, site, tmp_path, f"{host_of(cache)}/{kind}.test/{REPOSITORY}"))


@pytest.mark.parametrize("kind", [OPEN, USERS])
def test_crane_lists_tags_page_by_page_by_a_prefix(machine, site, cache, tmp_path, kind):
    crane, host = tool("crane"), host_of(cache)
    (tmp_path / "config.json").write_text(login(user_for(kind), host))
    done = run(machine, crane, "ls", f"{host}/{kind}.test/{REPOSITORY}", DOCKER_CONFIG=tmp_path,
               SSL_CERT_FILE=site.pki.ca)
    assert done.stdout.split() == [site.image.tag]
