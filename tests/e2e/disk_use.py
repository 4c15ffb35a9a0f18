"""Looks every 50 ms at how much disk a folder takes, until standard input ends; prints a JSON object.

Started by test_disk.py as a process of its own. A look is two walks, one right after the other: only what is in
both was there at one moment. Parts come first, so that what is renamed meanwhile is not missed. An inode's number
is soon used again, so it is told by its digest, too.
"""
import json
import os
import select
import sys
import time

INTERVAL = 0.05


def walk(folder, files):
    """(inode, digest) -> bytes of blocks, of everything below."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        name = entry.name.partition(":")[2].partition(".")[0] or entry.name
        files[status.st_ino, name] = status.st_blocks * 512
        if entry.is_dir(follow_symlinks=False):
            walk(entry.path, files)


def walk_all(data):
    files = {}
    for part in ("parts", "objects", "index"):
        walk(os.path.join(data, part), files)
    return files


def look(data):
    first, second = walk_all(data), walk_all(data)
    return sum(min(size, second[file]) for file, size in first.items() if file in second)


def main():
    data, most, looks, total = sys.argv[1], 0, 0, 0
    print("looking", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        use = look(data)
        most, looks, total = max(most, use), looks + 1, total + use
        time.sleep(max(0, began + INTERVAL - time.monotonic()))
    print(json.dumps({"most": most, "looks": looks, "mean": total / max(looks, 1)}))


if __name__ == "__main__":
    main()
