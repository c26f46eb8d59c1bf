"""A root file system of busybox, as an archive that docker, ctr and podman all load."""
import hashlib
import io
import json
import os
import subprocess
import tarfile
import time

NAME = "docker.io/library/peer:latest"
SHORT = "peer"
_DIRECTORIES = ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var")


def _add(archive, name, data=b"", mode=0o644, kind=tarfile.REGTYPE, link=""):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.linkname, entry.size = mode, kind, link, len(data)
    archive.addfile(entry, io.BytesIO(data) if data else None)


def _layer():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        for name in _DIRECTORIES:
            _add(layer, name, mode=0o1777 if name == "tmp" else 0o755, kind=tarfile.DIRTYPE)
        with open("/bin/busybox", "rb") as busybox:
            _add(layer, "bin/busybox", busybox.read(), 0o755)
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                _add(layer, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n")
        _add(layer, "etc/group", b"root:x:0:\nwheel:x:10:root\nwww:x:33:\nusers:x:100:www\n")
        _add(layer, "etc/garbage", b"\x01\x02\x03", 0o755)
    return out.getvalue()


def write_archive(path):
    """Writes the image in docker's archive format."""
    layer = _layer()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(0)),
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [],
    }).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, name, config)
        _add(archive, "layer.tar", layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
