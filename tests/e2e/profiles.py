"""What kinds of registries do otherwise than a plain one, from their documentation: profiles of
the scripted origin, as Origin(profile=…).

A profile's answers(exchange, repository) is asked first and says whether it has answered.
"""
import json
import urllib.parse

from script import OCI_INDEX, Answer, basic

JSON = ("Content-Type", "application/json")


class Conformant:
    """Tags and referrers as the distribution specification's "Content Discovery" has them."""

    def __init__(self, page=None):
        self.page = page  # so many tags or referrers at most in one answer

    def answers(self, exchange, repository):
        repository, _, rest = exchange.path.removeprefix("/v2/").rpartition("/")
        if rest == "list" and repository.endswith("/tags"):
            self.tags(exchange, repository.removesuffix("/tags"))
        elif repository.endswith("/referrers"):
            self.referrers(exchange, repository.removesuffix("/referrers"), rest)
        else:
            return False
        return True

    def tags(self, exchange, repository):
        query, known = exchange.entry.query, sorted(exchange.origin.tags.get(repository, ()))
        if not known:
            return exchange.error(404, "NAME_UNKNOWN")
        last = query.get("last", [""])[0]
        after = [t for t in known if t > last]
        n = min(int(query["n"][0]) if "n" in query else len(known), self.page or len(known))
        headers = [JSON]
        if 0 < n < len(after):
            headers.append(self.next(exchange, {"n": n, "last": after[n - 1]}))
        body = json.dumps({"name": repository, "tags": after[:n]}).encode()
        return exchange.say(200, body, headers)

    def referrers(self, exchange, repository, digest):
        query = exchange.entry.query
        wanted = query.get("artifactType", [None])[0]
        found = [d for d in map(self.descriptor, self.about(exchange.origin, repository, digest))
                 if wanted in (None, d.get("artifactType"))]
        at, n = int(query.get("at", ["0"])[0]), self.page or len(found)
        headers = [("Content-Type", OCI_INDEX)]
        if wanted:
            headers.append(("OCI-Filters-Applied", "artifactType"))
        if at + n < len(found):
            headers.append(self.next(exchange, {"at": at + n}))
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[at:at + n]}
        return exchange.say(200, json.dumps(body).encode(), headers)

    @staticmethod
    def about(origin, repository, digest):
        """The manifests of the repository with this subject."""
        for thing in dict.fromkeys(origin.tags.get(repository, {}).values()):
            with_subject = json.loads(thing.data).get("subject", {})
            if with_subject.get("digest") == digest:
                yield thing

    @staticmethod
    def descriptor(thing):
        document = json.loads(thing.data)
        out = {"mediaType": thing.media_type, "size": thing.size, "digest": thing.digest}
        artifact = document.get("artifactType") or document.get("config", {}).get("mediaType")
        if artifact:
            out["artifactType"] = artifact
        if "annotations" in document:
            out["annotations"] = document["annotations"]
        return out

    @staticmethod
    def next(exchange, more):
        """An absolute Link, as most registries send it."""
        query = {k: v[0] for k, v in exchange.entry.query.items()} | more
        return ("Link", f"<{exchange.origin.url}{exchange.path}"
                f"?{urllib.parse.urlencode(query)}>; rel=\"next\"")


class Ecr:
    """Amazon ECR: Basic with a token of the user AWS; HEAD of a blob is 401 though GET is allowed;
    blobs are behind redirects signed for GET, at a store that refuses HEAD and Authorization."""

    AUTHORIZATION = basic("AWS", "a-token-of-twelve-hours")

    def __init__(self, store):
        self.store = store

    def answers(self, exchange, repository):
        entry, thing = exchange.entry, exchange.entry.thing
        blob = thing is not None and thing.kind == "blobs"
        allowed = entry.header("Authorization") == self.AUTHORIZATION
        if not allowed or (blob and entry.method == "HEAD"):
            exchange.error(401, "UNAUTHORIZED" if allowed else "DENIED", (
                ("WWW-Authenticate",
                 f'Basic realm="{exchange.origin.url}/",service="ecr.amazonaws.com"'),))
        elif blob:
            self.redirect(exchange, thing)
        else:
            return False
        return True

    def redirect(self, exchange, thing):
        path = f"/bucket/{thing.digest.removeprefix('sha256:')}"
        if path not in self.store.raw:
            stored = self.store.blob("bucket/signed", thing.data)
            stored.head = Answer(status=403)
            self.store.raw[path] = stored
        location = f"{self.store.url}{path}?X-Amz-Security-Token=sts%2Fx&X-Amz-Signature=5ec4e7"
        exchange.say(307, b"", (("Location", location),))


class Tokens:
    """A token server's part of a registry: what each Bearer opens, and the challenges."""

    def __init__(self):
        self.issued, self.expired = {}, set()  # token -> repository
        self.asked = []                        # scopes, in order

    def token(self, exchange):
        """GET /token?scope=repository:<name>:pull for an anonymous client."""
        scope = exchange.entry.query.get("scope", [""])[0]
        self.asked.append(scope)
        kind, _, rest = scope.partition(":")
        repository, _, actions = rest.rpartition(":")
        if kind != "repository" or actions != "pull" or not self.gives(exchange, repository):
            return exchange.error(403, "DENIED")
        token = f"token-{len(self.issued)}-of-{repository}"
        self.issued[token] = repository
        return exchange.say(200, json.dumps({"token": token, "expires_in": 300}).encode(), (JSON,))

    @staticmethod
    def gives(exchange, repository):
        return repository in exchange.origin.tags

    def bearer(self, exchange):
        return (exchange.entry.header("Authorization") or "").removeprefix("Bearer ")

    def challenge(self, exchange, scope, error=""):
        value = f'Bearer realm="{exchange.origin.url}/token",service="{self.SERVICE}"'
        value += f',scope="{scope}"' + (f',error="{error}"' if error else "")
        return exchange.error(401, "UNAUTHORIZED", (("WWW-Authenticate", value),))


class Ghcr(Tokens):
    """GitHub's registry: the ping's challenge has a placeholder for its scope, which is no
    repository; a token for another repository is 403."""

    SERVICE, PLACEHOLDER = "ghcr.io", "repository:user/image:pull"

    def answers(self, exchange, repository):
        token = self.bearer(exchange)
        if exchange.path == "/token":
            self.token(exchange)
        elif repository is None:
            self.challenge(exchange, self.PLACEHOLDER)
        elif token not in self.issued:
            self.challenge(exchange, f"repository:{repository}:pull",
                           "invalid_token" if token else "")
        elif self.issued[token] != repository:
            exchange.error(403, "DENIED")
        else:
            return False
        return True


class Harbor(Tokens):
    """Harbor: Bearer for who has nothing, but Basic for an expired Bearer."""

    SERVICE = "harbor-registry"

    def answers(self, exchange, repository):
        token = self.bearer(exchange)
        if exchange.path == "/token":
            self.token(exchange)
        elif not token:
            self.challenge(exchange, f"repository:{repository}:pull")
        elif token in self.expired or self.issued.get(token) != repository:
            exchange.error(401, "UNAUTHORIZED", (("WWW-Authenticate", 'Basic realm="harbor"'),))
        else:
            return False
        return True


class DockerHub:
    """Docker Hub: GET of a manifest counts against a quota and is 429 when there is none left; HEAD
    is free. Both tell what is left."""

    def __init__(self, quota):
        self.quota = self.left = quota

    def answers(self, exchange, repository):
        entry, thing = exchange.entry, exchange.entry.thing
        if thing is None or thing.kind != "manifests":
            return False
        if entry.method == "GET" and self.left == 0:
            exchange.error(429, "TOOMANYREQUESTS", (*self.limits(), ("Retry-After", "60")))
            return True
        self.left -= entry.method == "GET"
        thing.head = thing.answer = Answer(headers=self.limits())
        return False

    def limits(self):
        return (("ratelimit-limit", f"{self.quota};w=21600"),
                ("ratelimit-remaining", f"{self.left};w=21600"),
                ("docker-ratelimit-source", "192.0.2.7"))
