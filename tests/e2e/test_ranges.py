"""Ranges of what is not here yet, or never will be: the range itself is fetched, once there was 206
there is always 206, and there is one fill."""
import shutil
import threading
import time

import pytest
from client import KIB, MIB, SLOW
from harness import Download, noise, wait_until
from script import Access, Answer, Gate, Vast, basic

GIB = 1024 * MIB
TOKEN = basic("ada", "secret")


def get_range(cache, thing, value, headers=(), **more):
    return cache.get(thing.target, [("Range", value), *headers], **more)


def check_range(answer, thing, first, last):
    assert answer.status == 206 and answer.complete, (answer.status, answer.problem, answer.body)
    assert answer.header("Content-Range") == f"bytes {first}-{last}/{thing.size}"
    assert answer.header("Content-Length") == str(last - first + 1)
    assert answer.header("Docker-Content-Digest") == thing.digest
    assert answer.header("Transfer-Encoding") is None
    assert answer.body == thing.data[first:last + 1]


def whole_fetches(origin, thing):
    return [e for e in origin.gets(thing) if e.header("Range") is None]


# --- a blob of 10 GiB --------------------------------------------------------------------------


@pytest.fixture
def vast(origin, new_cache, tmp_path):
    """(cache, blob): at 4 MiB a second it would take 40 minutes to fetch."""
    if shutil.disk_usage(tmp_path).free < 12 * GIB:
        pytest.skip("a fill of 10 GiB could not reserve its space here")
    blob = origin.blob("team/app", Vast(10 * GIB))
    blob.answer = Answer(rate=4 * MIB)
    cache = new_cache(origin)
    yield cache, blob
    cache.stop()
    for part in (cache.data / "parts").iterdir():
        part.unlink()


@pytest.mark.parametrize("value, first, last", [
    ("bytes=0-1", 0, 1),
    (f"bytes={5 * GIB}-{5 * GIB + 99_999}", 5 * GIB, 5 * GIB + 99_999),
    ("bytes=-2", 10 * GIB - 2, 10 * GIB - 1),
], ids=["first", "middle", "last"])
def test_a_range_of_a_cold_blob_of_10_gib_takes_less_than_a_second(vast, origin, value, first, last):
    cache, blob = vast
    began = time.monotonic()
    answer = get_range(cache, blob, value)
    assert time.monotonic() - began < SLOW
    check_range(answer, blob, first, last)
    assert len(whole_fetches(origin, blob)) == 1


def test_many_ranges_of_a_cold_blob_start_one_fill(vast, origin):
    cache, blob = vast
    places = [0, *(k * GIB + 12345 for k in range(1, 10)), 10 * GIB - 1000]
    downloads = [Download(cache, blob.target, [("Range", f"bytes={at}-{at + 999}")])
                 for at in places]
    for at, download in zip(places, downloads):
        check_range(download.result(), blob, at, at + 999)
    fill, = whole_fetches(origin, blob)
    wait_until(lambda: fill.sent > 3 * MIB, "the fill goes on when they are served")
    assert not fill.ended and len(cache.parts()) == 1


# --- what is no range, cold ---------------------------------------------------------------------


@pytest.mark.parametrize("headers", [
    [("Range", "lines=1-2")], [("Range", "bytes=9-x")], [("Range", "bytes=0-9"), ("If-Range", '"other"')],
    [("Range", "bytes=0-9"), ("If-Range", "Wed, 25 Nov 2026 13:00:00 GMT")]],
    ids=["unit", "no number", "If-Range", "date"])
def test_a_range_that_does_not_count_gets_the_whole_of_a_cold_blob(cache, origin, headers):
    blob = origin.blob("team/app", noise(300_000))
    answer = cache.get(blob.target, headers)
    assert (answer.status, answer.header("Content-Range")) == (200, None)
    assert answer.complete and answer.body == blob.data


@pytest.mark.parametrize("value", ["bytes=500-0", "bytes=300000-", "bytes=-0"])
def test_a_range_that_cannot_be_is_416_of_a_cold_blob_too(cache, origin, value):
    blob = origin.blob("team/app", noise(300_000))
    answer = get_range(cache, blob, value)
    assert (answer.status, answer.header("Content-Range")) == (416, f"bytes */{blob.size}")


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
def test_conditions_of_a_range_count_after_the_check_only(new_cache, new_origin, warm):
    origin = new_origin(access=Access({TOKEN: ["team/app"], None: []}))
    cache = new_cache(origin)
    blob = origin.blob("team/app", noise(300_000))
    if warm:
        cache.fetch(blob, [("Authorization", TOKEN)])
    etag = f'"{blob.digest}"'
    for condition in (("If-Range", etag), ("If-None-Match", etag)):
        assert get_range(cache, blob, "bytes=0-9", [condition]).status == 401
    allowed = [("Authorization", TOKEN)]
    check_range(get_range(cache, blob, "bytes=0-9", [("If-Range", etag), *allowed]), blob, 0, 9)
    assert get_range(cache, blob, "bytes=0-9", [("If-None-Match", etag), *allowed]).status == 304


# --- beside a fill -----------------------------------------------------------------------------


def held_blob(origin, size=24 * MIB, at=MIB, **more):
    """A blob whose fill stops at a byte until the gate is opened; its ranges do not."""
    blob = origin.blob("team/app", noise(size))
    gate = Gate(at)
    blob.once.append(Answer(gate=gate, **more))
    return blob, gate


def publish(cache, blob, gate):
    gate.open()
    wait_until(lambda: cache.object_path(blob.digest).exists(), "the fill is published")
    assert cache.object_path(blob.digest).read_bytes() == blob.data


def test_a_range_far_ahead_is_passed_through_and_the_fill_goes_on(cache, origin):
    blob, gate = held_blob(origin)
    answer = get_range(cache, blob, "bytes=20000000-20000999")
    check_range(answer, blob, 20000000, 20000999)
    cache.wait_access(outcome="ranged", bytes=1000)
    publish(cache, blob, gate)
    check_range(get_range(cache, blob, "bytes=20000000-20000999"), blob, 20000000, 20000999)
    assert [e.header("Range") for e in origin.gets(blob)] == [None, "bytes=20000000-20000999"]


def test_a_range_near_the_fill_that_does_not_come_is_passed_through_too(cache, origin):
    blob, gate = held_blob(origin)
    check_range(get_range(cache, blob, "bytes=3000000-3000009"), blob, 3000000, 3000009)
    assert len(origin.gets(blob)) == 2
    publish(cache, blob, gate)


def test_a_range_of_a_fill_without_length_has_its_total_from_the_range(cache, origin):
    blob, gate = held_blob(origin, framing="chunked")
    check_range(get_range(cache, blob, "bytes=-10"), blob, blob.size - 10, blob.size - 1)
    publish(cache, blob, gate)


def test_a_range_of_a_blob_whose_length_nobody_says_waits_for_its_end(cache, origin):
    blob = origin.blob("team/app", noise(3 * MIB))
    gate = Gate(MIB)
    blob.answer = Answer(framing="chunked", ranges=False)
    blob.once.append(Answer(framing="chunked", ranges=False, gate=gate))
    download = Download(cache, blob.target, [("Range", "bytes=100-199")])
    gate.wait_reached()
    wait_until(lambda: len(origin.gets(blob)) == 2, "its length was asked for by a range")
    gate.open()
    check_range(download.result(), blob, 100, 199)


def test_a_registry_that_never_answers_the_range_does_not_hold_up_the_fill(cache, origin):
    """The length is asked for beside a fill that does not say it; then the fill ends."""
    blob, gate = held_blob(origin, size=3 * MIB, framing="chunked")
    blob.answer = Answer(before_head="hang")
    download = Download(cache, blob.target, [("Range", "bytes=-10")])
    wait_until(lambda: len(origin.gets(blob)) == 2, "the range was asked for")
    began = time.monotonic()
    gate.open()
    check_range(download.result(), blob, blob.size - 10, blob.size - 1)
    assert time.monotonic() - began < 5 * SLOW


def test_an_upstream_without_ranges_is_waited_for(cache, origin):
    blob, gate = held_blob(origin, ranges=False)
    blob.answer = Answer(ranges=False)
    download = Download(cache, blob.target, [("Range", "bytes=20000000-20000999")])
    wait_until(lambda: len(origin.gets(blob)) == 2 and origin.gets(blob)[1].ended,
               "the range was tried")
    assert origin.gets(blob)[1].sent < blob.size
    gate.open()
    check_range(download.result(), blob, 20000000, 20000999)
    assert len(origin.gets(blob)) == 2


@pytest.mark.parametrize("content_range", ["bytes 0-999/25165824", "bytes 20000000-20000999/*",
                                           "bytes 20000000-20000999/7", "bytes 20000000-20000998/25165824"])
def test_an_answer_of_another_range_is_not_used(cache, origin, content_range):
    blob, gate = held_blob(origin)
    blob.answer = Answer(content_range=content_range)
    download = Download(cache, blob.target, [("Range", "bytes=20000000-20000999")])
    wait_until(lambda: len(origin.gets(blob)) == 2, "the range was tried")
    gate.open()
    check_range(download.result(), blob, 20000000, 20000999)


def test_a_range_that_breaks_is_completed_by_the_fill(cache, origin):
    blob, gate = held_blob(origin)
    blob.answer = Answer(at=20 * MIB + 100 * KIB, then="reset")
    download = Download(cache, blob.target, [("Range", f"bytes={20 * MIB}-{21 * MIB - 1}")])
    wait_until(lambda: len(origin.gets(blob)) == 2 and origin.gets(blob)[1].ended,
               "the range broke")
    gate.open()
    check_range(download.result(), blob, 20 * MIB, 21 * MIB - 1)


def test_a_fill_that_overtakes_a_range_gives_the_rest(cache, origin):
    blob, gate = held_blob(origin)
    blob.answer = Answer(rate=64 * KIB)
    download = Download(cache, blob.target, [("Range", "bytes=20000000-")])
    wait_until(lambda: len(origin.gets(blob)) == 2 and origin.gets(blob)[1].sent, "it is on its way")
    gate.open()
    check_range(download.result(), blob, 20000000, blob.size - 1)
    assert origin.gets(blob)[1].sent < MIB


def test_a_lie_that_the_fill_finds_cuts_the_ranges_of_it(cache, origin):
    blob, gate = held_blob(origin)
    blob.once[0].body = b"?" * blob.size
    held = Gate(blob.size - 500)
    blob.answer = Answer(gate=held)
    download = Download(cache, blob.target, [("Range", "bytes=-1000")])
    held.wait_reached()
    gate.open()
    assert not download.result().complete
    assert cache.objects() == []


def test_with_passing_off_a_range_waits_for_the_fill(new_cache, origin):
    cache = new_cache(origin, server={"passRanges": False})
    blob, gate = held_blob(origin)
    download = Download(cache, blob.target, [("Range", "bytes=20000000-20000999")])
    gate.wait_reached()
    near = Download(cache, blob.target, [("Range", "bytes=0-9")])
    check_range(near.result(), blob, 0, 9)
    gate.open()
    check_range(download.result(), blob, 20000000, 20000999)
    assert len(origin.gets(blob)) == 1


def test_a_range_is_fetched_with_the_client_s_own_credentials(new_cache, new_origin):
    origin = new_origin(access=Access({TOKEN: ["team/app"], None: []}))
    cache = new_cache(origin)
    blob, gate = held_blob(origin)
    download = Download(cache, blob.target, [("Authorization", TOKEN)])
    gate.wait_reached()
    refused = get_range(cache, blob, "bytes=20000000-20000999")
    assert refused.status == 401 and blob.data[20000000:20000100] not in refused.body
    answer = get_range(cache, blob, "bytes=20000000-20000999", [("Authorization", TOKEN)])
    check_range(answer, blob, 20000000, 20000999)
    assert [e.header("Authorization") for e in origin.gets(blob) if e.status < 300] == [TOKEN, TOKEN]
    gate.open()
    assert download.result().body == blob.data


# --- containerd's way: several open ranges that hang up after their piece -----------------------


def piece_of(cache, blob, first, end, out):
    with cache.connect() as c:
        c.ask("GET", blob.target, [("Range", f"bytes={first}-")])
        answer = c.receive_head()
        assert answer.status == 206, answer.status
        assert answer.header("Content-Range") == f"bytes {first}-{blob.size - 1}/{blob.size}"
        c.receive_body(answer, limit=end - first)
        out[first] = answer.body


def pieces_of(cache, blob, count=8):
    """The blob from that many connections at once; fails unless each piece came."""
    out, size = {}, -(-blob.size // count)
    threads = [threading.Thread(target=piece_of, args=(cache, blob, at, min(at + size, blob.size),
                                                       out))
               for at in range(0, blob.size, size)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60 * SLOW)
    assert len(out) == count
    return b"".join(out[at] for at in sorted(out))


def test_eight_open_ranges_of_a_cold_blob_while_it_is_removed(new_cache, origin):
    """Objects vanish under the clients; each round is whole, and the fills are not the clients'."""
    cache = new_cache(origin, server={"listeners": 4})
    blob = origin.blob("team/app", noise(40 * MIB))
    blob.answer = Answer(rate=80 * MIB)
    over = threading.Event()

    def remove():
        while not over.wait(0.05):
            cache.object_path(blob.digest).unlink(missing_ok=True)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(4):
            assert pieces_of(cache, blob) == blob.data
    finally:
        over.set()
        remover.join()
    cache.fetch(blob)
    assert len(whole_fetches(origin, blob)) <= 6


# --- without a fill ----------------------------------------------------------------------------


@pytest.fixture
def full(new_cache, origin):
    """A cache that can keep nothing of this size."""
    return new_cache(origin, gc={"disk": {"maxSize": "1MiB"}}), origin.blob("team/app",
                                                                           noise(4 * MIB))


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("value, first, last", [
    ("bytes=0-1", 0, 1), ("bytes=2000000-2000099", 2000000, 2000099),
    ("bytes=-2", 4 * MIB - 2, 4 * MIB - 1), ("bytes=4000000-", 4000000, 4 * MIB - 1)])
def test_a_range_of_what_cannot_be_kept_is_206_all_the_same(full, ranges, value, first, last):
    cache, blob = full
    blob.answer = Answer(ranges=ranges)
    check_range(get_range(cache, blob, value), blob, first, last)
    assert cache.objects() == []


def test_a_range_beyond_what_cannot_be_kept_is_416(full):
    cache, blob = full
    answer = get_range(cache, blob, f"bytes={blob.size}-")
    assert (answer.status, answer.header("Content-Range")) == (416, f"bytes */{blob.size}")


def test_a_range_of_what_cannot_be_kept_goes_on_after_a_break(full, origin):
    cache, blob = full
    blob.answer = Answer(at=2 * MIB, then="reset")
    download = Download(cache, blob.target, [("Range", "bytes=1000000-2999999")])

    def asked(first):
        return [e for e in origin.gets(blob) if e.header("Range") == f"bytes={first}-2999999"]
    wait_until(lambda: asked(1000000) and asked(1000000)[0].ended, "the range broke")
    blob.answer = Answer()
    check_range(download.result(), blob, 1000000, 2999999)
    assert asked(2 * MIB)


def test_a_refused_range_of_what_cannot_be_kept_is_told(new_cache, new_origin):
    origin = new_origin(access=Access({TOKEN: ["team/app"], None: []}))
    cache = new_cache(origin, gc={"disk": {"maxSize": "1MiB"}})
    blob = origin.blob("team/app", noise(4 * MIB))
    assert get_range(cache, blob, "bytes=9-10").status == 401
    answer = get_range(cache, blob, "bytes=9-10", [("Authorization", TOKEN)])
    check_range(answer, blob, 9, 10)


# --- who vouches -------------------------------------------------------------------------------


def test_two_bytes_of_a_lie_prove_nothing(new_cache, new_origin):
    """A registry of whose word nothing is taken is asked for a range, then another one brings the object:
    it is not opened by what the first never delivered."""
    good, evil = new_origin(), new_origin()
    rules = [{"regex": "^evil$", "host": evil.host, "scheme": "http", "trusted": False}]
    cache = new_cache(good, server={"upstreamRules": rules})
    blob = good.blob("team/app", noise(300_000))
    lie = evil.blob("evil/app", blob.data)
    lie.answer = Answer(body=b"?" * blob.size)
    got = get_range(cache, lie, "bytes=0-1", host="evil")
    assert got.status == 502 or got.body == b"??" or not got.complete
    wait_until(lambda: evil.fetches(lie)[0].ended and not cache.parts(), "the lie is found")
    cache.fetch(blob)
    for headers in ((), [("Range", "bytes=100-199")]):
        answer = cache.get(lie.target, headers, host="evil")
        assert blob.data[100:132] not in answer.body
