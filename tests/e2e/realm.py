"""A realm that gives tokens, as a script: whom it knows, what it answers and how; and the registry that
takes them (a profile of the origin)."""
import base64
import contextlib
import http.server
import json
import threading
import urllib.parse

from script import basic

SERVICE = "scripted-service"


class Realm:
    """`users`: Authorization (None: nobody) to repositories. What was asked is in `asked`, as dicts."""

    def __init__(self, users, life=300, key="token", methods=("GET",), tls=None):
        self.users, self.life, self.key, self.methods = dict(users), life, key, methods
        self.refresh_tokens = {}             # token -> repositories
        self.asked, self.issued = [], {}     # token -> repository
        self.status, self.location, self.body = None, None, None  # instead of an answer
        self.retry_after = None
        self.gate = threading.Event()        # answers wait for it
        self.gate.set()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/auth/token"

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, authorization, form):
        """(status, document)"""
        entry = {"method": method, "authorization": authorization, **form}
        self.asked.append(entry)
        self.gate.wait(60)
        if self.status:
            return self.status, {"details": "no"}
        if method not in self.methods:
            return 404, {"details": "no"}
        if form.get("grant_type") == "refresh_token":
            allowed = self.refresh_tokens.get(form.get("refresh_token"))
        elif form.get("grant_type") == "password":
            allowed = self.users.get(basic(form["username"], form["password"]))
        else:
            allowed = self.users.get(authorization)
        if allowed is None or form.get("service") != SERVICE:
            return 401, {"details": "incorrect username or password"}
        kind, _, rest = form.get("scope", "").partition(":")
        repository, _, actions = rest.rpartition(":")
        token = f"t0ken-{len(self.issued)}"
        granted = kind == "repository" and actions == "pull" and repository in allowed
        self.issued[token] = repository if granted else None
        return 200, {self.key: token, "expires_in": self.life}


def handler_of(realm):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.reply(urllib.parse.urlsplit(self.path).query)

        def do_POST(self):
            self.reply(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

        def reply(self, text):
            form = {k: v[0] for k, v in urllib.parse.parse_qs(text).items()}
            status, document = realm.answer(self.command, self.headers.get("Authorization"), form)
            body = realm.body if realm.body is not None else json.dumps(document).encode()
            self.send_response(status)
            if realm.location:
                self.send_header("Location", realm.location)
            if realm.retry_after:
                self.send_header("Retry-After", realm.retry_after)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who asked may be dead
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler


class TakesTokens:
    """A registry that takes nothing but tokens of a realm, for the repository that they are of."""

    def __init__(self, realm, url=None, scope=True, also_basic=False):
        self.realm, self.url, self.scope, self.also_basic = realm, url or realm.url, scope, also_basic
        self.expired = set()
        self.harbor = False  # Basic is the answer to an expired token

    def answers(self, exchange, repository):
        kind, _, token = (exchange.entry.header("Authorization") or "").partition(" ")
        if repository is None and exchange.path.endswith("/tags/list"):
            repository = exchange.path.removeprefix("/v2/").removesuffix("/tags/list")
        known = kind == "Bearer" and token in self.realm.issued and token not in self.expired
        if kind == "Bearer" and not known and self.harbor:
            exchange.error(401, "UNAUTHORIZED", (("WWW-Authenticate", 'Basic realm="harbor"'),))
        elif not known or (repository and self.realm.issued[token] != repository):
            exchange.error(401, "UNAUTHORIZED", self.challenges(repository, kind))
        elif exchange.path.endswith("/tags/list"):
            exchange.say(200, b'{"name":"x","tags":[]}', (("Content-Type", "application/json"),))
        else:
            return False
        return True

    def challenges(self, repository, kind):
        value = f'Bearer realm="{self.url}",service="{SERVICE}"'
        if self.scope and repository:
            value += f',scope="repository:{repository}:pull"'
        if kind == "Bearer":
            value += ',error="invalid_token"'
        lines = [("WWW-Authenticate", value)]
        return [*lines, ("WWW-Authenticate", 'Basic realm="x"')] if self.also_basic else lines


def decoded(authorization):
    """"user:password" of a Basic credential."""
    return base64.b64decode(authorization.removeprefix("Basic ")).decode()
