"""The tools of these tests against each other and against a real client: an origin that is wrong,
or a client that misreads, would prove nothing about the cache."""
import json
import shutil
import subprocess

import pytest
from client import MIB, Closed, Connection
from harness import noise, yaml
from oci import Layout, folders
from script import OCI_MANIFEST, Access, Answer, Gate, basic, digest_of

DATA = noise(200_000, 5)


def get(origin, target, headers=(), method="GET"):
    with Connection(("127.0.0.1", origin.port)) as c:
        return c.request(method, target, headers)


def test_the_origin_serves_blobs_with_ranges(origin):
    blob = origin.blob("a/b", DATA)
    assert get(origin, blob.target).body == DATA
    part = get(origin, blob.target, [("Range", "bytes=10-19")])
    assert (part.status, part.body, part.header("Content-Range")) == (206, DATA[10:20],
                                                                      f"bytes 10-19/{len(DATA)}")
    assert get(origin, blob.target, [("Range", "bytes=-7")]).body == DATA[-7:]
    assert get(origin, blob.target, [("Range", "bytes=200000-")]).status == 416
    other = get(origin, blob.target, [("Range", "bytes=0-1"), ("If-Range", '"other"')])
    assert other.status == 200 and other.complete
    assert [e.sent for e in origin.gets(blob)] == [len(DATA), 10, 7, 0, len(DATA)]


@pytest.mark.parametrize("answer, complete, length", [
    (Answer(), True, len(DATA)), (Answer(at=1000, then="fin"), False, 1000),
    (Answer(at=1000, then="reset"), False, None), (Answer(framing="chunked"), True, len(DATA)),
    (Answer(framing="chunked", at=1000, then="fin"), False, 1000),
    (Answer(framing="close"), True, len(DATA)),
    (Answer(framing="close", at=1000, then="fin"), True, 1000), (Answer(body=b"x"), True, 1),
    (Answer(extra=b"x"), True, len(DATA))])
def test_the_client_sees_what_the_script_says(origin, answer, complete, length):
    blob = origin.blob("a/b", DATA)
    blob.answer = answer
    got = get(origin, blob.target)
    assert got.complete == complete
    assert length is None or len(got.body) == length


def test_scripts_for_one_request_come_first(origin):
    blob = origin.blob("a/b", DATA)
    blob.once.extend([Answer(status=500), Answer(before_head="fin")])
    assert get(origin, blob.target).status == 500
    with pytest.raises(Closed):
        get(origin, blob.target)
    assert get(origin, blob.target).status == 200


def test_a_gate_holds_the_body(origin):
    blob = origin.blob("a/b", DATA)
    blob.answer = Answer(gate=Gate(1000))
    with Connection(("127.0.0.1", origin.port)) as c:
        c.ask("GET", blob.target)
        answer = c.receive_head()
        c.receive_body(answer, limit=1000)
        c.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            c.socket.recv(1)
        c.socket.settimeout(10)
        blob.answer.gate.open()
        c.receive_body(answer)
        assert answer.body == DATA


def test_access_is_by_credential_and_repository(new_origin):
    alice, bob = basic("alice", "x"), basic("bob", "y")
    origin = new_origin(access=Access({alice: ["a/b"], bob: []}))
    blob = origin.blob("a/b", DATA)
    assert get(origin, blob.target).status == 401
    assert get(origin, blob.target, [("Authorization", bob)]).status == 403
    assert get(origin, blob.target, [("Authorization", alice)]).body == DATA
    assert get(origin, "/v2/", [("Authorization", bob)]).status == 200


def test_uploads_are_stored(origin):
    with Connection(("127.0.0.1", origin.port)) as c:
        location = c.request("POST", "/v2/a/b/blobs/uploads/", body=b"").header("Location")
        target = location.removeprefix(origin.url)
        c.send(c.head("PATCH", target,
                      [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\n0\r\n\r\n")
        target = c.receive().header("Location").removeprefix(origin.url)
        assert c.request("PUT", f"{target}&digest={digest_of(b'hello')}", body=b"").status == 201
        assert c.request("GET", f"/v2/a/b/blobs/{digest_of(b'hello')}").body == b"hello"


def test_curl_agrees(origin):
    blob = origin.blob("a/b", DATA)
    for answer in (Answer(), Answer(framing="chunked"), Answer(framing="close")):
        blob.answer = answer
        done = subprocess.run(["curl", "-sSf", origin.url + blob.target], capture_output=True,
                              check=True)
        assert done.stdout == DATA
    blob.answer = Answer(at=100, then="fin")
    assert subprocess.run(["curl", "-sSf", origin.url + blob.target],
                          capture_output=True).returncode == 18


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is needed")
def test_skopeo_pulls_from_the_origin_and_pushes_to_it(origin, tmp_path):
    image = Layout(tmp_path / "layout", folders(tmp_path / "rootfs", [MIB, 1000]))
    to = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false",
          "--src-tls-verify=false"]
    subprocess.run([*to, image.reference, f"docker://{origin.host}/a/b:v1"], check=True,
                   capture_output=True)
    subprocess.run([*to, f"docker://{origin.host}/a/b:v1", f"dir:{tmp_path}/copy"], check=True,
                   capture_output=True)
    image.check_copy(tmp_path / "copy")
    assert origin.tags["a/b"]["v1"].media_type == OCI_MANIFEST


def test_configurations_are_written_as_yaml():
    text = yaml({"a": "x", "server": {"rules": [{"regex": r"^(.+)\.x$"}], "tls": {}}, "n": 3,
                 "b": True})
    assert text.splitlines() == ['a: "x"', "server:", "  rules:", '  - {"regex": "^(.+)\\\\.x$"}',
                                 "  tls: {}",
                                 "n: 3", "b: true"]
    assert json.loads(text.splitlines()[3].partition("- ")[2])["regex"] == r"^(.+)\.x$"
