"""TLS sessions are resumed at any listener, after a reload and after an upgrade, as long as a key of
their ticket lives."""
import os
import re
import signal
import ssl
import subprocess

import pytest
from client import SLOW
from harness import wait_until
from test_reload import change, hup, upgrade

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                                   ids=["1.2", "1.3"])


@pytest.fixture
def new_tls_cache(new_cache, origin, pki):
    def make(listeners=2, **tls):
        server = {"listeners": listeners,
                  "tls": {"certPath": pki.cert, "keyPath": pki.key, **tls}}
        return new_cache(origin, server=server)
    return make


def context_of(pki, version):
    context = pki.client_context()
    context.minimum_version = context.maximum_version = version
    return context


def use(connection):
    """One request: with TLS 1.3 tickets come after the handshake. The session to resume with."""
    assert connection.request("GET", "/v2/").status == 200
    return connection.socket.session


def begin(cache, context):
    with cache.connect(tls=context) as c:
        assert not c.socket.session_reused
        return use(c)


def resumes(cache, context, session):
    with cache.connect(tls=context, session=session) as c:
        use(c)
        return c.socket.session_reused


@VERSIONS
def test_a_session_is_resumed_at_each_of_four_listeners(new_tls_cache, pki, version):
    cache, context = new_tls_cache(listeners=4), context_of(pki, version)
    with cache.connect_to(0, tls=context) as c:
        session = use(c)
    for listener in range(4):
        with cache.connect_to(listener, tls=context, session=session) as c:
            use(c)
            assert c.socket.session_reused, f"listener {listener}"


@VERSIONS
def test_a_session_is_resumed_after_a_reload_an_upgrade_and_a_crash(new_tls_cache, pki, version):
    cache, context = new_tls_cache(), context_of(pki, version)
    session = begin(cache, context)
    change(cache, listeners=3)
    hup(cache)
    assert resumes(cache, context, session)
    upgrade(cache)
    assert resumes(cache, context, session)
    for pid in list(cache.listeners().values()):
        os.kill(pid, signal.SIGKILL)
        cache.wait_replaced(pid)
    assert resumes(cache, context, session)


def s_client(cache, pki, version, *args):
    """What OpenSSL's own client says of one request."""
    flag = "-tls1_2" if version is ssl.TLSVersion.TLSv1_2 else "-tls1_3"
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{cache.port}", flag,
                           "-CAfile", pki.ca, "-ign_eof", *args], capture_output=True, timeout=20 * SLOW,
                          input=b"GET /v2/ HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
    out = done.stdout.decode(errors="replace")
    assert "200 OK" in out, out + done.stderr.decode(errors="replace")
    return out


def key_of(path):
    """The name of the key that a saved session's ticket was sealed with: its first 16 bytes."""
    out = subprocess.run(["openssl", "sess_id", "-in", path, "-text", "-noout"], check=True,
                         capture_output=True, text=True).stdout
    return re.search(r"TLS session ticket:\s+0000 - ((?:[0-9a-f]{2}[ -]){16})", out)[1]


@VERSIONS
def test_a_session_is_resumed_after_a_rotation(new_tls_cache, pki, version, tmp_path):
    """Its ticket was sealed with a key that makes no tickets any more."""
    cache, old, new = new_tls_cache(ticketRotation="2s"), tmp_path / "old", tmp_path / "new"
    s_client(cache, pki, version, "-sess_out", str(old))

    def rotated():
        s_client(cache, pki, version, "-sess_out", str(new))
        return key_of(new) != key_of(old)
    wait_until(rotated, "tickets are sealed with another key")
    assert "\nReused, " in s_client(cache, pki, version, "-sess_in", str(old), "-sess_out", str(new))
    assert key_of(new) != key_of(old), "the client was given no new ticket"


@VERSIONS
def test_a_ticket_is_dead_after_two_rotations(new_tls_cache, pki, version):
    """A session that is used goes on with TLS 1.3, whose tickets are made anew each time."""
    cache, context = new_tls_cache(ticketRotation="1s"), context_of(pki, version)
    first = newest = begin(cache, context)

    def is_dead():
        nonlocal newest
        if version is ssl.TLSVersion.TLSv1_3:
            with cache.connect(tls=context, session=newest) as c:
                newest = use(c)
                assert c.socket.session_reused
        return not resumes(cache, context, first)
    wait_until(is_dead, "the first ticket is dead", 20)


def test_a_restart_has_other_keys(new_tls_cache, pki):
    cache, context = new_tls_cache(), context_of(pki, ssl.TLSVersion.TLSv1_3)
    session = begin(cache, context)
    cache.restart()
    assert not resumes(cache, context, session)
    assert resumes(cache, context, begin(cache, context))
