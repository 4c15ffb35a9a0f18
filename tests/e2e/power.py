"""A simulated loss of power: what the kernel had not written yet is lost, in part and in any order.

A Snapshot is what was on the disk at some moment. lose() makes of the folder what a disk may hold after a
loss of power later on: every page that has changed since may be the new one, the old one or zeros; files
that are new may be whole, short, full of holes or not there; a rename may not have happened. Only the mark
(index/state) is as it was written, for it is synced by the daemon.
"""
import contextlib
import re

PAGE = 4096
MARK = "index/state"


class Snapshot:
    def __init__(self, folder):
        self.folder = folder
        self.files = read_all(folder)

    def lose(self, rng):
        now = read_all(self.folder)
        for name in set(self.files) | set(now):
            if name == MARK or name == "lock" or self.files.get(name) == now.get(name):
                continue
            path = self.folder / name
            data = surviving(rng, self.files.get(name), now.get(name))
            if data is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        undo_renames(rng, self.folder, set(now) - set(self.files))


def read_all(folder):
    out = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the cache runs, and removes things
            if path.is_file():
                out[str(path.relative_to(folder))] = path.read_bytes()
    return out


def surviving(rng, old, new):
    """The bytes of a file, or None when it is not there."""
    if old is None:
        if rng.random() < 0.2:
            return None
        return torn(rng, b"", new)
    if new is None:  # it was removed, or not
        return None if rng.random() < 0.5 else old
    return torn(rng, old, new)


def torn(rng, old, new):
    luck = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])  # of a page, to have been written
    out = bytearray(new)
    for at in range(0, len(new), PAGE):
        if rng.random() >= luck:
            size = len(out[at:at + PAGE])
            page = old[at:at + size] if rng.random() < 0.7 else b""
            out[at:at + PAGE] = page.ljust(size, b"\0")
    if rng.random() < 0.3:  # the length was not written
        del out[max(len(old), rng.randrange(len(new) + 1)):]
    return bytes(out)


def undo_renames(rng, folder, new):
    """A new object may still have its part's name, or none of its folders."""
    for name in new:
        path = folder / name
        found = re.fullmatch(r"objects/(sha\d+)/../([0-9a-f]+)", name)
        if found and path.exists() and rng.random() < 0.2:
            path.rename(folder / "parts" / f"{found[1]}:{found[2]}.{rng.getrandbits(63) + 1:016x}")


def another_boot(folder):
    """The machine comes up again: its boot id is another one than the mark's."""
    mark = folder / MARK
    if mark.exists():
        mark.write_text(re.sub(r"boot (\S\S\S\S)",
                               lambda m: "boot " + ("0000" if m[1] != "0000" else "1111"),
                               mark.read_text()))
