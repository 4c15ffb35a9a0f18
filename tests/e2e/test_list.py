"""What is stored, in people's words: registry-cache --list."""
import datetime
import subprocess

from client import PATIENCE
from harness import BINARY, noise, wait_until
from script import OCI_INDEX, OCI_MANIFEST
from test_degraded import damage_garbage
from test_expiry import wait_gone


def listed(cache, status=0):
    done = subprocess.run([BINARY, "-c", str(cache.config_path), "--list"], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == status, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()], done.stderr


def pull(cache, thing, accept=OCI_MANIFEST):
    assert cache.get(thing.tag_target, [("Accept", accept)]).body == thing.data


def test_tags_are_listed_while_the_cache_runs_and_after(new_cache, origin):
    cache = new_cache(origin)
    assert listed(cache) == ([], "")
    things = [origin.manifest("team/app", tag, b'{"schemaVersion":2,"n":%d}' % n)
              for n, tag in enumerate(("v2", "v1", "v1.0.1-rc.1"))]
    things.append(origin.manifest("another", "latest", b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX))
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    for thing in things:
        pull(cache, thing, thing.media_type)
    cache.fetch(origin.blob("team/app", noise(1000)))
    lines, said = listed(cache)
    assert said == "" and [line[:3] for line in lines] == sorted(
        [f"{origin.url}/{t.repository}:{t.tag}", t.digest, t.media_type] for t in things)
    for *_, at in lines:
        assert before <= datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) \
            <= datetime.datetime.now(datetime.timezone.utc)
    pull(cache, things[0])
    cache.stop()
    assert listed(cache)[0] == lines
    cache.start()
    pull(cache, things[1])


def test_a_tag_that_moved_is_listed_once_and_one_whose_manifest_is_gone_is_not(new_cache, origin):
    cache = new_cache(origin, gc={"interval": "200ms", "manifests": {"maxUnused": "2s"}})
    old = origin.manifest("team/app", "latest", b'{"schemaVersion":2,"old":1}')
    pull(cache, old)
    new = origin.manifest("team/app", "latest", b'{"schemaVersion":2,"new":1}')
    pull(cache, new)
    assert [line[1] for line in listed(cache)[0]] == [new.digest]
    wait_gone(cache, new)
    wait_until(lambda: listed(cache)[0] == [], "nothing is listed")


def test_hundreds_are_listed_in_order(new_cache, origin):
    cache = new_cache(origin)
    tags = [f"build-{n}" for n in range(200)]
    for tag in tags:
        pull(cache, origin.manifest("team/app", tag, b'{"schemaVersion":2}'))
    assert [line[0].rpartition(":")[2] for line in listed(cache)[0]] == sorted(tags)


def test_what_cannot_be_listed_is_said(cache):
    cache.stop()
    damage_garbage(cache.data / "index")
    lines, said = listed(cache, 3)
    assert lines == [] and "cannot be read" in said
    (cache.data / "index" / "data.mdb").unlink()
    assert "No such file" in listed(cache, 3)[1]
    assert not (cache.data / "index" / "data.mdb").exists()
