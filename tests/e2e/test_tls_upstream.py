"""Upstreams over TLS and through proxies."""
import contextlib
import select
import socket
import threading

import pytest
from client import MIB
from harness import noise
from script import Answer


def test_an_https_upstream_is_served_when_its_ca_is_configured(new_origin, new_cache, pki):
    ca, context = pki.ca, pki.server_context()
    origin = new_origin(tls=context)
    cache = new_cache(origin, server={"tls": {"caPath": ca}})
    manifest, blobs = origin.image("team/app", "v1", [noise(2 * MIB)])
    assert cache.get(manifest.tag_target, [("Accept", "*/*")]).body == manifest.data
    for blob in blobs:
        cache.fetch(blob)
        cache.fetch(blob)
        assert len(origin.fetches(blob)) == 1


def test_an_https_upstream_of_an_unknown_ca_is_502(new_origin, new_cache, pki):
    context = pki.server_context()
    origin = new_origin(tls=context)
    cache = new_cache(origin)
    blob = origin.blob("team/app", noise(1000))
    answer = cache.get(blob.target, [("Authorization", "Bearer token")])
    assert answer.status == 502 and answer.json()["errors"]
    assert origin.entries() == [] and cache.objects() == []


def test_a_certificate_of_another_name_is_502(new_origin, new_cache, pki):
    ca, context = pki.ca, pki.server_context()
    origin = new_origin(tls=context)
    backend = {"host": f"localhost:{origin.port}", "scheme": "https"}
    cache = new_cache(server={"tls": {"caPath": ca}, "defaultBackend": backend})
    assert cache.get(origin.blob("team/app", b"x").target).status == 502
    assert origin.entries() == []


def test_a_redirect_from_https_to_http_is_not_followed(new_origin, new_cache, pki):
    ca, context = pki.ca, pki.server_context()
    origin, plain = new_origin(tls=context), new_origin()
    cache = new_cache(origin, server={"tls": {"caPath": ca}})
    blob = origin.blob("team/app", noise(1000))
    plain.raw["/signed"] = blob
    blob.answer = blob.head = Answer(status=307, location=f"{plain.url}/signed")
    assert cache.get(blob.target).status == 502
    assert plain.entries() == [] and cache.objects() == []


def test_a_cut_tls_stream_without_length_is_not_complete(new_origin, new_cache, pki):
    ca, context = pki.ca, pki.server_context()
    origin = new_origin(tls=context)
    cache = new_cache(origin, server={"tls": {"caPath": ca}, "upstreamTimeout": "2s"})
    blob = origin.blob("team/app", noise(MIB))
    blob.answer = Answer(framing="close", at=MIB // 2, then="fin")
    answer = cache.get(blob.target)
    assert not (answer.status == 200 and answer.complete and answer.body != blob.data)
    assert cache.objects() == []


class Proxy:
    """A forward proxy that knows one name, registry.test, and what it was asked."""

    def __init__(self, target_port):
        self.target_port, self.asked = target_port, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.threads = threading.Thread(target=self._accept, daemon=True)
        self.threads.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.listening.accept()
                threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with contextlib.suppress(OSError), conn:
            head = b""
            while b"\r\n\r\n" not in head:
                part = conn.recv(65536)
                if not part:
                    return
                head += part
            line, rest = head.split(b"\r\n", 1)
            method, target, _ = line.decode().split(" ")
            self.asked.append((method, target))
            with socket.create_connection(("127.0.0.1", self.target_port)) as out:
                if method == "CONNECT":
                    conn.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
                else:  # one request a connection
                    path = "/" + target.split("/", 3)[3]
                    rest = rest.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                    out.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + rest)
                self._relay(conn, out)

    @staticmethod
    def _relay(a, b):
        while True:
            for s in select.select([a, b], [], [], 60)[0]:
                part = s.recv(65536)
                if not part:
                    return
                (b if s is a else a).sendall(part)

    def stop(self):
        self.listening.close()


@pytest.fixture
def proxy_to():
    made = []

    def make(origin):
        made.append(Proxy(origin.port))
        return made[-1]

    yield make
    for p in made:
        p.stop()


def environment(proxy):
    return {"http_proxy": proxy.url, "https_proxy": proxy.url, "no_proxy": "", "NO_PROXY": "",
            "all_proxy": ""}


def test_https_proxy_is_honoured(new_origin, new_cache, proxy_to, pki):
    ca, context = pki.ca, pki.server_context()
    origin = new_origin(tls=context)
    proxy = proxy_to(origin)
    cache = new_cache(environment=environment(proxy), server={
        "tls": {"caPath": ca}, "defaultBackend": {"host": "registry.test", "scheme": "https"}})
    blob = origin.blob("team/app", noise(100_000))
    cache.fetch(blob, [("Authorization", "Bearer token")])
    assert proxy.asked[0] == ("CONNECT", "registry.test:443")
    assert origin.gets()[0].header("Authorization") == "Bearer token"


def test_http_proxy_is_honoured(origin, new_cache, proxy_to):
    proxy = proxy_to(origin)
    cache = new_cache(environment=environment(proxy), server={
        "defaultBackend": {"host": "registry.test", "scheme": "http"}})
    blob = origin.blob("team/app", noise(100_000))
    cache.fetch(blob)
    assert ("GET", f"http://registry.test{blob.target}") in proxy.asked


def test_no_proxy_is_honoured(origin, new_cache, proxy_to):
    proxy = proxy_to(origin)
    cache = new_cache(origin, environment={**environment(proxy), "no_proxy": "127.0.0.1"})
    cache.fetch(origin.blob("team/app", noise(1000)))
    assert proxy.asked == []
