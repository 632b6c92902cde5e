#!/usr/bin/python3
"""usage: oci-image.py FILE NAME:TAG COMMIT SECONDS ARCHITECTURE=DIRECTORY...

Writes an OCI image layout as one archive: for each architecture (amd64, arm64) an image of the one layer that
DIRECTORY is, with vassal-init as its entrypoint, and one index over all of them. The same bytes for the same
input: SECONDS since 1970 is the time of everything in it.

Docker before 25 knows no index: for it there is a manifest.json as `docker save` writes it. There the first
architecture is NAME:TAG, and each further one NAME:TAG-ARCHITECTURE.
"""

import hashlib
import io
import json
import sys
import tarfile
from datetime import datetime, timezone
from pathlib import Path

OCI = "application/vnd.oci.image"


def main():
    if {"-h", "--help"} & set(sys.argv[1:]) or len(sys.argv) < 6:
        print(__doc__.strip())
        sys.exit(len(sys.argv) < 6)
    file, name, commit, seconds, *roots = sys.argv[1:]
    image = Image(name, commit, int(seconds))
    for root in roots:
        architecture, _, directory = root.partition("=")
        image.add(architecture, Path(directory))
    image.write(Path(file))


class Image:
    def __init__(self, name, commit, seconds):
        self.name, self.commit, self.seconds = name, commit, seconds
        self.files = {}
        self.manifests = []
        self.saved = []

    def add(self, architecture, directory):
        layer = self.blob(archive(entries_of(directory), self.seconds))
        config = {
            "created": datetime.fromtimestamp(self.seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": ["/sbin/vassal-init"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
                "Labels": self.labels(),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "history": [{"created_by": "scripts/package"}],
        }
        config = self.blob(as_json(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json", **config},
            "layers": [{"mediaType": f"{OCI}.layer.v1.tar", **layer}],
        }
        manifest = self.blob(as_json(manifest))
        platform = {"architecture": architecture, "os": "linux"}
        self.manifests.append({"mediaType": f"{OCI}.manifest.v1+json", **manifest, "platform": platform})
        tag = self.name if not self.saved else f"{self.name}-{architecture}"
        self.saved.append({"Config": path_of(config), "RepoTags": [tag], "Layers": [path_of(layer)]})

    def labels(self):
        tag = self.name.rpartition(":")[2]
        labels = {"title": "vassal", "version": tag, "revision": self.commit, "licenses": "MIT OR Apache-2.0"}
        return {f"org.opencontainers.image.{key}": value for key, value in labels.items()}

    def write(self, file):
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": self.manifests}
        # The names that podman and containerd give to what they load.
        names = {
            "org.opencontainers.image.ref.name": f"localhost/{self.name}",
            "io.containerd.image.name": f"docker.io/library/{self.name}",
        }
        top = {"mediaType": f"{OCI}.index.v1+json", **self.blob(as_json(index)), "annotations": names}
        self.files["index.json"] = as_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json",
                                            "manifests": [top]})
        self.files["oci-layout"] = as_json({"imageLayoutVersion": "1.0.0"})
        self.files["manifest.json"] = as_json(self.saved)
        entries = {path: (0o644, data) for path, data in self.files.items()}
        entries |= {"blobs": (0o755, None), "blobs/sha256": (0o755, None)}
        file.write_bytes(archive(entries, self.seconds))

    def blob(self, data):
        """Keeps the bytes, and returns what describes them."""
        blob = {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
        self.files[path_of(blob)] = data
        return blob


def path_of(blob):
    return "blobs/" + blob["digest"].replace(":", "/")


def as_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def entries_of(directory):
    """What is below the directory: by its path the mode and, of a file, the bytes."""
    return {
        path.relative_to(directory).as_posix(): (path.stat().st_mode & 0o777,
                                                 None if path.is_dir() else path.read_bytes())
        for path in directory.rglob("*")
    }


def archive(entries, seconds):
    """A tar archive, in the order of the paths: the same bytes for the same entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, (mode, data) in sorted(entries.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.mtime = mode, seconds
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.size = len(data or b"")
            tar.addfile(entry, io.BytesIO(data or b""))
    return out.getvalue()


main()
