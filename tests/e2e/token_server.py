"""A token server as registries with `auth: token` send their clients to: it knows users and what
each may do, and signs what it grants (RS256, the certificate in the head) so that a real
docker-registry takes it."""
import base64
import http.server
import json
import subprocess
import threading
import time
import urllib.parse

ISSUER, SERVICE, LIFETIME = "test-issuer", "test-service", 300


class TokenServer:
    """`users`: name to password. `grants`: name (None for nobody) to {repository: actions}."""

    scheme = "https"

    def __init__(self, pki, name, users, grants):
        self.pki, self.users, self.grants = pki, users, grants
        self.asked = []     # (user, scope, what was granted), oldest first
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        self.server.socket = pki.server_context().wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.realm = f"https://{name}:{self.server.server_port}/token"
        with open(pki.cert) as f:
            pem = f.read().split("-----")[2]
        self.certificate = "".join(pem.split())

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def registry_config(self):
        """The `auth` section of a docker-registry that believes this server."""
        return (f"auth:\n  token: {{realm: '{self.realm}', service: {SERVICE}, issuer: {ISSUER},"
                f" rootcertbundle: {self.pki.ca}}}\n")

    def granted(self, user, scopes):
        """The `access` claim: what of these scopes the user may have."""
        out = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [a for a in actions.split(",")
                       if kind == "repository" and a in self.grants.get(user, {}).get(name, ())]
            self.asked.append((user, scope, ",".join(allowed)))
            if allowed:
                out.append({"type": kind, "name": name, "actions": allowed})
        return out

    def token(self, user, access):
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]}
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": user or "", "iat": now, "nbf": now - 5,
                  "exp": now + LIFETIME, "jti": str(time.monotonic_ns()), "access": access}
        text = b".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.pki.key], input=text,
                                capture_output=True, check=True)
        return (text + b"." + base64url(signed.stdout)).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def handler_of(tokens):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            form = urllib.parse.parse_qs(url.query)
            known, user = self.user()
            if url.path != "/token" or form.get("service", [SERVICE]) != [SERVICE]:
                self.answer(404, {"details": "no such service"})
            elif not known:
                self.answer(401, {"details": "incorrect username or password"},
                            ("WWW-Authenticate", 'Basic realm="test"'))
            else:
                scopes = [s for line in form.get("scope", []) for s in line.split()]
                token = tokens.token(user, tokens.granted(user, scopes))
                self.answer(200, {"token": token, "access_token": token, "expires_in": LIFETIME,
                                  "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})

        def do_POST(self):
            """OAuth2's form is not known here, as at many registries: clients ask again by GET."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(404, {"details": "GET only"})

        def user(self):
            """(is it nobody or a user with the right password, the user's name or None)"""
            kind, _, text = self.headers.get("Authorization", "").partition(" ")
            if not kind:
                return True, None
            name, _, password = base64.b64decode(text).decode().partition(":")
            return kind == "Basic" and tokens.users.get(name) == password, name

        def answer(self, status, value, *headers):
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in (("Content-Type", "application/json"),
                               ("Content-Length", str(len(body))), *headers):
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler
