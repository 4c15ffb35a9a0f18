"""OCI image layouts made by hand from folders, and what skopeo's `dir:` copies hold."""
import gzip
import io
import json
import pathlib
import tarfile

from harness import noise
from script import OCI_MANIFEST, digest_of

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def tar_of(folder):
    """The folder as an uncompressed tar, the same bytes every time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            info = tar.gettarinfo(path, str(path.relative_to(folder)))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if path.is_file():
                with path.open("rb") as f:
                    tar.addfile(info, f)
            else:
                tar.addfile(info)
    return out.getvalue()


def folders(root, sizes, seed=0):
    """One folder a layer, with a file of so many bytes and a few small ones."""
    out = []
    for n, size in enumerate(sizes):
        folder = pathlib.Path(root) / f"layer{n}"
        (folder / "etc").mkdir(parents=True)
        (folder / "etc" / f"name{n}").write_text(f"layer {n} of seed {seed}\n")
        (folder / f"data{n}").write_bytes(noise(size, seed * 100 + n))
        out.append(folder)
    return out


class Layout:
    """An image layout at `path` with one image, made of these folders."""

    def __init__(self, path, layer_folders, tag="v1"):
        self.path, self.tag, self.blobs = pathlib.Path(path), tag, {}
        tars = [tar_of(f) for f in layer_folders]
        layers = [self._add(gzip.compress(t, 1, mtime=0), LAYER) for t in tars]
        config = self._add(json.dumps({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(t) for t in tars]}}).encode(),
                           CONFIG)
        manifest = self._add(json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                                         "config": config,
                                         "layers": layers}).encode(), OCI_MANIFEST)
        self.manifest = manifest["digest"]
        manifest["annotations"] = {"org.opencontainers.image.ref.name": tag}
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2,
                                                          "manifests": [manifest]}))

    @property
    def reference(self):
        return f"oci:{self.path}:{self.tag}"

    def _add(self, data, media_type):
        digest = digest_of(data)
        target = self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def check_copy(self, folder):
        """A `dir:` copy has every blob and the manifest of this image, byte by byte."""
        folder = pathlib.Path(folder)
        assert (folder / "manifest.json").read_bytes() == self.blobs[self.manifest]
        for digest, data in self.blobs.items():
            if digest != self.manifest:
                assert (folder / digest.removeprefix("sha256:")).read_bytes() == data, digest
