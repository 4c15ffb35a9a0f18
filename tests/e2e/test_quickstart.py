"""contrib/quickstart, on a small tree of its own: what it writes, what it says, and that the cache then runs.

The build is played by a Makefile that puts the binary under test where a build would have put it.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import pytest

from harness import BINARY, PATIENCE, free_port, wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path):
    """A checkout in which nothing is to be installed and `make` copies the binary."""
    top = tmp_path / "tree"
    (top / "contrib").mkdir(parents=True)
    (top / "src").mkdir()
    shutil.copy(TOP / "contrib" / "quickstart", top / "contrib" / "quickstart")
    script(top / "contrib" / "install-packages", 'echo "packages: $*"')
    script(top / "autogen.sh",
           "printf '#!/bin/sh\\ntouch Makefile.made\\n' >configure; chmod +x configure")
    (top / "Makefile").write_text(f"all:\n\t@cp '{BINARY}' src/registry-cache\n")
    return top


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def quickstart(tree, *arguments, **options):
    return subprocess.run([tree / "contrib" / "quickstart", *arguments], text=True,
                          capture_output=True,
                          timeout=PATIENCE, **options)


def test_no_run_builds_and_writes_a_configuration_that_is_valid(tree, tmp_path):
    done = quickstart(tree, "--no-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "packages: build" in done.stdout
    config = tree / "var" / "registry-cache.yaml"
    tested = subprocess.run([BINARY, "-t", "-c", config], capture_output=True, text=True,
                            timeout=PATIENCE)
    assert tested.returncode == 0, tested.stderr
    for client in ("curl -i http://127.0.0.1:7000/v2/", "skopeo copy", "registry-mirrors",
                   "hosts.toml"):
        assert client in done.stdout


def test_a_configuration_that_is_there_is_kept(tree):
    assert quickstart(tree, "--no-run", "--address", "127.0.0.1:7111").returncode == 0
    config = tree / "var" / "registry-cache.yaml"
    config.write_text(config.read_text() + "# mine\n")
    again = quickstart(tree, "--no-run")
    assert again.returncode == 0, again.stderr
    assert config.read_text().endswith("# mine\n")
    assert "http://127.0.0.1:7111/v2/" in again.stdout


def test_a_build_that_fails_ends_it(tree):
    (tree / "Makefile").write_text("all:\n\t@false\n")
    assert quickstart(tree, "--no-run").returncode != 0
    assert not (tree / "var").exists()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--address"], ["--no-run", "more"]])
def test_a_wrong_flag_is_refused_before_anything_is_done(tree, arguments):
    done = quickstart(tree, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "packages:" not in done.stdout


def test_the_cache_then_runs_in_the_foreground_until_it_is_told_to_stop(tree):
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([tree / "contrib" / "quickstart", "--address", address], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    try:
        wait_until(lambda: f"on {address}" in said(lines, "ready:"),
                   "the cache says that it is ready")
        assert os.readlink(f"/proc/{process.pid}/exe") == str(tree / "src" / "registry-cache")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, "".join(lines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(PATIENCE)


def said(lines, word):
    """The lines so far that contain this word."""
    return "".join(line for line in list(lines) if word in line)
