"""-D, the pid file, and the words to a service manager."""
import os
import pathlib
import signal
import socket
import subprocess

import pytest
from client import PATIENCE
from harness import BINARY, alive, noise, wait_until, yaml


@pytest.fixture
def daemon(tmp_path, new_cache, origin):
    """start(*arguments) runs it to its end, which is the parent's; the daemon ends with the test."""
    cache = new_cache(origin, start=False, log={"path": str(tmp_path / "cache0" / "log")})
    pid_path = tmp_path / "pid"

    def start(*more):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            cache.port = s.getsockname()[1]
        cache.config["server"]["address"] = f"127.0.0.1:{cache.port}"
        cache.config_path.write_text(yaml(cache.config) + "\n")
        done = subprocess.run([BINARY, "-D", "-c", str(cache.config_path), "-p", str(pid_path), *more],
                              capture_output=True, text=True, timeout=PATIENCE)
        return done

    start.cache, start.pid_path = cache, pid_path
    yield start
    if pid_path.exists():
        pid = int(pid_path.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not alive(pid), "the daemon ends")


def test_the_parent_ends_when_the_daemon_serves(daemon, origin):
    done = daemon()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    pid = int(daemon.pid_path.read_text())
    daemon.cache.fetch(origin.blob("a/b", noise(1000)))
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[3]) != os.getsid(0), "it is in a session of its own"
    assert int(stat[4]) == 0, "it has no terminal"
    assert int(stat[3]) != pid, "and can get none"
    assert [os.readlink(f"/proc/{pid}/fd/{n}") for n in (0, 1, 2)] == ["/dev/null"] * 3
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), "the daemon ends")
    assert not daemon.pid_path.exists()


def test_the_parent_fails_when_the_daemon_cannot_serve(daemon):
    daemon.cache.config["dataPath"] = "/proc/nowhere"
    done = daemon()
    assert done.returncode == 1
    assert not daemon.pid_path.exists()
    assert "/proc/nowhere" in daemon.cache.log_path.read_text()


def test_a_second_daemon_fails_and_leaves_the_pid_of_the_first(daemon):
    assert daemon().returncode == 0
    pid = daemon.pid_path.read_text()
    assert daemon().returncode == 1
    assert daemon.pid_path.read_text() == pid and alive(int(pid))


def test_a_daemon_without_a_log_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"dataPath: {tmp_path}/data\nserver:\n  address: 127.0.0.1:0\n"
                    "  defaultBackend:\n    host: registry.example\n")
    done = subprocess.run([BINARY, "-D", "-c", str(path)], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 2 and "log.path" in done.stderr


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told(tmp_path, new_cache, origin, abstract):
    """By sd_notify(3)'s protocol, as systemd's Type=notify with WatchdogSec wants it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"\0registry-cache-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        manager.bind(name)
        if not abstract:
            os.chmod(name, 0o777)
        manager.settimeout(PATIENCE)

        def told(word):
            """Reads until the word comes; what came before it."""
            before = []
            while True:
                text = manager.recv(4096).decode()
                if text.startswith(word):
                    return before
                before.append(text)

        environment = {"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "2000000"}
        cache = new_cache(origin, environment=environment)
        told("READY=1")
        told("WATCHDOG=1")
        cache.process.send_signal(signal.SIGHUP)
        told("RELOADING=1\nMONOTONIC_USEC=")
        told("READY=1")
        cache.process.send_signal(signal.SIGUSR2)
        told("RELOADING=1\nMONOTONIC_USEC=")
        told("READY=1")
        told("WATCHDOG=1")
        cache.stop()
        told("STOPPING=1")
