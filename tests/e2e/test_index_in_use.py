"""Damage that comes to an index while it is in use: it is found out, set aside and made again from the files."""
import os
import re
import signal

import pytest
from client import KIB, Closed
from harness import alive, noise, wait_until
from test_recovery import fill

PAGE = os.sysconf("SC_PAGESIZE")
FLAGS, LOWER, UPPER, POINTERS = 10, 12, 14, 16  # in a page (MDB_page in LMDB's mdb.c)
LEAF = 2


@pytest.fixture
def cache(new_cache, origin, tmp_path):
    """Its children stumble over what LMDB finds: no findings of ours."""
    quiet = {name: f"{os.environ.get(name, '')}:log_path={tmp_path / 'report'}"
             for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")}
    return new_cache(origin, environment=quiet, gc={"interval": "1s"})


def get(page, at):
    return int.from_bytes(page[at:at + 2], "little")


def put(page, at, n):
    page[at:at + 2] = n.to_bytes(2, "little")


def lie_about_the_length(page):
    """Who writes to the page dies."""
    put(page, UPPER, 0xffff)


def lie_about_the_kind(page):
    """Nobody finds anything."""
    put(page, FLAGS, 1)


def exchange(page):
    """Two records have changed their places: some are not found, a walk does not end."""
    if get(page, LOWER) >= POINTERS + 4:
        first = get(page, POINTERS)
        put(page, POINTERS, get(page, POINTERS + 2))
        put(page, POINTERS + 2, first)


def change_leaves(cache, damage):
    """In place: it is mapped."""
    with open(cache.data / "index" / "data.mdb", "r+b") as f:
        for at in range(2 * PAGE, f.seek(0, os.SEEK_END), PAGE):
            f.seek(at)
            page = bytearray(f.read(PAGE))
            if get(page, FLAGS) == LEAF:
                damage(page)
                f.seek(at)
                f.write(page)


def pull_new(cache, origin):
    """A layer that is new to the cache; it may break off."""
    blob = origin.blob("team/app", noise(2 * KIB, os.urandom(4)))
    try:
        answer = cache.get(blob.target)
    except (Closed, ConnectionError):
        return
    assert answer.status == 200
    assert not answer.complete or answer.body == blob.data


def until_recovered(cache, origin):
    def done():
        pull_new(cache, origin)
        return re.search("all children end.*recovery: the index is complete", cache.log(), re.DOTALL)
    wait_until(done, "the index is made again", 60)


@pytest.mark.parametrize("damage", [lie_about_the_length, lie_about_the_kind, exchange],
                         ids=lambda f: f.__name__)
def test_an_index_that_is_damaged_in_use_is_set_aside_and_made_again(cache, origin, damage):
    blobs = fill(cache, origin, 100)
    before = cache.children()
    change_leaves(cache, damage)
    until_recovered(cache, origin)
    assert len(re.findall("the index is damaged: all children end", cache.log())) == 1
    assert len(list((cache.data / "index").glob("damaged.*"))) == 1
    assert not any(alive(pid) for pid in before)
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
        assert origin.fetches(blob) == []
    cache.check_objects()
    cache.stop()


def test_children_that_die_of_something_else_leave_a_sound_index_alone(cache, origin):
    blobs = fill(cache, origin, 10)
    gc = cache.gc()
    for _ in range(3):
        victim = cache.listeners()[0]
        os.kill(victim, signal.SIGSEGV)
        cache.wait_replaced(victim)
    cache.wait_log("children died again and again: looking whether the index is damaged")
    cache.wait_log("no damage of the index is seen")
    assert cache.gc() == gc and alive(gc)
    assert "all children end" not in cache.log()
    origin.forget()
    for blob in blobs:
        cache.fetch(blob)
        assert origin.fetches(blob) == []
