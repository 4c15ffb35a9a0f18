"""stargz's snapshotter at a containerd, pulling by ctr-remote through TLS against each kind of registry: layers are
mounted at once, and what is read of a file comes by ranges through the cache. Debian has neither of its programs, and
the module proxy not their sources."""
import shutil
import types

import pytest
from client import MIB
from clients import KINDS, LAZY, Watch, login
from daemons import Containerd, Stargz
from harness import wait_until
from oci import Layout, folders
from registry import push, skopeo
from test_clients import machine, need, run, user_for

pytestmark = pytest.mark.skipif(not (shutil.which("docker-registry") and shutil.which("skopeo")),
                                reason="docker-registry and skopeo are needed")
__all__ = ["machine"]      # a fixture that is used by name


@pytest.fixture
def cache(new_cache, site):
    return new_cache(server=site.rules())


@pytest.fixture
def lazy_image(new_daemon, machine, site, tmp_path):
    """An image whose layers can be read in pieces, as push() takes it; `files`: the folders of its layers."""
    need("containerd", "containerd-stargz-grpc", "ctr-remote")
    files = folders(tmp_path / "rootfs", [8 * MIB, 100_000], seed=site.machines)
    skopeo("copy", Layout(tmp_path / "layout", files).reference, f"oci-archive:{tmp_path}/plain.tar:plain.test/x:v1")
    containerd = new_daemon(Containerd(tmp_path / "maker", machine))
    containerd.run("images", "import", "--no-unpack", tmp_path / "plain.tar")
    run(machine, "ctr-remote", "--address", containerd.socket, "images", "convert", "--estargz", "--oci",
        containerd.run("images", "ls", "-q"), "lazy.test/x:v1")
    containerd.run("images", "export", tmp_path / "lazy.tar", "lazy.test/x:v1")
    return types.SimpleNamespace(reference=f"oci-archive:{tmp_path}/lazy.tar", tag="v1", files=files)


@pytest.mark.parametrize("kind", KINDS)
def test_ctr_remote_mounts_layers_cold_and_hot(machine, site, cache, lazy_image, new_daemon, tmp_path, kind):
    registry, mirror, user = site.registries[kind], f"{kind}.cache.test:{cache.port}", user_for(kind)
    files = lazy_image.files
    push(lazy_image, registry.host, LAZY, user, wrap=machine.enter)
    machine.write(f"containerd/certs.d/{kind}.test/hosts.toml",
                  f'[host."https://{mirror}"]\n  capabilities = ["pull", "resolve"]\n  ca = "{site.pki.ca}"\n')
    config = ("noprefetch = true\nno_background_fetch = true\n"
              f'[[resolver.host."{kind}.test".mirrors]]\nhost = "{mirror}"\n')
    for name in ("cold", "hot"):
        stargz = Stargz(tmp_path / f"{name}-stargz", machine, site.pki.ca)
        stargz.login(login(user, mirror))
        new_daemon(stargz, config)
        containerd = new_daemon(Containerd(tmp_path / f"{name}-containerd", machine), stargz.plugin())
        watch = Watch(cache, registry)
        run(machine, "ctr-remote", "--address", containerd.socket, "images", "rpull", "--snapshotter", "stargz",
            "--hosts-dir", "/etc/containerd/certs.d", *(["--user", user] if user else []), f"{kind}.test/{LAZY}:{lazy_image.tag}")
        with stargz.file("data0").open("rb") as file:
            file.seek(5 * MIB)
            assert file.read(70_000) == (files[0] / "data0").read_bytes()[5 * MIB:5 * MIB + 70_000]
        assert stargz.file("etc/name1").read_text() == (files[1] / "etc" / "name1").read_text()
        statuses = {}
        for a in cache.access()[watch.lines:]:
            if a["method"] == "GET" and "/blobs/" in a["target"]:
                statuses.setdefault(a["reference"], set()).add(a["status"])
        # The image's configuration, and two layers.
        assert sorted(sorted(s - {"401"}) for s in statuses.values()) == [["200"], ["206"], ["206"]]
        assert bool(watch.upstream_gets()) == (name == "cold")
        wait_until(lambda: cache.lease_count() == 0, "the layers are here")
    cache.check_objects()
