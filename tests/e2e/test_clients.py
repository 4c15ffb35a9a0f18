"""Real clients set up as the README says (Host way), cold and hot, through TLS, against each kind
of registry."""
import json
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from client import SLOW
from clients import KINDS, OPEN, REPOSITORY, TOKEN, USERS, cold_then_hot, login
from daemons import Containerd, Dockerd
from go_tools import tool
from registry import USER, skopeo

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")
PRIVATE = (USERS, TOKEN)


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            pytest.skip(f"there is no {p}")


def user_for(kind):
    return USER if kind != OPEN else ""


@pytest.fixture
def cache(new_cache, site):
    return new_cache(server=site.rules())


@pytest.fixture
def machine(site):
    return site.machine()


def run(machine, *args, ok=True, **environment):
    """A command in that machine; ends the test when it does not do as `ok` says."""
    words = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run([*machine.enter, "env", *words, *map(str, args)], capture_output=True,
                          text=True, timeout=60 * SLOW)
    assert (done.returncode == 0) == ok, f"{args}: {done.stdout}{done.stderr}"
    return done


def trust(machine, site, folder, host):
    """The CA of the cache where `folder` (containers, docker) looks for that host's."""
    with open(site.pki.ca) as f:
        machine.write(f"{folder}/certs.d/{host}/ca.crt", f.read())


# --- podman, buildah, skopeo -------------------------------------------------------------------


def containers_mirror(machine, site, kind, location):
    """registries.conf as the README has it; what the mirror's credentials are kept under."""
    machine.write("containers/registries.conf",
                  f'[[registry]]\nprefix = "{kind}.test"\nlocation = "{kind}.test"\n'
                  f'[[registry.mirror]]\nlocation = "{location}"\n')
    trust(machine, site, "containers", location.partition("/")[0])
    return location


def host_mirror(machine, site, cache, kind):
    return containers_mirror(machine, site, kind, f"{kind}.cache.test:{cache.port}")


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_pulls_by_its_mirror(machine, site, cache, tmp_path, kind):
    host = host_mirror(machine, site, cache, kind)
    (tmp_path / "auth").write_text(login(user_for(kind), host))

    cold_then_hot(cache, site.registries[kind], site.image, skopeo_pull(machine, site, tmp_path, kind))


def skopeo_pull(machine, site, folder, kind):
    """By whatever mirror the machine has."""
    def pull(name):
        skopeo("copy", "--preserve-digests", "--authfile", str(folder / "auth"),
               f"docker://{kind}.test/{REPOSITORY}:{site.image.tag}", f"dir:{folder / name}",
               wrap=machine.enter)
        site.image.check_copy(folder / name)
    return pull


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("user", ["", "alice:guess", "bob:builder"])
def test_who_may_not_gets_nothing_of_a_hot_image(machine, site, cache, tmp_path, kind, user):
    host = host_mirror(machine, site, cache, kind)
    complaint = refused_when_hot(machine, site, tmp_path, host, user)
    assert any(w in complaint for w in ("unauthorized", "authentication required", "denied"))


def refused_when_hot(machine, site, folder, location, user):
    """One who may makes the image hot; what skopeo says to `user`, who may not and gets nothing."""
    args = [f"docker://{location}/{REPOSITORY}:{site.image.tag}", f"dir:{folder / 'copy'}"]
    (folder / "auth").write_text(login(USER, location))
    skopeo("copy", "--authfile", str(folder / "auth"), *args, wrap=machine.enter)
    shutil.rmtree(folder / "copy")
    (folder / "auth").write_text(login(user, location))
    done = skopeo("copy", "--authfile", str(folder / "auth"), *args, wrap=machine.enter, ok=False)
    assert not list((folder / "copy").glob("[0-9a-f]*"))
    return done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["podman", "buildah"])
def test_podman_and_buildah_pull_by_their_mirror(machine, site, cache, tmp_path, short_path, client,
                                                 kind):
    need(client)
    host = host_mirror(machine, site, cache, kind)
    (tmp_path / "auth").write_text(login(user_for(kind), host))
    cold_then_hot(cache, site.registries[kind], site.image,
                  storage_pull(client, machine, tmp_path, short_path, f"{kind}.test/{REPOSITORY}",
                               site.image))


@pytest.fixture
def short_path():
    """podman takes no --runroot of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="run") as path:
        yield pathlib.Path(path)


def storage_pull(client, machine, folder, short_path, repository, image):
    """A pull into a storage of its own for each name; the client itself checks every digest."""
    def pull(name):
        storage = ["--root", folder / name, "--runroot", short_path / name,
                   "--storage-driver", "vfs"]
        if client == "podman":
            storage += ["--tmpdir", folder / f"{name}.tmp", "--cgroup-manager", "cgroupfs",
                        "--events-backend", "file"]
        run(machine, client, *storage, "pull", "--quiet", "--authfile", folder / "auth",
            f"{repository}:{image.tag}")
        listed = run(machine, client, *storage, "images", "--digests", "--format", "{{.Digest}}")
        assert listed.stdout.strip() == image.manifest
    return pull


# --- containerd --------------------------------------------------------------------------------


@pytest.fixture
def containerd(tmp_path, machine):
    need("containerd", "ctr")
    daemon = Containerd(tmp_path / "containerd", machine)
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_containerd_pulls_by_hosts_toml(machine, site, cache, containerd, kind):
    machine.write(f"containerd/certs.d/{kind}.test/hosts.toml",
                  f'server = "https://{kind}.test"\n'
                  f'[host."https://{kind}.cache.test:{cache.port}"]\n'
                  '  capabilities = ["pull", "resolve"]\n'
                  f'  ca = "{site.pki.ca}"\n  dial_timeout = "1s"\n')

    cold_then_hot(cache, site.registries[kind], site.image, containerd_pull(containerd, site, kind))


def containerd_pull(containerd, site, kind):
    reference = f"{kind}.test/{REPOSITORY}:{site.image.tag}"

    def pull(_):
        containerd.pull(reference, user_for(kind))
        containerd.check_and_remove(reference, site.image)
    return pull


# --- Docker Engine -----------------------------------------------------------------------------


@pytest.fixture
def dockerd(tmp_path, machine, containerd):
    need("dockerd", "docker")
    daemon = Dockerd(tmp_path / "docker", machine, containerd)
    yield daemon
    daemon.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_docker_engine_pulls_by_registry_mirrors(machine, site, cache, dockerd, tmp_path, kind):
    host = f"{kind}.cache.test:{cache.port}"
    machine.write("docker/daemon.json", json.dumps({"registry-mirrors": [f"https://{host}"]}))
    trust(machine, site, "docker", host)
    dockerd.start()
    dockerd.login(login(user_for(kind), "https://index.docker.io/v1/"))

    cold_then_hot(cache, site.registries[kind], site.image,
                  docker_pull(dockerd, site, f"{REPOSITORY}:{site.image.tag}"))


def docker_pull(dockerd, site, reference):
    def pull(_):
        dockerd.run("pull", "--quiet", reference)
        inspect = ("image", "inspect", "--format", "{{index .RepoDigests 0}}")
        assert dockerd.run(*inspect, reference).endswith(site.image.manifest)
        dockerd.run("image", "rm", reference)
    return pull


# --- clients without mirrors: the cache's name in place of the registry's ------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_crane_pulls_by_the_cache_s_name(machine, site, cache, tmp_path, kind):
    host = f"{kind}.cache.test:{cache.port}"
    (tmp_path / "config.json").write_text(login(user_for(kind), host))
    cold_then_hot(cache, site.registries[kind], site.image,
                  crane_pull(machine, site, tmp_path, f"{host}/{REPOSITORY}"))


def crane_pull(machine, site, folder, repository):
    crane = tool("crane")

    def pull(name):
        run(machine, crane, "pull", "--format=oci", f"{repository}:{site.image.tag}",
            folder / name, DOCKER_CONFIG=folder, SSL_CERT_FILE=site.pki.ca)
        check_layout(folder / name, site.image)
    return pull


@pytest.mark.parametrize("kind", KINDS)
def test_oras_copies_by_the_cache_s_name(machine, site, cache, tmp_path, kind):
    host = f"{kind}.cache.test:{cache.port}"
    (tmp_path / "config.json").write_text(login(user_for(kind), host))
    cold_then_hot(cache, site.registries[kind], site.image,
                  oras_copy(machine, site, tmp_path, f"{host}/{REPOSITORY}"))


def oras_copy(machine, site, folder, repository):
    oras = tool("oras")

    def pull(name):
        run(machine, oras, "copy", "--from-ca-file", site.pki.ca, "--from-registry-config",
            folder / "config.json", f"{repository}:{site.image.tag}",
            "--to-oci-layout", f"{folder / name}:v1")
        check_layout(folder / name, site.image)
    return pull


def check_layout(folder, image):
    for digest, data in image.blobs.items():
        path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
        assert path.read_bytes() == data, digest
