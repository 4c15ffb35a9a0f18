"""Lazy pullers: they read pieces of a layer, cold and hot, and never all of it. stargz's own code (Go), and
podman's request for the chunks of a zstd:chunked layer as containers/storage makes it."""
import subprocess

import pytest
from client import MIB, SLOW
from go_tools import program
from harness import noise, wait_until
from script import Answer, Gate
from test_multirange import check_parts

CHUNK = 50_000  # stargz's own


@pytest.fixture(scope="module")
def lazy():
    """Reads pieces (offset, length) of a blob by stargz's fs/remote."""
    path = program("lazy")

    def read(cache, blob, pieces):
        command = [str(path), f"127.0.0.1:{cache.port}", "team/app", blob.digest,
                   *(f"{at}:{n}" for at, n in pieces)]
        done = subprocess.run(command, capture_output=True, timeout=60 * SLOW)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return read


# The second and fourth chunk, then all around them: what is missing is asked for by one request.
PIECES = [(CHUNK + 10, 100), (3 * CHUNK, 1), (0, 6 * CHUNK), (20_000_000, 70_000), (24 * MIB - 5, 5)]


def wanted(blob):
    return b"".join(blob.data[at:at + n] for at, n in PIECES)


def test_stargz_reads_a_blob_cold_and_hot(lazy, cache, origin):
    blob = origin.blob("team/app", noise(24 * MIB))
    assert lazy(cache, blob, PIECES) == wanted(blob)
    wait_until(lambda: cache.object_path(blob.digest).exists(), "the one fill is published")
    before = len(origin.fetches(blob))
    assert lazy(cache, blob, PIECES) == wanted(blob)
    assert len(origin.fetches(blob)) == before
    assert {a["status"] for a in cache.access() if a["method"] == "GET"} == {"206"}


def test_stargz_reads_a_blob_whose_fill_stands_still(lazy, cache, origin):
    blob = origin.blob("team/app", noise(24 * MIB))
    gate = Gate(100_000)
    blob.once.append(Answer(gate=gate))
    assert lazy(cache, blob, PIECES) == wanted(blob)
    ranges = [e.header("Range") for e in origin.fetches(blob)]
    assert ranges.count(None) == 1
    assert {"bytes=100000-149999", "bytes=200000-299999"} <= set(ranges)  # parts of one request
    gate.open()
    wait_until(lambda: cache.object_path(blob.digest).exists(), "the fill goes on")


def test_stargz_reads_what_cannot_be_kept(lazy, new_cache, origin):
    cache = new_cache(origin, gc={"disk": {"maxSize": "1MiB"}})
    blob = origin.blob("team/app", noise(24 * MIB))
    assert lazy(cache, blob, PIECES) == wanted(blob)


def chunks_of_podman(first, count):
    """containers/storage (pkg/chunked) merges neighbours and asks for what is missing with gaps between."""
    return [(first + 7000 * k, first + 7000 * k + 100 + 31 * (k % 60)) for k in range(count)]


@pytest.mark.parametrize("count", [2, 300, 1024])
def test_podman_s_chunks_of_a_zstd_chunked_layer(cache, origin, count):
    """The footer of the layer by one range, its table of contents by another, then the chunks by one request
    (c/storage pkg/chunked/storage_linux.go; c/image docker_image_src.go GetBlobAt)."""
    blob = origin.blob("team/app", noise(9 * MIB))
    for _ in ("cold", "hot"):
        footer = cache.get(blob.target, [("Range", f"bytes={blob.size - 64}-{blob.size - 1}")])
        assert (footer.status, footer.body) == (206, blob.data[-64:])
        wanted_chunks = chunks_of_podman(12345, count)
        value = "bytes=" + ",".join(f"{a}-{b}" for a, b in wanted_chunks)
        check_parts(cache.get(blob.target, [("Range", value)]), blob, wanted_chunks)
        wait_until(lambda: cache.object_path(blob.digest).exists(), "the one fill is published")
