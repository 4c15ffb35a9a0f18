"""Real registries (docker-registry), open or with either kind of authentication, and skopeo to
fill them."""
import re
import subprocess

from client import SLOW
from harness import free_port, wait_until

USER = "alice:wonder-land"


class Registry:
    """docker-registry on a folder of its own; `auth` is that section of its configuration."""

    scheme = "http"

    def __init__(self, folder, auth=""):
        self.folder, self.port, self.process = folder, free_port(), None
        self.host = f"127.0.0.1:{self.port}"
        folder.mkdir()
        self.log_path = folder / "log"
        (folder / "config.yml").write_text(
            "version: 0.1\nlog: {level: info}\n"
            f"storage:\n  filesystem: {{rootdirectory: {folder}/data}}\n"
            f"  delete: {{enabled: true}}\nhttp: {{addr: '{self.host}', secret: x}}\n{auth}")

    def start(self):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve",
                                             str(self.folder / "config.yml")],
                                            stdout=log, stderr=log)
        wait_until(lambda: "listening on" in self.log(), "docker-registry listens", 20)
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def object_gets(self):
        """GETs of blobs and of manifests by digest that it has answered, refusals apart."""
        return re.findall(r'"GET (/v2/\S+/(?:blobs|manifests)/sha256:\S+) HTTP/\S+" 2', self.log())


def htpasswd(folder):
    """The `auth` section of a registry that knows USER by a file in `folder`."""
    made = subprocess.run(["htpasswd", "-Bbn", *USER.split(":")], capture_output=True, check=True)
    path = folder / f"users{free_port()}"
    path.write_bytes(made.stdout)
    return f"auth:\n  htpasswd: {{realm: test, path: {path}}}\n"


def skopeo(*args, ok=True, wrap=()):
    """Runs skopeo, behind the words of `wrap`; it must succeed or fail as `ok` says."""
    done = subprocess.run([*wrap, "skopeo", "--insecure-policy", *args], capture_output=True,
                          text=True, timeout=120 * SLOW)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def push(image, host, repository="team/app", credentials=None, tls="--dest-tls-verify=false",
         wrap=()):
    creds = ["--dest-creds", credentials] if credentials else []
    skopeo("copy", "--preserve-digests", tls, *creds, image.reference,
           f"docker://{host}/{repository}:{image.tag}", wrap=wrap)
