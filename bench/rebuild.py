#!/usr/bin/env python3
"""How fast a lost index is made again: a store of many small objects, no index, a daemon on it.

    bench/rebuild.py [--files 200000] [--size 2000] [--binary src/registry-cache] [--folder /var/tmp]

Prints files and bytes a second as the daemon logs them, and the time until the first hit.
"""
import argparse
import hashlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time


def make_store(data, files, size):
    """Objects of random bytes, none the same."""
    names = [data / "objects" / "sha256" / f"{n:02x}" for n in range(256)]
    for path in names:
        path.mkdir(parents=True)
    for _ in range(files):
        body = os.urandom(size)
        name = hashlib.sha256(body).hexdigest()
        (names[int(name[:2], 16)] / name).write_bytes(body)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_log(path, pattern, process):
    while True:
        found = re.search(pattern, path.read_text(errors="replace"))
        if found:
            return found
        if process.poll() is not None:
            raise SystemExit(f"the daemon ended: {path.read_text()[-2000:]}")
        time.sleep(0.01)


def run(options, folder):
    data, log, config = folder / "data", folder / "log", folder / "config.yaml"
    make_store(data, options.files, options.size)
    os.sync()  # else the index's own syncs wait for all these files
    if options.cold:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    config.write_text(f"dataPath: {data}\n"
                      f"server: {{address: '127.0.0.1:{free_port()}', listeners: 1,\n"
                      "  defaultBackend: {host: 'registry.example'}}\n"
                      "gc: {layers: {checkRate: 10GB/s}}\n")
    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([options.binary, "-c", str(config)], stderr=out)
    try:
        wait_log(log, r"ready: ", process)
        print(f"serves after {time.monotonic() - began:.3f} s")
        line = wait_log(log, r"recovery: the index is complete: (.*)", process)[1]
    finally:
        process.terminate()
        process.wait()
    numbers = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}
    assert numbers["adopted"] == options.files, line
    seconds = numbers["ms"] / 1000
    print(f"{numbers['adopted']} files, {numbers['bytes'] / 1e6:.0f} MB in {seconds:.2f} s: "
          f"{numbers['adopted'] / seconds:.0f} files/s, {numbers['bytes'] / seconds / 1e6:.0f} MB/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=200000)
    parser.add_argument("--size", type=int, default=2000, help="bytes of each")
    parser.add_argument("--binary", default="src/registry-cache")
    parser.add_argument("--folder", help="where the store is made")
    parser.add_argument("--cold", action="store_true", help="drop the page cache first (root)")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rebuild.", dir=options.folder))
    try:
        run(options, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
