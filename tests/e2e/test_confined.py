"""What children give up: root, new privileges, core dumps, system calls, writing elsewhere."""
import contextlib
import grp
import os
import pathlib
import pwd
import re
import signal
import subprocess

import pytest

from client import MIB, PATIENCE
from harness import BINARY, UNPRIVILEGED, give, is_sanitized, noise, wait_until, yaml
from test_reload import change, hup

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def status(pid):
    return dict(re.findall(r"(\w+):\t(.*)", pathlib.Path(f"/proc/{pid}/status").read_text()))


def confined(cache):
    """Skips where the kernel, or the build, does without."""
    if is_sanitized():
        pytest.skip("sanitizers are not confined")
    said = re.search(r"sandbox: files (.*), system calls (.*)", cache.log())
    if said[1] != "confined" or said[2] != "confined":
        pytest.skip(f"this kernel: {said[0]}")


@root_only
def test_children_are_the_user_and_the_group_and_nothing_more(new_cache, origin, tmp_path):
    cache = new_cache(origin, user="nobody", group="adm", start=False)
    cache.data.mkdir()
    give(cache.data, "nobody")
    cache.start()
    blob = origin.blob("team/app", noise(MIB))
    cache.fetch(blob)
    cache.fetch(blob)
    nobody, adm = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("adm").gr_gid
    for pid in cache.children():
        s = status(pid)
        assert s["Uid"].split() == [str(nobody)] * 4 and s["Gid"].split() == [str(adm)] * 4
        assert int(s["CapEff"], 16) == int(s["CapPrm"], 16) == 0 and s["NoNewPrivs"] == "1"


def test_every_child_is_confined_and_so_is_its_successor(cache, origin):
    confined(cache)
    victim = cache.listeners()[0]
    os.kill(victim, signal.SIGKILL)
    cache.wait_replaced(victim)
    cache.fetch(origin.blob("team/app", noise(MIB)))
    for pid in cache.children():
        assert status(pid)["Seccomp"] == "2" and status(pid)["NoNewPrivs"] == "1"
        core = re.search(r"Max core file size +(\d+) +(\d+)",
                         pathlib.Path(f"/proc/{pid}/limits").read_text())
        assert core.groups() == ("0", "0")
        # A process whose memory others of its user may not read is root's in /proc.
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_child_writes_in_its_folders_only(new_cache, origin, tmp_path, sandbox):
    """Seen by a log that is moved to another folder while the cache runs."""
    logs, other = tmp_path / "logs", tmp_path / "other"
    for folder in (logs, other):
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    path = logs / "cache.log"
    cache = new_cache(origin, log={"path": str(path)}, sandbox=sandbox, start=False)
    cache.launch()
    wait_until(lambda: path.exists() and "ready: " in path.read_text(), "the cache is ready", 20)
    if sandbox:
        if is_sanitized() or "sandbox: files confined" not in path.read_text():
            pytest.skip("nothing is confined here")
    else:
        assert "sandbox: " not in path.read_text()
    blob = origin.blob("team/app", noise(1000))
    with path.open() as before:
        path.unlink()
        (other / "log").touch(mode=0o666)
        (other / "log").chmod(0o666)
        path.symlink_to(other / "log")
        cache.process.send_signal(signal.SIGUSR1)
        if sandbox:
            text = []

            def refused():
                text.append(before.read())
                return len(re.findall(r"listener \d: cannot reopen .*: Permission denied",
                                      "".join(text))) == 2
            wait_until(refused, "both listeners may not write there")
        else:
            wait_until(lambda: cache.get(blob.target) and
                       " access " in (other / "log").read_text(), "they write there")


@pytest.fixture
def as_nobody(new_cache, origin):
    """A cache whose root becomes nobody, on a folder that was nobody's before."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    cache = new_cache(origin, user="nobody", start=False)
    cache.data.mkdir()
    give(cache.folder, "nobody")
    return cache


def test_it_is_said_that_children_run_as_root(cache, as_nobody):
    assert UNPRIVILEGED or "the children run as root" in cache.log()
    as_nobody.start()
    assert "the children run as root" not in as_nobody.log()


def test_the_lock_is_the_user_s(as_nobody):
    """A later start as that user must be able to take it."""
    as_nobody.start()
    assert (as_nobody.data / "lock").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_root_does_not_follow_the_user_s_link_to_its_log(as_nobody, tmp_path):
    """Who has the folder of the log could have root write, and give away, any file."""
    victim = tmp_path / "shadow"
    victim.write_text("root's")
    victim.chmod(0o600)
    logs = as_nobody.folder / "logs"
    logs.mkdir()
    (logs / "cache.log").symlink_to(victim)
    give(as_nobody.folder, "nobody")
    as_nobody.config["log"]["path"] = str(logs / "cache.log")
    as_nobody.launch()
    assert as_nobody.process.wait(PATIENCE) == 1
    assert "Too many levels of symbolic links" in as_nobody.log()
    assert (victim.stat().st_uid, victim.read_text()) == (0, "root's")


@pytest.mark.parametrize("later", [False, True], ids=["from the start", "by HUP"])
def test_no_core_has_a_key_of_tls_in_it(new_cache, origin, pki, later):
    """Of the master, which read it, and of the children, without a sandbox, too."""
    tls = {"tls": {"certPath": pki.cert, "keyPath": pki.key}}
    cache = new_cache(origin, server={} if later else tls, sandbox=False)
    if later:
        change(cache, **tls)
        hup(cache)

    def have_none():
        """Those that retired are gone then."""
        with contextlib.suppress(FileNotFoundError):
            return all(re.search(r"Max core file size +0 +0 ", pathlib.Path(f"/proc/{pid}/limits").read_text())
                       for pid in (cache.master, *cache.children()))

    wait_until(have_none, "no process of the cache may write a core")


def test_a_configuration_that_anybody_may_write_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml({"dataPath": str(tmp_path / "data"), "server": {
        "address": "127.0.0.1:0", "defaultBackend": {"host": "registry.example"}}}) + "\n")
    for mode, expected in ((0o644, 0), (0o666, 2), (0o602, 2)):
        path.chmod(mode)
        done = subprocess.run([BINARY, "-t", "-c", str(path)], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
        assert expected == 0 or f"anybody may write it (mode {mode:04o})" in done.stderr


def test_a_group_that_is_none_is_said(new_cache, origin):
    cache = new_cache(origin, user="nobody", group="no-such-group", start=False)
    cache.launch()
    assert cache.process.wait(20) != 0
    assert "group no-such-group: there is no such group" in cache.log()
