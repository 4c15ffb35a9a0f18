"""containerd and Docker Engine of a test's own: other folders and sockets than the machine's, which
are left alone."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from client import SLOW
from harness import wait_until

CONTAINERD = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
"""


class Daemon:
    """A process in the machine; skips the test when it does not come up, with its last words."""

    def __init__(self, folder, machine):
        self.folder, self.machine, self.process = pathlib.Path(folder), machine, None
        self.folder.mkdir()
        self.sockets = pathlib.Path(tempfile.mkdtemp(prefix="daemon"))   # their paths are short
        self.socket = self.sockets / "socket"

    def launch(self, *command):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*self.machine.enter, *map(str, command)], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.answers() or self.process.poll() is not None,
                   f"{command[0]} answers", 30)
        if self.process.poll() is not None:
            last = (self.words().splitlines() or ["no word"])[-1]
            pytest.skip(f"{command[0]} does not run here: {last}")
        return self

    def words(self):
        return (self.folder / "log").read_text().strip()

    def login(self, config):
        """The config.json that has the credentials of who pulls: of its client, or its own."""
        (self.folder / "config.json").write_text(config)

    def answers(self):
        return self.call(*self.probe).returncode == 0

    def call(self, *args):
        return subprocess.run([*self.machine.enter, *self.client, *map(str, args)],
                              capture_output=True, text=True, timeout=60 * SLOW)

    def run(self, *args):
        done = self.call(*args)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.sockets)


class Containerd(Daemon):
    probe = ("version",)

    @property
    def client(self):
        return ["ctr", "--address", str(self.socket)]

    def start(self, more=""):
        config = self.folder / "config.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, socket=self.socket) + more)
        return self.launch("containerd", "--config", config)

    def pull(self, reference, user):
        credentials = ["--user", user] if user else []
        self.run("images", "pull", "--snapshotter", "native", "--hosts-dir",
                 "/etc/containerd/certs.d", *credentials, reference)

    def check_and_remove(self, reference, image):
        """Its content store has the image's bytes; then they go: the next pull begins anew."""
        for digest, data in image.blobs.items():
            got = subprocess.run([*self.machine.enter, *self.client, "content", "get", digest],
                                 capture_output=True)
            assert got.stdout == data, (digest, got.stderr)
        self.run("images", "rm", "--sync", reference)
        assert self.run("content", "ls", "--quiet") == ""


class Stargz(Daemon):
    """The snapshotter that mounts layers before their bytes are here, at a containerd that knows it by this."""

    def __init__(self, folder, machine, ca):
        super().__init__(folder, machine)
        self.ca = ca

    def answers(self):
        return self.socket.exists()

    def plugin(self):
        return f'[proxy_plugins.stargz]\n  type = "snapshot"\n  address = "{self.socket}"\n'

    def start(self, config):
        path = self.folder / "config.toml"
        path.write_text(config)
        return self.launch("env", f"DOCKER_CONFIG={self.folder}", f"SSL_CERT_FILE={self.ca}", "containerd-stargz-grpc",
                           "--address", self.socket, "--root", self.folder / "root", "--config", path)

    def file(self, name):
        """Where a file of the newest image that has it is: in the snapshotter's own mounts."""
        top = pathlib.Path(f"/proc/{self.process.pid}/root{self.folder}/root/snapshotter/snapshots")
        found = sorted(top.glob(f"*/fs/{name}"), key=lambda p: int(p.relative_to(top).parts[0]))
        assert found, (name, self.words())
        return found[-1]


class Buildkitd(Daemon):
    """It reads /etc/buildkit/buildkitd.toml, as ever."""
    probe = ("debug", "workers")

    def __init__(self, folder, machine, program, client, ca):
        super().__init__(folder, machine)
        self.program, self.client_program, self.ca = program, client, ca

    @property
    def client(self):
        return ["env", f"DOCKER_CONFIG={self.folder}", f"SSL_CERT_FILE={self.ca}", str(self.client_program), "--addr",
                f"unix://{self.socket}"]

    def start(self):
        if os.geteuid() != 0:
            pytest.skip("buildkitd needs root")
        self.login("{}")
        return self.launch(self.program, "--addr", f"unix://{self.socket}", "--root",
                           self.folder / "root", "--config", "/etc/buildkit/buildkitd.toml",
                           "--oci-worker-snapshotter", "native", "--oci-worker-net", "host",
                           "--containerd-worker=false")

    def build(self, dockerfile, out):
        """The image of that text as an OCI tar at `out`; nothing of it is left in the daemon."""
        (self.folder / "context").mkdir(exist_ok=True)
        (self.folder / "context" / "Dockerfile").write_text(dockerfile)
        context = self.folder / "context"
        self.run("build", "--progress", "plain", "--frontend", "dockerfile.v0", "--no-cache",
                 "--local", f"context={context}", "--local", f"dockerfile={context}",
                 "--output", f"type=oci,dest={out}")
        self.run("prune", "--all")


class Dockerd(Daemon):
    probe = ("version",)

    def __init__(self, folder, machine, containerd, program="dockerd", storage="vfs"):
        super().__init__(folder, machine)
        self.containerd, self.program, self.storage = containerd, program, storage

    @property
    def client(self):
        return ["docker", "--config", str(self.folder), "--host", f"unix://{self.socket}"]

    def start(self):
        """It reads /etc/docker/daemon.json, as ever."""
        if os.geteuid() != 0:
            pytest.skip("dockerd needs root")
        self.login("{}")
        return self.launch(self.program, "--host", f"unix://{self.socket}", "--containerd",
                           self.containerd.socket, "--data-root", self.folder / "data",
                           "--exec-root", self.sockets / "exec", "--pidfile", self.folder / "pid",
                           "--bridge", "none", "--iptables=false", "--ip6tables=false",
                           "--storage-driver", self.storage)


CRIO = """[crio]
root = "{folder}/root"
runroot = "{sockets}/run"
storage_driver = "vfs"
log_dir = "{folder}/logs"
version_file = "{folder}/version"
version_file_persist = "{folder}/version-kept"
clean_shutdown_file = "{folder}/clean"
[crio.api]
listen = "{socket}"
[crio.image]
global_auth_file = "{folder}/config.json"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
namespaces_dir = "{folder}/namespaces"
container_exits_dir = "{folder}/exits"
container_attach_socket_dir = "{sockets}/attach"
default_runtime = "runc"
pinns_path = "/bin/true"
[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
monitor_path = "{conmon}"
monitor_cgroup = "pod"
[crio.network]
network_dir = "{folder}/networks"
plugin_dirs = ["{folder}/plugins"]
"""


class Crio(Daemon):
    """It reads /etc/containers, as ever. It only pulls: nothing is run by it."""
    probe = ("version",)

    @property
    def client(self):
        endpoint = f"unix://{self.socket}"
        return ["crictl", "--runtime-endpoint", endpoint, "--image-endpoint", endpoint]

    def start(self, credentials):
        self.login(credentials)
        (self.folder / "plugins").mkdir()
        config = self.folder / "crio.conf"
        config.write_text(CRIO.format(folder=self.folder, sockets=self.sockets, socket=self.socket,
                                      runc=shutil.which("runc"), conmon=shutil.which("conmon")))
        return self.launch("crio", "--config", config, "--config-dir", "")
