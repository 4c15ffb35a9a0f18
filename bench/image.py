"""The image that is pulled: files of an OCI image under /v2/, for a static web server."""

import hashlib
import json
import os

REPOSITORY = "bench/image"
BLOB_SIZE = 90 * 1024 * 1024
SMALL_LAYER_SIZE = 256 * 1024
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


class Object:
    """One blob or manifest: its URL path and the file that holds its bytes."""

    def __init__(self, kind, digest, file, size):
        self.digest = digest
        self.path = f"/v2/{REPOSITORY}/{kind}/{digest}"
        self.file = file
        self.size = size


class Image:
    """Writes the image below `root`; fresh_blob() adds blobs of which no cache can know."""

    def __init__(self, root):
        self.root = root
        for kind in ("blobs", "manifests"):
            os.makedirs(self._folder(kind))
        self._noise = os.urandom(BLOB_SIZE)
        self.blob = self.fresh_blob()
        small = self._write("blobs", os.urandom(SMALL_LAYER_SIZE))
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": [self.blob.digest, small.digest]}}
        self.config = self._write("blobs", json.dumps(config).encode())
        self.manifest = self._write("manifests", self._manifest_text(small).encode())
        os.link(self.manifest.file, f"{self._folder('manifests')}/latest")

    def _folder(self, kind):
        return f"{self.root}/v2/{REPOSITORY}/{kind}"

    def _manifest_text(self, small):
        def descriptor(media_type, o):
            return {"mediaType": media_type, "digest": o.digest, "size": o.size}
        return json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, self.config),
            "layers": [descriptor(LAYER_TYPE, self.blob), descriptor(LAYER_TYPE, small)]}, indent=2)

    def _write(self, kind, *parts):
        digest = hashlib.sha256()
        partial = f"{self._folder(kind)}/partial"
        with open(partial, "wb") as f:
            for part in parts:
                f.write(part)
                digest.update(part)
        name = "sha256:" + digest.hexdigest()
        file = f"{self._folder(kind)}/{name}"
        os.rename(partial, file)
        return Object(kind, name, file, sum(len(p) for p in parts))

    def fresh_blob(self):
        """A blob of BLOB_SIZE bytes that was never asked for. remove() it after use."""
        unique = os.urandom(64)
        return self._write("blobs", unique, memoryview(self._noise)[len(unique):])

    def remove(self, blob):
        os.unlink(blob.file)
