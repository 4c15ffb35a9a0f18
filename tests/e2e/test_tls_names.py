"""Several certificates: which one a client is shown, and what is refused of the settings of TLS."""
import os
import ssl
import subprocess

import pytest
from client import Connection
from harness import BINARY, UNPRIVILEGED, give, noise, yaml
from test_reload import change, hup


@pytest.fixture(scope="module")
def issue(tmp_path_factory, pki):
    """Makes a certificate of the tests' CA for these names: its paths, as in the configuration."""
    folder, made = tmp_path_factory.mktemp("names"), []

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    def make(*names):
        base = f"c{len(made)}"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                f"/CN={names[0]}", "-keyout", f"{base}.key", "-out", f"{base}.csr")
        (folder / "ext").write_text("subjectAltName=" + ",".join(f"DNS:{n}" for n in names) + "\n")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", pki.ca, "-CAkey",
                pki.ca.replace(".crt", ".key"), "-CAcreateserial", "-days", "2", "-extfile", "ext",
                "-out", f"{base}.crt")
        made.append(base)
        if UNPRIVILEGED:
            give(folder, UNPRIVILEGED)
        return {"certPath": f"{folder}/{base}.crt", "keyPath": f"{folder}/{base}.key"}

    return make


def shown(cache, pki, name):
    """The first DNS name of the certificate that a client sees who asks for this name."""
    context = pki.client_context()
    context.check_hostname = False
    with Connection(cache.address, tls=context, name=name) as c:
        assert c.request("GET", "/v2/").status == 200
        return next(v for k, v in c.socket.getpeercert()["subjectAltName"] if k == "DNS")


@pytest.fixture
def cache(new_cache, origin, pki, issue):
    return new_cache(origin, server={"tls": {
        "certPath": pki.cert, "keyPath": pki.key,
        "certificates": [issue("*.one.test", "one.test"), issue("b.one.test"), issue("two.test")]}})


@pytest.mark.parametrize("name, expected", [
    ("one.test", "*.one.test"),
    ("a.one.test", "*.one.test"),
    ("A.One.Test", "*.one.test"),
    ("b.one.test", "b.one.test"),           # exact before wildcard, whichever comes first
    ("x.b.one.test", "registry.test"),      # a wildcard is one label
    ("two.test", "two.test"),
    ("registry.test", "registry.test"),
    ("unknown.test", "registry.test"),      # the default
    (".one.test", "registry.test"),
    ("127.0.0.1", "registry.test"),         # no name is sent
])
def test_a_client_is_shown_the_certificate_for_the_name_it_asks_for(cache, pki, name, expected):
    if name.startswith("."):     # no client says that; OpenSSL's does
        out = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{cache.port}",
                              "-servername", name], input=b"", capture_output=True).stdout
        assert b"CN = registry.test" in out
    else:
        assert shown(cache, pki, name) == expected


def test_without_cert_path_the_first_of_the_list_is_the_default(new_cache, origin, pki, issue):
    cache = new_cache(origin, server={"tls": {"certificates": [issue("one.test"), issue("two.test")]}})
    assert [shown(cache, pki, n) for n in ("two.test", "three.test")] == ["two.test", "one.test"]


def test_certificates_are_read_again_by_hup(cache, pki, issue, origin):
    """Those that are wrong then change nothing."""
    blob = origin.blob("team/app", noise(100_000))
    tls = dict(cache.config["server"]["tls"])
    change(cache, tls={**tls, "certificates": [issue("three.test")]})
    hup(cache)
    assert [shown(cache, pki, n) for n in ("three.test", "two.test")] == ["three.test", "registry.test"]
    change(cache, tls={**tls, "certificates": [{"certPath": "/nowhere", "keyPath": "/nowhere"}]})
    hup(cache, "the configuration is not changed")
    assert "/nowhere" in cache.log()
    assert shown(cache, pki, "three.test") == "three.test"
    with Connection(cache.address, tls=pki.client_context()) as c:
        assert c.request("GET", blob.target).body == blob.data


def refused(cache, **tls):
    """What -t says of these settings."""
    cache.config["server"]["tls"] = tls
    cache.config["server"]["address"] = "127.0.0.1:0"
    cache.config_path.write_text(yaml(cache.config) + "\n")
    done = subprocess.run([BINARY, "-t", "-c", cache.config_path], capture_output=True, text=True)
    assert done.returncode == 2, done
    return done.stderr


def test_what_is_wrong_with_the_files_is_said_with_their_names(new_cache, origin, issue, tmp_path):
    cache, one, two = new_cache(origin, start=False), issue("one.test"), issue("two.test")
    mixed = {"certPath": one["certPath"], "keyPath": two["keyPath"]}
    for tls in (mixed, {**one, "certificates": [mixed]}):
        said = refused(cache, **tls)
        assert one["certPath"] in said and two["keyPath"] in said and "mismatch" in said
    open_key = tmp_path / "open.key"
    open_key.write_bytes(open(one["keyPath"], "rb").read())
    os.chmod(open_key, 0o644)
    assert f"key {open_key}: mode 0644 opens it" in refused(cache, certPath=one["certPath"],
                                                            keyPath=str(open_key))
    assert "keyPath: missing" in refused(cache, certificates=[{"certPath": "a"}])


@pytest.mark.parametrize("key, value", [("ciphers", "NONSENSE"), ("ciphersuites", "TLS_NONSENSE"),
                                        ("groups", "P-257"), ("minVersion", "1.1")])
def test_a_setting_that_openssl_does_not_know_is_named(new_cache, origin, issue, key, value):
    said = refused(new_cache(origin, start=False), **issue("one.test"), **{key: value})
    assert key in said and value in said


def test_versions_ciphers_and_groups_can_be_chosen(new_cache, origin, pki):
    base = {"certPath": pki.cert, "keyPath": pki.key}
    cache = new_cache(origin, server={"tls": {**base, "minVersion": "1.3",
                                              "ciphersuites": "TLS_AES_256_GCM_SHA384"}})
    old = pki.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        Connection(cache.address, tls=old)
    with Connection(cache.address, tls=pki.client_context()) as c:
        assert c.socket.cipher()[0] == "TLS_AES_256_GCM_SHA384"
    change(cache, tls={**base, "ciphers": "ECDHE-RSA-CHACHA20-POLY1305", "groups": "P-384"})
    hup(cache)
    with Connection(cache.address, tls=old) as c:
        assert c.socket.cipher()[0] == "ECDHE-RSA-CHACHA20-POLY1305"
    out = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{cache.port}"], input="",
                         capture_output=True, text=True).stdout
    assert "P-384" in out or "secp384r1" in out


def test_tls_1_0_and_1_1_and_weak_ciphers_are_refused_by_default(cache, pki):
    for flags in (["-tls1"], ["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA"],
                  ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"]):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{cache.port}",
                               "-cipher", "ALL:@SECLEVEL=0", *flags], input="", capture_output=True,
                              text=True)
        assert "Cipher is (NONE)" in done.stdout, (flags, done.stdout)
    assert shown(cache, pki, "two.test") == "two.test"


def test_the_kernel_encrypts_where_it_can(cache, origin, pki):
    """Whoever does it, the bytes are right: large, in pieces, several at once."""
    cache.wait_log(r"what is sent to clients is encrypted by (the kernel|this program)")
    if "encrypted by the kernel" not in cache.log():
        pytest.skip("this kernel has no tls module; the other way is what the other tests show")

    def streams():
        with open("/proc/net/tls_stat") as f:
            return sum(int(v) for k, v in (line.split() for line in f) if k.startswith("TlsTx"))
    blob, before = origin.blob("team/app", noise(3_000_001)), streams()
    with Connection(cache.address, tls=pki.client_context()) as c:
        for _ in range(3):
            assert c.request("GET", blob.target).body == blob.data
        assert c.request("GET", blob.target, [("Range", "bytes=70000-70009")]).body \
            == blob.data[70000:70010]
    assert streams() > before
