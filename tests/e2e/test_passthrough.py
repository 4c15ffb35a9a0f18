"""What is not a blob or manifest to read: lists, tokens, pushes. Streamed through, never kept."""
import json
import os

import pytest
from client import KIB, MIB, Closed
from harness import noise, rss, wait_until
from script import OCI_MANIFEST, Access, basic, digest_of

JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize("absolute", [True, False])
def test_tags_list_and_its_link_stay_on_the_cache(cache, origin, absolute):
    page = b'{"name":"team/app","tags":["a","b"]}'
    base = origin.url if absolute else ""
    origin.pages["/v2/team/app/tags/list"] = (200, (JSON, (
        "Link", f'<{base}/v2/team/app/tags/list?last=b&n=2>; rel="next"')), page)
    answer = cache.get("/v2/team/app/tags/list?n=2")
    assert (answer.status, answer.body) == (200, page)
    assert origin.gets()[-1].target == "/v2/team/app/tags/list?n=2"
    link = answer.header("Link")
    assert str(origin.port) not in link and link.endswith('; rel="next"')
    follow = link[1:link.index(">")]
    if follow.startswith("http://"):
        follow = follow.removeprefix(f"http://127.0.0.1:{cache.port}")
    assert follow == "/v2/team/app/tags/list?last=b&n=2"
    assert cache.get(follow).body == page


def test_the_catalog_passes(cache, origin):
    origin.pages["/v2/_catalog"] = (200, (JSON,), b'{"repositories":["team/app"]}')
    assert cache.get("/v2/_catalog?n=100").json() == {"repositories": ["team/app"]}
    assert origin.gets()[-1].target == "/v2/_catalog?n=100"


def test_referrers_that_an_upstream_lacks_are_404_with_its_body(cache, origin):
    answer = cache.get(f"/v2/team/app/referrers/{digest_of(b'x')}")
    assert answer.status == 404
    assert answer.json()["errors"][0]["detail"] == {"port": origin.port}


def test_referrers_pass_with_their_headers(cache, origin):
    index = b'{"schemaVersion":2,"manifests":[]}'
    target = f"/v2/team/app/referrers/{digest_of(b'x')}"
    origin.pages[target] = (200, (("Content-Type", "application/vnd.oci.image.index.v1+json"),
                                  ("OCI-Filters-Applied", "artifactType")), index)
    answer = cache.get(target + "?artifactType=a%2Fb")
    assert answer.body == index
    assert answer.header("Content-Type") == "application/vnd.oci.image.index.v1+json"
    assert answer.header("OCI-Filters-Applied") == "artifactType"
    assert origin.gets()[-1].target == target + "?artifactType=a%2Fb"


def test_nothing_that_passes_is_kept(cache, origin):
    for n in range(3):
        body = json.dumps({"tags": [str(n)]}).encode()
        origin.pages["/v2/team/app/tags/list"] = (200, (JSON,), body)
        assert cache.get("/v2/team/app/tags/list").body == body
    assert cache.objects() == []


def test_a_large_list_passes_whole(cache, origin):
    body = json.dumps({"tags": [f"v{i}" for i in range(300_000)]}).encode()
    origin.pages["/v2/team/app/tags/list"] = (200, (JSON,), body)
    answer = cache.get("/v2/team/app/tags/list")
    assert answer.complete and answer.body == body


def test_authorization_passes_to_the_upstream_and_refusals_come_back(new_origin, new_cache):
    alice = basic("alice", "secret")
    origin = new_origin(access=Access({alice: ["*"]}, challenge="bearer"))
    cache = new_cache(origin)
    answer = cache.get("/v2/_catalog")
    assert answer.status == 401 and len(answer.values("WWW-Authenticate")) == 2
    assert answer.json()["errors"][0]["detail"] == {"port": origin.port}
    assert cache.get("/v2/_catalog", [("Authorization", alice)]).status == 404
    assert origin.gets()[-1].header("Authorization") == alice


def test_what_a_balancer_says_of_the_client_is_not_told_to_the_registry(cache, origin):
    """It would make its URLs of it, and the client's address is none of its business."""
    said = [("X-Forwarded-Proto", "https"), ("x-forwarded-host", "cache.test"), ("X-Forwarded-For", "10.1.2.3"),
            ("X-Forwarded-Port", "443"), ("Forwarded", "for=10.1.2.3;proto=https"), ("X-Real-IP", "10.1.2.3")]
    origin.pages["/v2/team/app/tags/list"] = (200, (JSON,), b"{}")
    for method, target, body in (("GET", "/v2/", None), ("GET", "/v2/team/app/tags/list", None),
                                 ("POST", "/v2/team/app/blobs/uploads/", b"")):
        assert cache.request(method, target, [*said, ("X-Own", "stays")], body).status in (200, 202)
        sent = origin.entries()[-1]
        assert sent.header("X-Own") == "stays"
        assert [name for name, _ in said if sent.header(name) is not None] == []


def test_a_token_is_asked_of_the_upstream_by_get_and_by_form(cache, origin):
    token = b'{"token":"abc","expires_in":60}'
    origin.pages["/token"] = (200, (JSON,), token)
    target = "/token?service=origin&scope=repository%3Ateam%2Fapp%3Apull"
    answer = cache.get(target, [("Authorization", basic("alice", "secret"))])
    assert (answer.status, answer.body) == (200, token)
    assert origin.gets()[-1].target == target
    assert origin.gets()[-1].header("Authorization") == basic("alice", "secret")
    form = b"grant_type=refresh_token&service=origin&refresh_token=x"
    kind = "application/x-www-form-urlencoded"
    answer = cache.request("POST", "/token", [("Content-Type", kind)], form)
    assert answer.body == form  # the origin gives back what a POST that it does not know brought
    assert origin.entries(method="POST")[-1].header("Content-Type") == kind
    assert cache.objects() == []


# --- pushes ------------------------------------------------------------------------------------


def local(cache, location):
    """A Location as the cache gives it, on itself, as path and query."""
    if location.startswith("/"):
        return location
    prefix = f"http://127.0.0.1:{cache.port}/"
    assert location.startswith(prefix), location
    return location[len(prefix) - 1:]


def begin_upload(cache, connection):
    answer = connection.request("POST", "/v2/team/app/blobs/uploads/", body=b"")
    assert answer.status == 202 and answer.header("Docker-Upload-UUID")
    return local(cache, answer.header("Location"))


def send_chunked(connection, target, data, step=256 * KIB, watch=lambda: None):
    connection.send(connection.head("PATCH", target, [("Transfer-Encoding", "chunked"),
                                                      ("Content-Type",
                                                       "application/octet-stream")]))
    for at in range(0, len(data), step):
        part = data[at:at + step]
        connection.send(b"%x\r\n" % len(part) + part + b"\r\n")
        watch()
    connection.send(b"0\r\n\r\n")


def send_counted(connection, target, data, step=256 * KIB, watch=lambda: None):
    connection.send(connection.head("PATCH", target, [("Content-Type", "application/octet-stream")],
                                    length=len(data)))
    for at in range(0, len(data), step):
        connection.send(data[at:at + step])
        watch()


@pytest.mark.parametrize("send", [send_chunked, send_counted], ids=["chunked", "by-length"])
def test_a_push_of_32_mib_is_streamed_in_bounded_memory(new_cache, origin, send):
    quarantine = os.environ.get("ASAN_OPTIONS",
                                "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    cache = new_cache(origin, server={"listeners": 1}, environment={"ASAN_OPTIONS": quarantine})
    data = noise(32 * MIB)
    pid = cache.listeners()[0]
    with cache.connect() as c:
        target = begin_upload(cache, c)
        before, peak = rss(pid), [0]

        def watch():
            peak[0] = max(peak[0], rss(pid))

        send(c, target, data, watch=watch)
        answer = c.receive()
        assert answer.status == 202
        target = local(cache, answer.header("Location"))
        answer = c.request("PUT", f"{target}&digest={digest_of(data)}", body=b"")
        assert answer.status == 201
        assert local(cache, answer.header("Location")) == f"/v2/team/app/blobs/{digest_of(data)}"
        assert answer.header("Docker-Content-Digest") == digest_of(data)
    assert peak[0] - before < 16 * MIB, f"grown by {(peak[0] - before) / MIB:.1f} MiB"
    assert [e.received for e in origin.entries(method="PATCH")] == [len(data)]
    assert cache.get(f"/v2/team/app/blobs/{digest_of(data)}").body == data


def test_a_push_in_one_put_and_its_manifest(cache, origin):
    data, manifest = noise(100_000), b'{"schemaVersion":2}'
    with cache.connect() as c:
        target = begin_upload(cache, c)
        assert c.request("PUT", f"{target}&digest={digest_of(data)}", body=data).status == 201
        answer = c.request("PUT", "/v2/team/app/manifests/v1", [("Content-Type", OCI_MANIFEST)],
                           manifest)
        assert answer.status == 201
    assert origin.entries(method="PUT")[-1].header("Content-Type") == OCI_MANIFEST
    assert cache.get("/v2/team/app/manifests/v1", [("Accept", OCI_MANIFEST)]).body == manifest
    assert cache.head(f"/v2/team/app/blobs/{digest_of(data)}").status == 200


def test_a_push_with_expect_continue_does_not_hang(cache, origin):
    data = noise(100_000)
    with cache.connect() as c:
        target = begin_upload(cache, c)
        c.send(c.head("PATCH", target, [("Expect", "100-continue")], length=len(data)))
        while b"\r\n\r\n" not in c.pending:
            assert c._more(), "the connection ended"
        assert c.pending.startswith(b"HTTP/1.1 100 ")
        c.send(data)
        assert c.receive().status == 202
    assert origin.entries(method="PATCH")[-1].received == len(data)


def test_a_push_whose_client_leaves_is_not_completed(cache, origin):
    with cache.connect() as c:
        target = begin_upload(cache, c)
        c.send(c.head("PATCH", target, length=MIB) + bytes(1000))
    assert cache.get("/v2/").status == 200
    wait_until(lambda: all(e.received < MIB for e in origin.entries(method="PATCH")),
               "the upload is broken off")


def test_a_refused_push_is_relayed(new_origin, new_cache):
    origin = new_origin(access=None)
    cache = new_cache(origin)
    origin.limited = 5
    answer = cache.request("POST", "/v2/team/app/blobs/uploads/", body=b"")
    assert (answer.status, answer.header("Retry-After")) == (429, "5")


def test_a_bad_chunk_ends_the_push(cache, origin):
    with cache.connect() as c:
        target = begin_upload(cache, c)
        c.send(c.head("PATCH", target,
                      [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\nzz\r\n")
        try:
            assert c.receive().status == 400
        except Closed:
            pass
        assert c.closed_by_peer()
    assert all(e.received == 0 for e in origin.entries(method="PATCH"))


def test_delete_passes(cache, origin):
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)
    assert cache.request("DELETE", blob.target).status == 202
    assert origin.entries(method="DELETE")[0].target == blob.target
    assert cache.get(blob.target).status == 404
    assert cache.request("DELETE", blob.target).status == 404


def test_a_read_only_cache_refuses_writes(new_cache, origin):
    cache = new_cache(origin, server={"readOnly": True})
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = cache.request(method, "/v2/team/app/blobs/uploads/", body=b"x")
        assert answer.status == 405 and answer.error_code() == "UNSUPPORTED"
        assert "GET" in answer.header("Allow")
    assert origin.entries() == []
    blob = origin.blob("team/app", noise(1000))
    cache.fetch(blob)


def test_a_connection_serves_on_after_a_push(cache, origin):
    blob = origin.blob("team/app", noise(1000))
    with cache.connect() as c:
        for _ in range(3):
            begin_upload(cache, c)
            assert c.request("GET", blob.target).body == blob.data
