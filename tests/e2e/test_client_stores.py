"""Real clients with a daemon, of which Debian has none or older ones, set up as the README says, cold and hot, through TLS:
Docker Engine with containerd's store (29 and later), and CRI-O."""
import json
import shutil

import pytest
from clients import KINDS, OPEN, REPOSITORY, cold_then_hot, login
from daemons import Crio, Dockerd
from go_tools import large_tool
from test_client_carriers import host_of, new_machine_cache, prefix_mirror
from test_clients import containerd, docker_pull, host_mirror, machine, need, trust, user_for

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")
__all__ = ["containerd", "machine", "new_machine_cache"]     # fixtures that are used by name


# --- Docker Engine with containerd's store -----------------------------------------------------


@pytest.fixture
def dockerd(tmp_path, machine, containerd):
    need("docker")
    daemon = Dockerd(tmp_path / "docker", machine, containerd, large_tool("dockerd"), "native")
    yield daemon
    daemon.stop()


def start(dockerd):
    dockerd.start()
    assert "io.containerd.snapshotter.v1" in dockerd.run("info", "--format", "{{.DriverStatus}}")


@pytest.mark.parametrize("way", ["Host", "ns"])
def test_docker_engine_pulls_by_registry_mirrors(machine, site, new_machine_cache, dockerd, way):
    """It names the registry by ns, and sends no credentials to a mirror: open images only."""
    if way == "Host":
        cache = new_machine_cache(**site.rules())
        host = f"{OPEN}.cache.test:{cache.port}"
    else:
        server = site.by_name(*(k for k in KINDS if k != OPEN))
        server["registries"]["docker.io"] = site.entry(OPEN)
        cache = new_machine_cache(**server)
        host = host_of(cache)
    machine.write("docker/daemon.json", json.dumps({"registry-mirrors": [f"https://{host}"]}))
    trust(machine, site, "docker", host)
    start(dockerd)
    cold_then_hot(cache, site.registries[OPEN], site.image,
                  docker_pull(dockerd, site, f"{REPOSITORY}:{site.image.tag}"))


@pytest.mark.parametrize("kind", KINDS)
def test_docker_engine_pulls_by_a_prefix(machine, site, new_machine_cache, dockerd, kind):
    cache = new_machine_cache(**site.by_name())
    trust(machine, site, "docker", host_of(cache))
    start(dockerd)
    dockerd.login(login(user_for(kind), host_of(cache)))
    cold_then_hot(cache, site.registries[kind], site.image,
                  docker_pull(dockerd, site, f"{host_of(cache)}/{kind}.test/{REPOSITORY}:{site.image.tag}"))


# --- CRI-O -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["Host", "prefix"])
@pytest.mark.parametrize("kind", KINDS)
def test_crio_pulls_by_its_mirror(machine, site, new_machine_cache, new_daemon, tmp_path, kind, way):
    need("crio", "crictl", "conmon", "runc")
    if way == "Host":
        cache = new_machine_cache(**site.rules())
        location = host_mirror(machine, site, cache, kind)
    else:
        cache = new_machine_cache(**site.by_name())
        location = prefix_mirror(machine, site, cache, kind)
    crio = new_daemon(Crio(tmp_path / "crio", machine), login(user_for(kind), location))
    reference = f"{kind}.test/{REPOSITORY}:{site.image.tag}"

    def pull(_):
        crio.run("pull", reference)
        assert site.image.manifest in crio.run("inspecti", "--output", "json", reference)
        crio.run("rmi", reference)

    cold_then_hot(cache, site.registries[kind], site.image, pull)
