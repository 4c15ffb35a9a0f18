"""What contrib/ holds for other programs is what those programs take."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from harness import BINARY, noise, wait_until

CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"
PATHS = "/usr/sbin:/usr/bin:/sbin:/bin"


def need(tool):
    path = shutil.which(tool, path=PATHS)
    if path is None:
        pytest.skip(f"there is no {tool}")
    return path


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, **options)


def test_the_daemon_set_s_configuration_is_valid(tmp_path):
    documents = pytest.importorskip("yaml").safe_load_all((CONTRIB / "kubernetes" / "daemonset.yaml").read_text())
    found = {d["kind"]: d for d in documents}
    path = tmp_path / "registry-cache.yaml"
    path.write_text(found["ConfigMap"]["data"]["registry-cache.yaml"])
    done = run(BINARY, "-t", "-c", path)
    assert done.returncode == 0, done.stderr
    pod = found["DaemonSet"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    printed = run(BINARY, "--print-config", "-c", path).stdout
    assert f"0.0.0.0:{ports['registry']}" in printed and f"0.0.0.0:{ports['metrics']}" in printed
    drain = int(re.search(r"drainTimeout: (\d+)s", path.read_text())[1])
    assert pod["terminationGracePeriodSeconds"] > drain
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "metrics"


def test_rotated_logs_are_written_anew(new_cache, origin, tmp_path):
    """With the file that is installed; only its paths are the test's."""
    logrotate = need("logrotate")
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    folder.chmod(0o777)
    path, pid = folder / "registry-cache.log", tmp_path / "pid"
    cache = new_cache(origin, log={"path": str(path)}, start=False)
    cache.launch()
    wait_until(lambda: path.exists() and "ready: " in path.read_text(), "it is ready", 20)
    pid.write_text(f"{cache.process.pid}\n")
    text = (CONTRIB / "registry-cache.logrotate").read_text()
    for old, new in (("/var/log/registry-cache", str(folder)), ("/run/registry-cache.pid", str(pid)),
                     ("/run/systemd/system", "/no/systemd")):
        assert old in text
        text = text.replace(old, new)
    configuration = tmp_path / "rotate"
    configuration.write_text("su root root\n" * (os.geteuid() == 0) + text)
    done = run(logrotate, "-f", "-s", tmp_path / "state", configuration)
    assert done.returncode == 0, done.stderr
    blob = origin.blob("team/app", noise(1000))
    wait_until(lambda: cache.get(blob.target).status == 200 and path.exists() and
               " access " in path.read_text(), "the new file is written to")
    assert "ready: " in (folder / "registry-cache.log.1").read_text()
    cache.process.send_signal(signal.SIGTERM)
    assert cache.process.wait(20) == 0


def complete(*words):
    script = (". /usr/share/bash-completion/bash_completion; "
              f". {CONTRIB}/registry-cache.bash-completion; "
              'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; '
              '_registry_cache "$1" "${!#}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"')
    return run("bash", "-c", script, "bash", *words).stdout.split()


def test_options_are_completed():
    if not os.path.exists("/usr/share/bash-completion/bash_completion"):
        pytest.skip("there is no bash-completion")
    said = set(re.findall(r"(?m)^  (-[^ ,]*)", run(BINARY, "-h").stdout))
    assert said and set(complete(BINARY, "-")) == said
    assert "--print-config" in complete(BINARY, "--p")


@pytest.mark.parametrize("tool, name", [("systemd-analyze", "service"), ("systemd-sysusers", "sysusers"),
                                        ("systemd-tmpfiles", "tmpfiles")])
def test_systemd_takes_its_files(tmp_path, tool, name):
    (tmp_path / "etc").mkdir()
    path = tmp_path / f"registry-cache.{name}"
    path.write_text((CONTRIB / f"registry-cache.{name}").read_text().replace(
        "/usr/sbin/registry-cache", BINARY).replace("registry-cache registry-cache -", "root root -")
        .replace("registry-cache adm", "root root"))
    arguments = {"service": ["verify", "--man=no", path], "sysusers": [f"--root={tmp_path}", path],
                 "tmpfiles": ["--create", f"--root={tmp_path}", path]}[name]
    done = run(need(tool), *arguments)
    assert done.returncode == 0 and not re.search("registry-cache.*(Unknown|ignoring)", done.stderr), done.stderr
