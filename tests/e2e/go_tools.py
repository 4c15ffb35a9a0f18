"""Clients that Debian has not, built by Go from the module proxy into a folder of the user's cache,
once a machine."""
import functools
import os
import pathlib
import shutil
import subprocess

import pytest

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
TOOLS = {
    "crane": ("github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    # v1.3.6 and later send no token request to a realm on loopback, where ours is.
    "oras": ("oras.land/oras/cmd/oras", "v1.3.4"),
}


def tool(name):
    """The program's path; skips the test, saying why, where it cannot be built."""
    problem, path = built(name)
    if problem:
        pytest.skip(f"{name}: {problem}")
    return path


@functools.cache
def built(name):
    """(why there is none or None, the program's path)"""
    package, version = TOOLS[name]
    folder = CACHE / "registry-cache-tests" / f"{name}-{version}"
    program = folder / name
    if program.exists():
        return None, program
    if not shutil.which("go"):
        return "there is no Go to build it", None
    return go(folder, ["install", f"{package}@{version}"]), program


def go(folder, args, cwd=None):
    """Runs the go command with its products in `folder`; None, or what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(folder), "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(["go", *args], capture_output=True, text=True, timeout=240, cwd=cwd,
                              env=environment)
    except subprocess.TimeoutExpired:
        return "its build took more than 240 s"
    if done.returncode == 0:
        return None
    return "its build failed: " + (done.stderr.strip().splitlines() or ["no word"])[-1]
