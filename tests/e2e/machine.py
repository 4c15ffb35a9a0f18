"""A machine's /etc for real clients: set-up files at the very places that the README names, and
host names of the test's own, seen only by the programs started in it (a mount namespace)."""
import os
import pathlib
import subprocess

import pytest

ENTER = 'mount --bind /etc "$1" && mount --bind "$2" /etc && shift 2 && exec "$@"'
OURS = ("hosts", "containers", "containerd", "docker", "buildkit")   # not taken from the real /etc


class Machine:
    """`names` are host names that stand for 127.0.0.1."""

    def __init__(self, folder, names):
        self.etc, self.real = pathlib.Path(folder) / "etc", pathlib.Path(folder) / "real-etc"
        self.etc.mkdir(parents=True)
        self.real.mkdir()
        for entry in os.scandir("/etc"):
            if entry.name not in OURS:
                target = os.readlink(entry.path) if entry.is_symlink() else self.real / entry.name
                (self.etc / entry.name).symlink_to(target)
        self.write("hosts", "".join(f"127.0.0.1 {n}\n" for n in ("localhost", *names)))
        self.write("containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.enter = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self.real), str(self.etc)]

    def write(self, name, text):
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def require(self):
        """Skips the test where namespaces of mounts are not allowed."""
        done = subprocess.run([*self.enter, "true"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no mount namespace for an /etc of our own: {done.stderr.strip()}")
        return self
