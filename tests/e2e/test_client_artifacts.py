"""Real clients of artifacts, through TLS, against each kind of registry, by Host and by name: Helm's charts, cold and
hot, and cosign, which has to see a signature straight after signing."""
import io
import shutil
import tarfile

import pytest
from clients import CHART, KINDS, SIGNED, login
from go_tools import large_tool
from harness import noise
from oci import Layout, folders
from registry import push
from test_client_carriers import new_machine_cache
from test_clients import machine, run, user_for

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")
__all__ = ["machine", "new_machine_cache"]      # fixtures that are used by name


@pytest.fixture(params=["Host", "name"])
def place(request, new_machine_cache, site):
    """(the cache, what its clients write before a repository of a kind of registry)"""
    if request.param == "Host":
        cache = new_machine_cache(**site.rules())
        return cache, f"{{kind}}.cache.test:{cache.port}"
    cache = new_machine_cache(**site.by_name())
    return cache, f"cache.test:{cache.port}/{{kind}}.test"


def chart(path):
    """A chart, packed at `path`, and its bytes."""
    files = {"Chart.yaml": b"apiVersion: v2\nname: chart\nversion: 2.0.0\n", "templates/data.bin": noise(100_000)}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"chart/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_helm_pulls_a_chart(machine, site, place, tmp_path, kind):
    helm, (cache, where) = large_tool("helm"), place
    registry, base = site.registries[kind], where.format(kind=kind)
    made = chart(tmp_path / "chart-2.0.0.tgz")
    config = tmp_path / "config.json"
    config.write_text(login(user_for(kind), registry.host, base.partition("/")[0]))
    run(machine, helm, "push", tmp_path / "chart-2.0.0.tgz", f"oci://{registry.host}/team", "--plain-http",
        "--registry-config", config, HOME=tmp_path, SSL_CERT_FILE=site.pki.ca)
    for name in ("cold", "hot"):
        (tmp_path / name).mkdir()
        before = len(registry.object_gets())
        run(machine, helm, "pull", f"oci://{base}/{CHART}", "--version", "2.0.0", "-d", tmp_path / name,
            "--registry-config", config, "--ca-file", site.pki.ca, HOME=tmp_path, SSL_CERT_FILE=site.pki.ca)
        assert (tmp_path / name / "chart-2.0.0.tgz").read_bytes() == made
        assert (len(registry.object_gets()) > before) == (name == "cold")
    cache.check_objects()


# The first as artifacts that refer to the image (its referrers, or their tag), the other as an image with a tag of its own.
FORMATS = {"bundle": ["--new-bundle-format=true"], "tag": ["--new-bundle-format=false"]}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_straight_after_signing(machine, site, place, tmp_path, kind, form):
    cosign, (_, where) = large_tool("cosign"), place
    registry, base = site.registries[kind], where.format(kind=kind)
    image = Layout(tmp_path / "layout", folders(tmp_path / "rootfs", [1000], seed=site.machines))
    push(image, registry.host, SIGNED, user_for(kind), wrap=machine.enter)
    (tmp_path / "config.json").write_text(login(user_for(kind), registry.host, base.partition("/")[0]))
    environment = {"HOME": tmp_path, "DOCKER_CONFIG": tmp_path, "SSL_CERT_FILE": site.pki.ca, "COSIGN_PASSWORD": ""}
    run(machine, cosign, "generate-key-pair", "--output-key-prefix", tmp_path / "key", **environment)

    def verify(ok):
        return run(machine, cosign, "verify", "--key", tmp_path / "key.pub", "--insecure-ignore-tlog=true",
                   *FORMATS[form], f"{base}/{SIGNED}@{image.manifest}", ok=ok, **environment).stderr

    assert "no signatures found" in verify(ok=False)
    run(machine, cosign, "sign", "--key", tmp_path / "key.key", "--yes", "--tlog-upload=false",
        "--use-signing-config=false", "--allow-http-registry", *FORMATS[form],
        f"{registry.host}/{SIGNED}@{image.manifest}", **environment)
    verify(ok=True)
    verify(ok=True)
