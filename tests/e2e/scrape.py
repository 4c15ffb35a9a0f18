"""What a cache says of itself on metrics.address, read by the parsers of Prometheus' own client
library."""
import re

import client
import pytest
from harness import wait_until

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
    from prometheus_client.parser import text_string_to_metric_families as plain_text
except ImportError:
    pytest.skip("there is no prometheus_client (install python3-prometheus-client)",
                allow_module_level=True)

PREFIX = "registry_cache_"
OPEN = "application/openmetrics-text; version=1.0.0"


def on(**config):
    """A configuration with metrics on a port that the kernel picks."""
    return {"metrics": {"address": "127.0.0.1:0"}, **config}


def address(cache):
    found = re.findall(r"metrics are served on (\S+):(\d+)", cache.log_path.read_text())
    return found[-1][0].strip("[]"), int(found[-1][1])


def ask(cache, target, headers=(), method="GET", body=None, **more):
    with client.Connection(address(cache), **more) as c:
        return c.request(method, target, [*headers, ("Connection", "close")], body)


def families(cache, accept=None):
    answer = ask(cache, "/metrics", [("Accept", accept)] if accept else [])
    assert answer.status == 200 and answer.complete, answer
    text = answer.body.decode()
    if answer.header("Content-Type").startswith("application/openmetrics-text"):
        return list(open_metrics(text))
    return list(plain_text(text))


class Metrics:
    """The samples of one moment: m("requests_total", outcome="hit") is the sum of those that have
    these labels; None when there is none of that name at all."""

    def __init__(self, cache, accept=None):
        self.families = families(cache, accept)
        self.samples = [s for f in self.families for s in f.samples]

    def __call__(self, name, **labels):
        named = [s for s in self.samples if s.name == PREFIX + name]
        found = [s.value for s in named if labels.items() <= s.labels.items()]
        return sum(found) if found else 0 if named else None

    def labels(self, name, label):
        return {s.labels[label] for s in self.samples if s.name == PREFIX + name}


def wait_for(cache, name, value, **labels):
    """Waits until the metric has this value; a request is counted a moment after its last byte."""
    return wait_until(lambda: (m := Metrics(cache))(name, **labels) == value and m,
                      f"{name}{labels} is {value}")


class Moves:
    """What has changed since it was made."""

    def __init__(self, cache):
        self.cache, self.before = cache, Metrics(cache)

    def by(self, name, **labels):
        return (Metrics(self.cache)(name, **labels) or 0) - (self.before(name, **labels) or 0)

    def wait(self, name, amount, **labels):
        wait_until(lambda: self.by(name, **labels) == amount, f"{name}{labels} has moved by {amount}")
