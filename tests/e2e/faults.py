"""Faults of the disk and the clock, made by a preloaded library (tests/fault/fault.c, whose layout and
order of functions this file has too)."""
import errno
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest
from harness import BINARY, HERE

FUNCTIONS = ["open", "read", "write", "fstat", "fstatat", "fallocate", "ftruncate", "rename", "unlink",
             "mkdir", "fsync", "readdir", "mmap", "msync", "sendfile", "flock", "statvfs", "syncfs"]
SIZE, NONE = 4096, -1
AT = {"function": 264, "error": 268, "countdown": 272, "for_ever": 280, "hits": 284, "delay_us": 288,
      "clock_s": 296, "calls": 304}
AT["delayed"] = AT["calls"] + 8 * len(FUNCTIONS)
WIDE = {"countdown", "delay_us", "clock_s"}


def library(folder):
    """The built library; outside of a build folder it is made here."""
    built = pathlib.Path(BINARY).resolve().parent.parent / "tests" / "fault" / "fault.so"
    if built.exists():
        return built
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler to make the library of faults")
    made = pathlib.Path(folder) / "fault.so"
    subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", str(made),
                    str(HERE.parent / "fault" / "fault.c"), "-ldl"], check=True)
    return made


def sanitizer():
    """The sanitizer's library, which must be loaded before any other; None."""
    out = subprocess.run(["ldd", BINARY], capture_output=True, text=True).stdout
    found = re.search(r"lib[at]san\S* => (\S+)", out)
    return found and found[1]


class Faults:
    """`disk` is a file system of its own: what lies on it is sick when a fault is armed."""

    def __init__(self, folder, disk):
        path = pathlib.Path(folder) / "faults"
        path.write_bytes(bytes(SIZE))
        path.chmod(0o666)  # the cache counts in it, whoever it runs as
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), SIZE)
        struct.pack_into("=Q256s", self.map, 0, os.stat(disk).st_dev, str(disk).encode())
        self.disarm()
        preload = [str(p) for p in (sanitizer(), library(folder)) if p]
        self.environment = {"LD_PRELOAD": " ".join(preload), "FAULT_CONTROL": str(path)}

    def _put(self, name, value):
        struct.pack_into("=q" if name in WIDE else "=i", self.map, AT[name], value)

    def arm(self, function, error, nth=1, for_ever=False):
        """The nth call from now on fails, and all after it if so wanted."""
        self._put("function", NONE)
        self._put("error", getattr(errno, error))
        self._put("countdown", nth)
        self._put("for_ever", for_ever)
        self._put("hits", 0)
        self._put("function", FUNCTIONS.index(function))

    def disarm(self):
        self._put("function", NONE)

    @property
    def hits(self):
        return struct.unpack_from("=i", self.map, AT["hits"])[0]

    def delay(self, seconds, function=None):
        """Every call takes so long, or every one of this function."""
        self._put("delayed", FUNCTIONS.index(function) + 1 if function else 0)
        self._put("delay_us", int(seconds * 1e6))

    def step_clock(self, seconds):
        self._put("clock_s", int(seconds))

    def calls(self, function):
        """How many there were so far."""
        return struct.unpack_from("=q", self.map, AT["calls"] + 8 * FUNCTIONS.index(function))[0]
