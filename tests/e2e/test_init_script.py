"""contrib/registry-cache.init: what LSB asks of start, stop, restart, status and configtest."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from harness import BINARY, PATIENCE, free_port, wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("start-stop-daemon", path="/usr/sbin:/sbin") is None,
                                reason="there is no start-stop-daemon")


class Script:
    """The script with its constants pointing into a folder of the test."""

    def __init__(self, folder):
        self.config = folder / "registry-cache.yaml"
        self.pid_file = folder / "pid"
        self.path = folder / "init"
        text = (TOP / "contrib" / "registry-cache.init").read_text()
        values = {"NAME": "registry-cache-test", "DAEMON": BINARY, "CONFIG": self.config,
                  "PIDFILE": self.pid_file, "STOP_SECONDS": "20"}
        for name, value in values.items():
            text, count = re.subn(rf"(?m)^{name}=[^ \n]*", f"{name}={value}", text)
            assert count == 1, name
        self.path.write_text(text)
        self.path.chmod(0o755)
        self.config.write_text(
            f"dataPath: {folder}/data\nserver:\n  address: 127.0.0.1:{free_port()}\n"
            "  defaultBackend:\n    host: 127.0.0.1:1\n    scheme: http\n"
            f"log:\n  path: {folder}/log\n")

    def __call__(self, action):
        return subprocess.run([self.path, action], capture_output=True, text=True, timeout=2 * PATIENCE).returncode

    def pid(self):
        return int(self.pid_file.read_text())


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    yield made
    if made.pid_file.exists():
        try:
            os.kill(made.pid(), signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_start_and_stop_are_told_by_status(script):
    assert script("status") == 3
    assert script("start") == 0
    assert script("status") == 0
    first = script.pid()
    assert script("start") == 0, "starting what runs is no error"
    assert script.pid() == first
    assert script("stop") == 0
    assert script("status") == 3
    assert not os.path.exists(f"/proc/{first}/exe")  # a zombie, which its parent has yet to reap, has none
    assert script("stop") == 0, "stopping what does not run is no error"


def test_restart_makes_a_new_process(script):
    assert script("start") == 0
    first = script.pid()
    assert script("restart") == 0
    assert script("status") == 0
    assert script.pid() != first
    assert script("stop") == 0


def test_a_mistake_in_the_configuration_does_not_stop_what_runs(script):
    assert script("start") == 0
    first = script.pid()
    script.config.write_text("nonsense: true\n")
    assert script("configtest") == 2
    assert script("restart") == 6
    assert script("status") == 0
    assert script.pid() == first
    assert script("stop") == 0


def test_it_does_not_start_with_a_mistake_in_the_configuration(script):
    script.config.write_text("nonsense: true\n")
    assert script("start") == 6
    assert script("status") == 3


def test_reload_and_upgrade_keep_the_process_and_change_its_children(script):
    assert script("reload") == 7, "what does not run cannot be told"
    assert script("upgrade") == 7
    assert script("start") == 0
    pid, log = script.pid(), script.config.parent / "log"
    for n, action in enumerate(("reload", "force-reload", "upgrade"), 1):
        assert script(action) == 0
        wait_until(lambda n=n: log.read_text().count("the configuration is changed") == n, action)
        assert script("status") == 0 and script.pid() == pid
    script.config.write_text("nonsense: true\n")
    assert script("reload") == 6
    assert script("stop") == 0


def test_start_fails_when_the_daemon_cannot_serve(script):
    script.config.write_text(script.config.read_text().replace("127.0.0.1:", "192.0.2.1:", 1))
    assert script("start") == 7
    assert script("status") == 3


def test_an_unknown_action_is_refused(script):
    assert script("dance") == 2
