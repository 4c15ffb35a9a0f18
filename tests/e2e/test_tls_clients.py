"""The cache speaks TLS to its clients."""
import ssl

import pytest
from client import MIB, Connection
from harness import noise


@pytest.fixture
def cache(new_cache, origin, pki):
    return new_cache(origin, server={"tls": {"certPath": pki.cert, "keyPath": pki.key}})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["1.2", "1.3"])
def test_a_blob_comes_whole_cold_and_hot(cache, origin, pki, version):
    blob = origin.blob("team/app", noise(3 * MIB + 1))
    context = pki.client_context()
    context.minimum_version = context.maximum_version = version
    with Connection(cache.address, tls=context) as c:
        for _ in range(3):
            answer = c.request("GET", blob.target)
            assert (answer.status, answer.complete, answer.body == blob.data) == (200, True, True)
        assert c.request("GET", blob.target, [("Range", "bytes=-5")]).body == blob.data[-5:]
    assert len(origin.fetches(blob)) == 1
    cache.check_objects()


def test_http_2_is_not_offered(cache, pki):
    """crane and oras take it where they can have it; it is not spoken here."""
    context = pki.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Connection(cache.address, tls=context) as c:
        assert c.socket.selected_alpn_protocol() in (None, "http/1.1")
        assert c.request("GET", "/v2/").status == 200


def test_a_location_on_the_upstream_becomes_https(cache, pki):
    with Connection(cache.address, tls=pki.client_context()) as c:
        answer = c.request("POST", "/v2/team/app/blobs/uploads/", body=b"")
    assert answer.status == 202
    assert answer.header("Location").startswith(f"https://127.0.0.1:{cache.port}/v2/team/app/")


def test_plain_http_on_a_tls_port_harms_nobody(cache, origin, pki):
    blob = origin.blob("team/app", noise(1000))
    with Connection(cache.address) as c:
        c.send(b"GET /v2/ HTTP/1.1\r\nHost: cache\r\n\r\n")
        assert c.closed_by_peer()
    with Connection(cache.address, tls=pki.client_context()) as c:
        assert c.request("GET", blob.target).body == blob.data
