"""Clients that Debian has not, built by Go from the module proxy into a folder of the user's cache,
once a machine."""
import functools
import hashlib
import json
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


# Not to be had by `go install`, and minutes to build: only where they are asked for, in their sources.
LARGE = {
    "buildkitd": ("github.com/moby/buildkit", "v0.26.3"),
    "buildctl": ("github.com/moby/buildkit", "v0.26.3"),
    "warmer": ("github.com/GoogleContainerTools/kaniko", "v1.24.0"),
    "helm": ("helm.sh/helm/v3", "v3.22.0"),
    "dockerd": ("github.com/moby/moby/v2", "v2.0.0-beta.24"),    # after 29
    "cosign": ("github.com/sigstore/cosign/v3", "v3.1.3"),
}


def large_tool(name):
    """The same for the large ones, which REGISTRY_CACHE_TOOLS=all builds."""
    module, version = LARGE[name]
    folder = CACHE / "registry-cache-tests" / f"{module.replace('/', '-')}-{version}"
    if not (folder / name).exists():
        if os.environ.get("REGISTRY_CACHE_TOOLS") != "all":
            pytest.skip(f"{name} is not built: REGISTRY_CACHE_TOOLS=all does that, in minutes")
        if not shutil.which("go"):
            pytest.skip(f"{name}: there is no Go to build it")
        return required(name, (build_in_sources(folder, module, version, name), folder / name))
    return folder / name


def build_in_sources(folder, module, version, name):
    """None, or what went wrong."""
    found = subprocess.run(["go", "mod", "download", "-json", f"{module}@{version}"],
                           capture_output=True, text=True, timeout=240)
    if found.returncode != 0:
        return "its sources cannot be had: " + (found.stderr.strip().splitlines() or ["no word"])[-1]
    sources = folder / "sources"
    if not sources.exists():
        shutil.copytree(json.loads(found.stdout)["Dir"], sources)
        subprocess.run(["chmod", "-R", "u+w", str(sources)], check=True)
    return go(folder, ["build", "-mod=mod", "-o", f"{folder}/", f"./cmd/{name}"], sources, 600)


def tool(name):
    """The program's path; skips the test, saying why, where it cannot be built."""
    return required(name, built(name))


def required(name, found):
    problem, path = found
    if problem:
        pytest.skip(f"{name}: {problem}")
    return path


@functools.cache
def built(name):
    """(why there is none or None, the program's path)"""
    package, version = TOOLS[name]
    folder = CACHE / "registry-cache-tests" / f"{name}-{version}"
    return made(folder / name, ["install", f"{package}@{version}"])


def program(name):
    """One of our own, from the folder of its name here; its modules come from the proxy. Skips likewise."""
    return required(name, built_here(name))


@functools.cache
def built_here(name):
    """(why there is none or None, the program's path)"""
    source = pathlib.Path(__file__).parent / name
    state = hashlib.sha256(b"".join(f.read_bytes() for f in sorted(source.iterdir()))).hexdigest()
    folder = CACHE / "registry-cache-tests" / f"{name}-{state[:16]}"
    path = folder / name
    return made(path, ["build", "-mod=readonly", "-o", str(path), "."], source)


def made(path, args, cwd=None):
    """(why there is none or None, the program's path): as it is, or made by this go command."""
    if path.exists():
        return None, path
    if not shutil.which("go"):
        return "there is no Go to build it", None
    return go(path.parent, args, cwd), path


def go(folder, args, cwd=None, limit=240):
    """Runs the go command with its products in `folder`; None, or what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(folder), "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(["go", *args], capture_output=True, text=True, timeout=limit, cwd=cwd,
                              env=environment)
    except subprocess.TimeoutExpired:
        return f"its build took more than {limit} s"
    if done.returncode == 0:
        return None
    return "its build failed: " + (done.stderr.strip().splitlines() or ["no word"])[-1]
