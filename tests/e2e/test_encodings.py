"""Upstreams that encode though they are asked not to, and manifests that are too large to be kept: what
clients are given is the object, as it is."""
import gzip
import json
import os
import signal
import zlib

import pytest
from client import MIB
from harness import Download, noise, wait_until
from script import OCI_MANIFEST, Answer, Gate, digest_of

TEXT = b"".join(b'{"layer": "%d", "more": "words that come again and again"}\n' % k
                for k in range(9000))


def raw_deflate(data):
    c = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return c.compress(data) + c.flush()


CODINGS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "several gzip members": ("gzip", lambda d: gzip.compress(d[:1000]) + gzip.compress(d[1000:])),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", raw_deflate),
}


def encode(thing, name, body, **more):
    """Its HEAD and GET say this coding of these bytes."""
    thing.answer = Answer(headers=(("Content-Encoding", name),), body=body, **more)
    thing.head = thing.answer
    return thing


def check_served(cache, thing, times=("cold", "hot")):
    for _ in times:
        answer = cache.fetch(thing)
        assert answer.header("Content-Encoding") is None
        assert answer.header("Docker-Content-Digest") == thing.digest
        wait_until(lambda: cache.object_path(thing.digest).exists(), "it is published")
    answer = cache.head(thing.target)
    assert (answer.status, answer.header("Content-Length")) == (200, str(thing.size))
    cache.check_objects()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS.keys())
@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_what_is_really_encoded_is_decoded(cache, origin, kind, coding, framing):
    thing = origin.blob("team/app", TEXT) if kind == "blob" else \
        origin.manifest("team/app", "v1", TEXT[:100_000])
    name, encoder = coding
    encode(thing, name, encoder(thing.data), framing=framing)
    check_served(cache, thing)
    assert len(origin.fetches(thing)) == 1
    assert origin.fetches(thing)[0].header("Accept-Encoding") == "identity"


@pytest.mark.parametrize("name", ["gzip", "br", "gzip, gzip"])
def test_bytes_that_are_the_object_go_without_the_field(cache, origin, name):
    """A layer is a gzip file; some storages say so in the wrong place."""
    layer = origin.blob("team/app", gzip.compress(noise(3 * MIB)))
    check_served(cache, encode(layer, name, layer.data))
    assert len(origin.fetches(layer)) == 1


def test_a_large_encoded_blob_reaches_many_clients_on_all_listeners(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 4})
    data = TEXT * 60   # 35 MB, of which 1 MB comes
    blob = encode(origin.blob("team/app", data), "gzip", gzip.compress(data))
    downloads = [Download(cache, blob.target) for _ in range(12)]
    assert all(d.result().complete and d.answer.body == data for d in downloads)
    assert len(origin.fetches(blob)) == 1


def test_a_range_of_an_encoded_blob_is_of_the_object(cache, origin):
    blob = encode(origin.blob("team/app", TEXT), "gzip", gzip.compress(TEXT))
    for _ in ("cold", "hot"):
        answer = cache.get(blob.target, [("Range", "bytes=100000-100099")])
        assert (answer.status, answer.body) == (206, TEXT[100_000:100_100])
        assert answer.header("Content-Range") == f"bytes 100000-100099/{len(TEXT)}"


BROKEN = {
    "an unknown coding": ("br", gzip.compress(TEXT)),
    "two codings": ("gzip, deflate", gzip.compress(TEXT)),
    "other bytes": ("gzip", gzip.compress(TEXT + b"x")),
    "a cut stream": ("gzip", gzip.compress(TEXT)[:-20]),
    "something behind it": ("deflate", zlib.compress(TEXT) + b"x"),
    "rubbish behind it": ("gzip", gzip.compress(TEXT) + b"rubbish"),
    "a damaged stream": ("gzip", gzip.compress(TEXT)[:1000] + b"????" + gzip.compress(TEXT)[1004:]),
    "no stream at all": ("gzip", TEXT[1:]),
    "nothing": ("gzip", b""),
}


@pytest.mark.parametrize("name, body", BROKEN.values(), ids=BROKEN.keys())
def test_what_does_not_become_the_object_is_502_and_not_kept(cache, origin, name, body):
    blob = encode(origin.blob("team/app", TEXT), name, body)
    answer = cache.get(blob.target)
    assert answer.status == 502, answer.body[:200]
    assert cache.objects() == []
    wait_until(lambda: cache.parts() == [], "its part is gone")
    encode(blob, "identity", TEXT)
    check_served(cache, blob)


def test_a_bomb_is_not_decoded_to_its_end(cache, origin):
    """200 MB of nothing in 200 KB."""
    bomb = bytes(200 * MIB)
    blob = encode(origin.blob("team/app", bomb), "gzip", gzip.compress(bomb))
    assert cache.get(blob.target).status == 502
    assert "becomes too large" in cache.log() and cache.objects() == []


def test_a_limit_of_the_disk_holds_for_what_is_decoded_too(new_cache, origin):
    cache = new_cache(origin, gc={"disk": {"maxSize": "1MiB"}})
    data = TEXT * 4
    blob = encode(origin.blob("team/app", data), "gzip", gzip.compress(data))
    answer = cache.get(blob.target)
    assert not (answer.status == 200 and answer.complete and answer.body != data)
    assert cache.objects() == []


def test_an_encoded_transfer_that_breaks_begins_again(cache, origin):
    body = gzip.compress(noise(2 * MIB))
    blob = encode(origin.blob("team/app", gzip.decompress(body)), "gzip", body)
    blob.once.append(Answer(headers=blob.answer.headers, body=body, at=MIB, then="reset"))
    check_served(cache, blob)
    assert [e.header("Range") for e in origin.fetches(blob)] == [None, None]


def test_an_encoded_transfer_that_always_breaks_ends(cache, origin):
    body = gzip.compress(noise(2 * MIB))
    blob = encode(origin.blob("team/app", gzip.decompress(body)), "gzip", body, at=MIB, then="reset")
    assert cache.get(blob.target).status == 502
    assert len(origin.fetches(blob)) <= 8


def test_what_a_dead_leader_had_of_an_encoded_body_is_not_gone_on_with(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 2})
    data = noise(3 * MIB)
    body = gzip.compress(data)
    blob = encode(origin.blob("team/app", data), "gzip", body)
    gate = Gate(MIB)
    blob.once.append(Answer(headers=blob.answer.headers, body=body, gate=gate))
    first = Download(cache, blob.target, connection=cache.connect_to(0))
    gate.wait_reached()
    second = Download(cache, blob.target, connection=cache.connect_to(1))
    wait_until(lambda: origin.heads(blob), "the follower has asked")
    wait_until(lambda: any((cache.data / "parts" / p).stat().st_size for p in cache.parts()),
               "some of it is on disk")
    os.kill(cache.listeners()[0], signal.SIGKILL)
    answer = second.result()
    assert answer.complete and answer.body == data
    assert first.answer is None or not first.answer.complete
    assert [e.header("Range") for e in origin.fetches(blob)] == [None, None]


def test_a_blob_that_is_encoded_when_it_is_gone_on_with_is_not_mixed(cache, origin):
    """Half of it came as it is; the rest would come encoded."""
    data = noise(2 * MIB)
    blob = encode(origin.blob("team/app", data), "gzip", gzip.compress(data))
    blob.once.append(Answer(at=MIB, then="reset"))
    answer = cache.get(blob.target)
    assert not answer.complete and data.startswith(answer.body)
    assert cache.objects() == []


# --- manifests that are too large --------------------------------------------------------------


def document(size):
    text = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": {"a": ""}})
    return text.replace('"a": ""', '"a": "%s"' % ("x" * (size - len(text)))).encode()


def test_a_manifest_of_4_mib_is_kept(cache, origin):
    manifest = origin.manifest("team/app", "v1", document(4 * MIB))
    for _ in ("cold", "hot"):
        cache.fetch(manifest)
    assert len(origin.fetches(manifest)) == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("by", ["target", "tag_target"])
def test_a_manifest_of_more_than_4_mib_passes_through(cache, origin, by, framing):
    manifest = origin.manifest("team/app", "v1", document(4 * MIB + 1))
    manifest.answer = Answer(framing=framing)
    for n in (1, 2):
        answer = cache.get(getattr(manifest, by))
        assert answer.status == 200 and answer.complete and answer.body == manifest.data
        assert answer.header("Docker-Content-Digest") == manifest.digest
        assert answer.header("Content-Type") == OCI_MANIFEST
        if framing == "length":
            assert answer.header("Content-Length") == str(manifest.size)
            assert len(origin.fetches(manifest)) == n
    assert cache.objects() == [] and cache.parts() == []
    answer = cache.head(getattr(manifest, by))
    assert (answer.status, answer.header("Content-Length")) == (200, str(manifest.size))


def test_clients_of_one_large_manifest_at_once_all_have_it(new_cache, origin):
    cache = new_cache(origin, server={"listeners": 4})
    manifest = origin.manifest("team/app", "v1", document(5 * MIB))
    downloads = [Download(cache, manifest.target) for _ in range(8)]
    assert all(d.result().complete and d.answer.body == manifest.data for d in downloads)
    assert cache.objects() == []


def test_a_large_manifest_of_other_bytes_is_cut(cache, origin):
    manifest = origin.manifest("team/app", "v1", document(5 * MIB))
    manifest.answer = Answer(body=document(5 * MIB)[:-3] + b"y\"}")
    answer = cache.get(manifest.target)
    assert answer.status == 200 and not answer.complete


def test_head_of_a_large_manifest_without_a_type_has_one(cache, origin):
    """Such a HEAD is answered by GET; the cache keeps nothing of it."""
    manifest = origin.manifest("team/app", "v1", document(5 * MIB))
    manifest.head = Answer(content_type="")
    answer = cache.head(manifest.target)
    assert (answer.status, answer.header("Content-Type")) == (200, OCI_MANIFEST)
    assert answer.header("Docker-Content-Digest") == digest_of(manifest.data)
    assert answer.header("Content-Length") == str(manifest.size)
    assert cache.get(manifest.target).body == manifest.data
