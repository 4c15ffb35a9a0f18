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
        log_path = self.folder / "log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen([*self.machine.enter, *map(str, command)], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.answers() or self.process.poll() is not None,
                   f"{command[0]} answers", 30)
        if self.process.poll() is not None:
            last = (log_path.read_text().strip().splitlines() or ["no word"])[-1]
            pytest.skip(f"{command[0]} does not run here: {last}")
        return self

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

    def start(self):
        config = self.folder / "config.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, socket=self.socket))
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


class Dockerd(Daemon):
    probe = ("version",)

    def __init__(self, folder, machine, containerd):
        super().__init__(folder, machine)
        self.containerd = containerd

    @property
    def client(self):
        return ["docker", "--config", str(self.folder), "--host", f"unix://{self.socket}"]

    def start(self):
        """It reads /etc/docker/daemon.json, as ever."""
        if os.geteuid() != 0:
            pytest.skip("dockerd needs root")
        self.login("{}")
        return self.launch("dockerd", "--host", f"unix://{self.socket}", "--containerd",
                           self.containerd.socket, "--data-root", self.folder / "data",
                           "--exec-root", self.sockets / "exec", "--pidfile", self.folder / "pid",
                           "--bridge", "none", "--iptables=false", "--ip6tables=false",
                           "--storage-driver", "vfs")

    def login(self, config):
        """The client's config.json, which has the credentials that it hands to the engine."""
        (self.folder / "config.json").write_text(config)
