"""Clients that say to the cache itself who they are: users with passwords, and certificates."""
import concurrent.futures
import http.client
import os
import re
import socket
import ssl
import subprocess
import time

import pytest
from client import Closed, Connection
from harness import BINARY, noise, put_file, wait_until, yaml
from script import basic
from test_reload import hup

DATA = noise(50_000, 97)
ALICE, BOB = ("alice", "wonder-land"), ("bob", "b\u00fcilder: 2%")
AS_ALICE, AS_BOB = [("Authorization", basic(*ALICE))], [("Authorization", basic(*BOB))]
WRONG = {
    "nothing": [],
    "another password": [("Authorization", basic("alice", "wonder-lanD"))],
    "no password": [("Authorization", basic("alice", ""))],
    "an unknown user": [("Authorization", basic("carol", "wonder-land"))],
    "another's password": [("Authorization", basic("bob", "wonder-land"))],
    "a token": [("Authorization", "Bearer wonder-land")],
    "no base64": [("Authorization", "Basic alice:wonder-land")],
    "no colon": [("Authorization", "Basic YWxpY2U=")],
    "a tail": [("Authorization", basic(*ALICE) + "=")],
    "a long password": [("Authorization", basic("alice", "x" * 20000))],
    "a control character": [("Authorization", basic("alice\n", "wonder-land"))],
}


def hashed(user, password, *flags):
    done = subprocess.run(["htpasswd", "-nbB", *flags, user, password], capture_output=True,
                          text=True, check=True)
    return done.stdout.strip()


def sha512(user, password):
    done = subprocess.run(["openssl", "passwd", "-6", password], capture_output=True, text=True,
                          check=True)
    return f"{user}:{done.stdout.strip()}"


def write_users(path, *lines, mode=0o640):
    return put_file(path, "# who may pull\n\n" + "".join(f"{line}\n" for line in lines), mode)


@pytest.fixture
def users(tmp_path):
    return write_users(tmp_path / "users", hashed(*ALICE), sha512(*BOB))


@pytest.fixture
def cache(new_cache, origin, users):
    auth = {"clients": "password", "htpasswd": str(users), "realm": 'the "cache"'}
    return new_cache(origin, server={"auth": auth})


def test_two_users_pull_and_their_passwords_stay_here(cache, origin):
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    for who in (AS_ALICE, AS_BOB, AS_ALICE):
        assert cache.get("/v2/", who).status == 200
        assert cache.get(manifest.tag_target, who).body == manifest.data
        assert cache.fetch(blobs[1], who).body == DATA
        assert cache.get("/v2/team/app/tags/list", who).status == 404  # the origin's word
    assert origin.entries() and len(origin.fetches(blobs[1])) == 1
    assert [e.header("Authorization") for e in origin.entries() if e.header("Authorization")] == []
    wait_until(lambda: {a["user"] for a in cache.access()} == {"alice", "bob"}, "both are logged")


@pytest.mark.parametrize("who", WRONG.values(), ids=WRONG.keys())
def test_a_stranger_is_401_and_learns_nothing(cache, origin, who):
    manifest, blobs = origin.image("team/app", "v1", [DATA])
    cache.fetch(blobs[1], AS_ALICE)
    before = len(origin.entries())
    answers = []
    for method, target in (("GET", "/v2/"), ("GET", blobs[1].target), ("HEAD", blobs[1].target),
                           ("GET", manifest.tag_target), ("GET", "/v2/no/such/manifests/v1"),
                           ("GET", "/elsewhere"), ("GET", "/v2/%zz/../x"), ("DELETE", "/v2/x")):
        answer = cache.request(method, target, who)
        assert answer.status == 401, (method, target)
        assert answer.header("WWW-Authenticate") == 'Basic realm="the \\"cache\\""'
        assert answer.header("Docker-Content-Digest") is None
        if method != "HEAD":
            assert answer.error_code() == "UNAUTHORIZED"
            answers.append(answer.body)
    assert len(set(answers)) == 1
    assert len(origin.entries()) == before
    assert not [a for a in cache.access() if a["status"] == "401" and "user" in a]


def test_a_push_by_a_stranger_is_refused_before_its_body(cache, origin):
    answer = cache.request("PUT", "/v2/team/app/blobs/uploads/u0", [], b"x" * 100_000)
    assert answer.status == 401 and origin.entries() == []


def test_passwords_are_in_no_log_and_no_file(cache, origin):
    blob = origin.blob("team/app", DATA)
    for who in (AS_ALICE, AS_BOB, WRONG["another password"]):
        cache.get(blob.target, who)
    cache.stop()
    for path in [cache.log_path, *(p for p in cache.data.rglob("*") if p.is_file())]:
        data = path.read_bytes().lower()
        for secret in (b"wonder-land", basic(*ALICE).encode()[10:].lower(), b"$2y$", b"$6$"):
            assert secret not in data, (path, secret)


def test_the_file_is_read_again_by_hup(cache, origin, users):
    blob = origin.blob("team/app", DATA)
    cache.fetch(blob, AS_ALICE)
    write_users(users, hashed("alice", "another"), hashed("carol", "new"))
    cache.fetch(blob, AS_ALICE)  # not before
    hup(cache)
    assert cache.get(blob.target, AS_ALICE).status == 401
    assert cache.get(blob.target, AS_BOB).status == 401
    for name, password in (("alice", "another"), ("carol", "new")):
        cache.fetch(blob, [("Authorization", basic(name, password))])


BAD_FILES = {
    "others may read it": ([hashed(*ALICE)], 0o644, "mode 0644"),
    "others may write it": ([hashed(*ALICE)], 0o602, "mode 0602"),
    "the group may write it": ([hashed(*ALICE)], 0o660, "mode 0660"),
    "a password as it is": (["alice:wonder-land"], 0o600, ":3: the hash is none of bcrypt"),
    "MD5": (["alice:$apr1$x$0123456789012345678901"], 0o600, ":3: the hash is none of bcrypt"),
    "SHA-1": (["alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="], 0o600, ":3: the hash is none"),
    "a torn hash": (["alice:$2y$05$x"], 0o600, ":3: the hash is none of bcrypt"),
    "no colon": (["alice"], 0o600, ":3: not of the form name:hash"),
    "no name": ([":" + hashed(*ALICE)], 0o600, ":3: the name is empty"),
    "a user twice": ([hashed(*ALICE), hashed(*ALICE)], 0o600, "the user alice stands twice"),
    "nobody": ([], 0o600, "no user in it"),
}


@pytest.mark.parametrize("lines,mode,why", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_changes_nothing_and_a_start_fails(cache, origin, users, lines, mode, why):
    blob = origin.blob("team/app", DATA)
    write_users(users, *lines, mode=mode)
    hup(cache, "the configuration is not changed")
    assert why in cache.log()
    cache.fetch(blob, AS_ALICE)
    assert cache.get(blob.target).status == 401
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2 and why in done.stderr


MISTAKES = {
    "no file": ({"auth": {"clients": "password"}}, "server.auth.htpasswd"),
    "no question": ({"auth": {"clients": "certificate"}}, "server.tls.clientAuth"),
    "no CA": ({"tls": {"clientAuth": "require"}}, "server.tls.clientCaPath"),
    "no TLS": ({"tls": {"clientAuth": "request", "clientCaPath": "/x"}}, "server.tls.certPath"),
    "silence": ({"registries": {"corp": {"credentials": "/x"}}}, "server.auth.clients"),
    "the file is not there": ({"auth": {"clients": "password", "htpasswd": "/nowhere/users"}},
                              "/nowhere/users: No such file"),
}


@pytest.mark.parametrize("server,word", MISTAKES.values(), ids=MISTAKES.keys())
def test_what_does_not_belong_together_is_said(new_cache, origin, server, word):
    cache = new_cache(origin, start=False, server={**server, "address": "127.0.0.1:0"})
    cache.config_path.write_text(yaml(cache.config) + "\n")
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2 and word in done.stderr


# --- guessing ----------------------------------------------------------------------------------


def from_address(cache, source, target, who):
    """The status that a client with this address gets, and how long it took."""
    connection = http.client.HTTPConnection(*cache.address, timeout=60, source_address=(source, 0))
    began = time.monotonic()
    connection.request("GET", target, headers=dict(who))
    status = connection.getresponse().status
    connection.close()
    return status, time.monotonic() - began


@pytest.fixture
def costly(new_cache, origin, users):
    """One listener, whose thread takes a good part of a second for a password."""
    write_users(users, hashed(*ALICE, "-C", "12"), hashed(*BOB, "-C", "12"))
    return new_cache(origin, server={"listeners": 1,
                                     "auth": {"clients": "password", "htpasswd": str(users)}})


def test_a_storm_of_wrong_passwords_stops_neither_known_nor_new_users(costly, origin):
    blob = origin.blob("team/app", DATA)
    costly.fetch(blob, AS_ALICE)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        guesses = [pool.submit(from_address, costly, "127.0.0.66", blob.target,
                               [("Authorization", basic("alice", f"guess {n}"))])
                   for n in range(200)]
        wait_until(lambda: sum(g.done() for g in guesses) > 100, "guesses are turned away")
        known = [from_address(costly, "127.0.0.1", blob.target, AS_ALICE)[0] for _ in range(20)]
        still = sum(not g.done() for g in guesses)
        new, took = from_address(costly, "127.0.0.2", blob.target, AS_BOB)
        behind = sum(not g.done() for g in guesses)
        statuses = [g.result()[0] for g in guesses]
    assert known == [200] * 20 and still > 5  # the loop was free while they waited
    assert new == 200 and behind > 3, (new, took, behind)  # and bob did not wait for all of them
    assert set(statuses) == {401, 503} and statuses.count(401) <= 40


def test_a_herd_with_one_password_is_one_trial(costly, origin):
    blob = origin.blob("team/app", DATA)
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        began = time.monotonic()
        right = [pool.submit(from_address, costly, "127.0.0.1", blob.target, AS_ALICE)
                 for _ in range(30)]
        wrong = [pool.submit(from_address, costly, "127.0.0.1", blob.target,
                             WRONG["another password"]) for _ in range(30)]
        assert {r.result()[0] for r in right} == {200}
        assert {r.result()[0] for r in wrong} == {401}
        took = time.monotonic() - began
    again = time.monotonic()
    assert from_address(costly, "127.0.0.1", blob.target, WRONG["another password"])[0] == 401
    assert from_address(costly, "127.0.0.1", blob.target, AS_ALICE)[0] == 200
    assert time.monotonic() - again < max(took, 0.2)


def test_clients_that_leave_while_their_password_is_tried_harm_nobody(costly, origin):
    blob = origin.blob("team/app", DATA)
    for n in range(12):
        with costly.connect() as c:
            c.ask("GET", blob.target, [("Authorization", basic("alice", f"guess {n}"))])
    costly.fetch(blob, AS_ALICE)
    assert len(costly.children()) == 2 and all(os.path.exists(f"/proc/{p}")
                                               for p in costly.children())


# --- certificates ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """CAs `good` and `other`, each with a certificate of a client."""
    folder = tmp_path_factory.mktemp("clients")
    folder.chmod(0o755)

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    for ca in ("good", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}",
                "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN=client of {ca}",
                "-keyout", f"{ca}-client.key", "-out", f"{ca}-client.csr")
        openssl("x509", "-req", "-in", f"{ca}-client.csr", "-CA", f"{ca}.crt", "-CAkey",
                f"{ca}.key", "-CAcreateserial", "-days", "2", "-out", f"{ca}-client.crt")
    (folder / "good.crt").chmod(0o644)
    return folder


def tls_config(pki, clients, asked):
    return {"certPath": pki.cert, "keyPath": pki.key, "clientAuth": asked,
            "clientCaPath": str(clients / "good.crt")}


def context_of(pki, clients, who, version=None):
    context = pki.client_context()
    if version:
        context.minimum_version = context.maximum_version = version
    if who:
        context.load_cert_chain(clients / f"{who}-client.crt", clients / f"{who}-client.key")
    return context


def pull(cache, blob, context):
    with Connection(cache.address, tls=context) as c:
        return c.request("GET", blob.target).status


TURNED_AWAY = (ssl.SSLError, ConnectionError, Closed)
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())
def test_only_a_client_with_the_right_certificate_has_a_connection(new_cache, origin, pki, clients,
                                                                   version):
    cache = new_cache(origin, server={"tls": tls_config(pki, clients, "require"),
                                      "auth": {"clients": "certificate"}})
    blob = origin.blob("team/app", DATA)
    for who in (None, "other"):
        with pytest.raises(TURNED_AWAY):
            pull(cache, blob, context_of(pki, clients, who, version))
    assert origin.entries() == []
    assert pull(cache, blob, context_of(pki, clients, "good", version)) == 200


def test_who_is_asked_and_has_no_certificate_is_403_and_learns_nothing(new_cache, origin, pki,
                                                                       clients):
    cache = new_cache(origin, server={"tls": tls_config(pki, clients, "request"),
                                      "auth": {"clients": "certificate"}})
    blob = origin.blob("team/app", DATA)
    for target in (blob.target, "/v2/", "/elsewhere"):
        with Connection(cache.address, tls=context_of(pki, clients, None)) as c:
            answer = c.request("GET", target)
        assert (answer.status, answer.error_code()) == (403, "DENIED")
    assert origin.entries() == []
    with pytest.raises(TURNED_AWAY):
        pull(cache, blob, context_of(pki, clients, "other"))
    assert pull(cache, blob, context_of(pki, clients, "good")) == 200


def test_a_resumed_session_is_still_that_client_s_until_the_ca_changes(new_cache, origin, pki,
                                                                      clients):
    cache = new_cache(origin, server={"tls": tls_config(pki, clients, "require"),
                                      "auth": {"clients": "certificate"}})
    blob = origin.blob("team/app", DATA)
    context = context_of(pki, clients, "good", ssl.TLSVersion.TLSv1_2)

    def with_session(session):
        with socket.create_connection(cache.address, 20) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as s:
                s.sendall(f"GET {blob.target} HTTP/1.1\r\nHost: x\r\n"
                          "Connection: close\r\n\r\n".encode())
                head = s.recv(15)
                while s.recv(65536):
                    pass
                return head, s.session_reused, s.session

    _, _, session = with_session(None)
    head, reused, _ = with_session(session)
    assert reused and head.startswith(b"HTTP/1.1 200")
    cache.config["server"]["tls"]["clientCaPath"] = str(clients / "other.crt")
    cache.config_path.write_text(yaml(cache.config) + "\n")
    hup(cache)
    with pytest.raises(TURNED_AWAY):
        head, reused, _ = with_session(session)
        assert not head, re.search(rb"200", head)


def test_asking_for_certificates_alone_turns_nobody_away(new_cache, origin, pki, clients):
    cache = new_cache(origin, server={"tls": tls_config(pki, clients, "request")})
    blob = origin.blob("team/app", DATA)
    assert pull(cache, blob, context_of(pki, clients, None)) == 200
    assert pull(cache, blob, context_of(pki, clients, "good")) == 200
