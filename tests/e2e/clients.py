"""What the tests of real clients share: three registries that hold one image, and a machine whose
/etc knows them and the cache by name. Each registry is KIND.test and, through the cache,
KIND.cache.test."""
import base64
import json

from client import MIB
from harness import wait_until
from machine import Machine
from oci import Layout, folders
from registry import USER, Registry, htpasswd, push
from token_server import TokenServer

OPEN, USERS, TOKEN = KINDS = ("open", "users", "token")
REPOSITORY = "team/app"
CHART, SIGNED, LAZY = "team/chart", "team/signed", "team/lazy"      # empty, for who fills them
# registry-1.docker.io is here so that a client that passes by its mirror meets nobody, at once.
NAMES = ["auth.test", "cache.test", "registry-1.docker.io", *(f"{k}.test" for k in KINDS),
         *(f"{k}.cache.test" for k in KINDS)]


class Site:
    def __init__(self, folder, pki):
        self.folder, self.pki, self.machines = folder, pki, 0
        self.image = Layout(folder / "layout", folders(folder / "rootfs", [MIB, 100_000, 300_000]))
        user, _, password = USER.partition(":")
        self.tokens = TokenServer(pki, "auth.test", {user: password, "bob": "builder"},
                                  {user: {r: ("pull", "push") for r in (REPOSITORY, CHART, SIGNED, LAZY)}})
        auth = {OPEN: "", USERS: htpasswd(folder), TOKEN: self.tokens.registry_config()}
        self.registries = {kind: Registry(folder / kind, auth[kind]) for kind in KINDS}

    def start(self):
        self.tokens.start()
        machine = self.machine().require()
        for kind, registry in self.registries.items():
            push(self.image, registry.start().host, REPOSITORY, USER if kind != OPEN else None,
                 wrap=machine.enter)
        return self

    def stop(self):
        for registry in self.registries.values():
            if registry.process:
                registry.stop()
        self.tokens.stop()

    def machine(self):
        self.machines += 1
        return Machine(self.folder / f"machine{self.machines}", NAMES)

    def rules(self):
        """`server` of a cache that serves all three, chosen by its own name."""
        rules = [{"regex": rf"^{kind}\.cache\.test(:\d+)?$", "host": r.host, "scheme": r.scheme}
                 for kind, r in self.registries.items()]
        return {"upstreamRules": rules, "tls": {"certPath": self.pki.cert, "keyPath": self.pki.key}}


    def by_name(self, *kinds):
        """`server` of a cache that knows these registries, or all, by name."""
        registries = {f"{kind}.test": self.entry(kind) for kind in kinds or KINDS}
        return {"registries": registries,
                "tls": {"certPath": self.pki.cert, "keyPath": self.pki.key, "caPath": self.pki.ca}}

    def entry(self, kind):
        """One of server.registries; tokens come from another domain than the registry's."""
        r = self.registries[kind]
        return {"hosts": [r.host], "scheme": r.scheme, "realm": "auth.test", "aliases": [kind]}


def login(user, *hosts):
    """What `podman login` and `docker login` write; "" when there is no user."""
    secret = base64.b64encode(user.encode()).decode() if user else ""
    return json.dumps({"auths": {h: {"auth": secret} for h in hosts} if user else {}})


class Watch:
    """What a pull made of the cache and of the registry behind it, from when this was made."""

    def __init__(self, cache, registry):
        self.cache, self.registry = cache, registry
        self.lines, self.gets = len(cache.access()), len(registry.object_gets())

    def upstream_gets(self):
        return self.registry.object_gets()[self.gets:]

    def outcomes(self, digest):
        return {a["outcome"] for a in self.cache.access()[self.lines:]
                if a["reference"] == digest and a["method"] == "GET"}

    def expect(self, image, outcome, but=()):
        """Every object of the image (`but` those) that the client asked for had this outcome."""
        for digest in set(image.blobs) - set(but):
            wait_until(lambda d=digest: outcome in self.outcomes(d), f"{outcome} of {digest}")
            assert self.outcomes(digest) <= {outcome, "denied"}, (digest, self.outcomes(digest))


def cold_then_hot(cache, registry, image, pull):
    """pull("cold") comes from the registry through the cache, pull("hot") from its disk alone."""
    watch = Watch(cache, registry)
    pull("cold")
    blobs = set(image.blobs) - {image.manifest}
    watch.expect(image, "fill", but={image.manifest})
    fetched = [g.rpartition("/")[2] for g in watch.upstream_gets() if "/blobs/" in g]
    assert sorted(fetched) == sorted(blobs)
    watch = Watch(cache, registry)
    pull("hot")
    watch.expect(image, "hit", but={image.manifest})
    assert watch.upstream_gets() == []
    cache.check_objects()
