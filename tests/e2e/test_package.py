"""The Debian package: built from this tree, it installs in a clean root, starts by its init script and
by hand, serves a pull, and is removed without a trace."""
import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest

from client import MIB, Connection
from harness import free_port, is_sanitized, noise, wait_until, yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("debootstrap", "dpkg-buildpackage", "dh", "fakeroot")
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
LEFT_OUT = (".git", "build", "var", "*.o", "*.a", ".deps", "config.status", "Makefile", "__pycache__")
# What dpkg, the linker and adduser keep for themselves.
NOT_OURS = ("/var/lib/dpkg", "/var/cache", "/var/log", "/etc/ld.so.cache", "/etc/passwd", "/etc/group",
            "/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock", "/etc/subuid", "/etc/subgid", "/proc",
            "/tmp", "/root", "/etc/init.d/.depend", "/var/lib/systemd", "/run/lock", "/run/adduser")


def run(*command, timeout=300, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=timeout, **options)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def able():
    if os.geteuid() != 0:
        pytest.skip("only root can make a root")
    if is_sanitized():
        pytest.skip("the package does not hold this program: the plain run shows it")
    for tool in TOOLS:
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"there is no {tool}")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    tree = folder / "registry-cache"
    shutil.copytree(TOP, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    environment = {k: v for k, v in os.environ.items() if k not in ("CFLAGS", "MAKEFLAGS", "srcdir")}
    run("dpkg-buildpackage", "-us", "-uc", "-b", cwd=tree, env=environment)
    return next(folder.glob("registry-cache_*.deb"))


class Root:
    """A Debian of its own, with nothing but what the package depends on."""

    def __init__(self, folder, package):
        self.path = folder
        depends = run("dpkg-deb", "-f", package, "Depends", "Pre-Depends").replace("\n", " ")
        names = {word.split()[0].split(":")[-1] for line in depends.split(",")
                 for word in line.split("Pre-Depends:")[-1].split("Depends:")[-1].split("|")[:1]}
        done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(sorted(names))}",
                               "bookworm", str(folder), MIRROR], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"debootstrap from {MIRROR}: {done.stdout[-300:]}")
        guard = folder / "usr/sbin/policy-rc.d"
        guard.write_text("#!/bin/sh\nexit 101\n")   # nothing starts before it is told where to listen
        guard.chmod(0o755)
        folder.chmod(0o755)
        run("mount", "--bind", "/proc", folder / "proc")
        (folder / "dev/null").exists() or run("mknod", "-m", "666", folder / "dev/null", "c", "1", "3")

    def __call__(self, *command):
        return run("chroot", self.path, *command)

    def end(self):
        subprocess.run(["umount", "-l", str(self.path / "proc")], check=True)

    def files(self):
        found = set()
        for folder, folders, names in os.walk(self.path):
            inside = "/" + str(pathlib.Path(folder).relative_to(self.path))
            if inside.replace("/.", "/").startswith(NOT_OURS):
                folders.clear()
                continue
            found |= {f"{inside}/{n}".replace("/./", "/") for n in [*names, *folders]}
        return {f for f in found if not f.startswith(NOT_OURS)}


@pytest.fixture(scope="module")
def root(tmp_path_factory, package):
    made = Root(tmp_path_factory.mktemp("root"), package)
    yield made
    made.end()


def configure(root, origin):
    """As the administrator edits the file that the package brought."""
    path = root.path / "etc/registry-cache/registry-cache.yaml"
    assert "user: registry-cache\n" in path.read_text().splitlines(True)
    port = free_port()
    path.write_text(yaml({
        "dataPath": "/var/cache/registry-cache", "user": "registry-cache",
        "log": {"path": "/var/log/registry-cache/registry-cache.log"},
        "server": {"address": f"127.0.0.1:{port}", "listeners": 1,
                   "defaultBackend": {"host": origin.host, "scheme": origin.scheme}}}) + "\n")
    return port


def pull(port, blob):
    with contextlib.closing(Connection(("127.0.0.1", port))) as c:
        answer = c.request("GET", blob.target)
        assert answer.status == 200 and answer.body == blob.data


def users_of(root):
    return {line.partition(":")[0] for line in (root.path / "etc/passwd").read_text().splitlines()}


def reinstall(root, master):
    """A new version takes the place of the program that runs, whose process stays."""
    log = root.path / "var/log/registry-cache/registry-cache.log"
    said = "on the sockets of the program before"
    wait_until(lambda: said in log.read_text(), "the upgrade by the script is over")
    before = log.read_text().count(said)
    root("dpkg", "-i", "/tmp/registry-cache.deb")
    wait_until(lambda: log.read_text().count(said) > before, "the package's program took over")
    assert int((root.path / "run/registry-cache.pid").read_text()) == master


def by_init_script(root, port, blob):
    script = "/etc/init.d/registry-cache"
    root(script, "start")
    try:
        root(script, "status")
        pull(port, blob)
        master = int((root.path / "run/registry-cache.pid").read_text())
        uid = (root.path / "var/cache/registry-cache").stat().st_uid
        children = subprocess.run(["ps", "-o", "uid=", "--ppid", str(master)],
                                  capture_output=True, text=True).stdout.split()
        assert children and set(children) == {str(uid)} and uid != 0
        root(script, "reload")
        pull(port, blob)
        root(script, "upgrade")
        pull(port, blob)
        reinstall(root, master)
        pull(port, blob)
    finally:
        root(script, "stop")


def by_hand(root, port, blob):
    log = root.path / "var/log/registry-cache/registry-cache.log"
    log.unlink()
    process = subprocess.Popen(["chroot", str(root.path), "/usr/sbin/registry-cache"])
    try:
        wait_until(lambda: log.exists() and "ready: " in log.read_text(), "it is ready", 20)
        pull(port, blob)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_the_package_serves_and_leaves_no_trace(root, package, origin):
    before, users = root.files(), users_of(root)
    shutil.copy(package, root.path / "tmp/registry-cache.deb")
    root("dpkg", "-i", "/tmp/registry-cache.deb")
    assert users_of(root) - users == {"registry-cache"}
    root("registry-cache", "-t")
    port = configure(root, origin)
    first, second = (origin.blob("team/app", noise(MIB, n)) for n in range(2))
    by_init_script(root, port, first)
    by_hand(root, port, second)
    assert origin.fetches(first) and len(origin.fetches(first)) == 1
    root("dpkg", "-P", "registry-cache")
    assert users_of(root) == users
    assert root.files() - before == set()
    for folder in ("var/cache/registry-cache", "var/log/registry-cache", "etc/registry-cache"):
        assert not (root.path / folder).exists()
