"""Runs the pods of deploy/kubernetes with `podman kube play`. Used by scripts/kubernetes play, on its
stage."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import podman_setup
from client import METRICS, Client, Failure, fetch, lose_daemons, until, until_settled
from documents import block
from vassals_image import PAGE, make_tree

BASE = Path("/var/lib/play")
IMAGE = "localhost/vassals:1"
HERE = "127.0.0.1"
HELLO, SECOND = 8080, 8081
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
README = "deploy/kubernetes/README.md"
# There is no network: what is to be installed must be there already, out of these packages.
APT_GET = """#!/bin/sh
[ "$1" = install ] || exit 0
shift
for package; do
    case $package in
        -* | uwsgi-core | uwsgi-plugin-psgi | squashfuse) ;;
        *) echo "the tree has nothing of $package" && exit 1 ;;
    esac
done
"""
# How many times as long as on a machine a call may take, as in a guest.
LIMIT_S = 60.0 * float(os.environ.get("VASSAL_SLOWNESS", "1"))
LOSSES = 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dist", type=Path, required=True)
    parser.add_argument("--pods", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        set_up(arguments.dist)
        play_all(arguments.pods)
    except Failure as failure:
        sys.exit(f"play: {failure}")


def play_all(pods):
    for check, file in ((emperor, "emperor"), (restricted_emperor, "overlays-emperor-restricted"),
                        (vassal, "vassal"), (restricted_vassal, "overlays-vassal-restricted")):
        began = time.monotonic()
        pod = Pod(pods / f"{file}.yaml")
        try:
            seen = check(pod)
        except Failure as failure:
            raise Failure(f"{file}: {failure}; the container has said:\n{pod.said()}") from failure
        print(f"play: {file}: {seen} ({time.monotonic() - began:.1f} s)", flush=True)


def set_up(dist):
    """Makes the image by the Dockerfile of deploy/kubernetes/README.md."""
    podman_setup.write(BASE, dist, "host")
    tree, context = BASE / "tree", BASE / "context"
    make_tree(tree, dist)
    context.mkdir()
    for part in ("usr/local/sbin/emperor", "usr/local/sbin/vassal-init", "srv/hello", "srv/hello.squashfs"):
        (tree / part).rename(context / Path(part).name)
    (tree / "app").rmdir()
    (tree / "usr/bin/apt-get").write_text(APT_GET)
    (tree / "usr/bin/apt-get").chmod(0o755)
    subprocess.run(["tar", "-C", tree, "-cf", BASE / "tree.tar", "."], check=True)
    podman("import", "--change", f"ENV PATH={PATH}", BASE / "tree.tar", "localhost/debian:12-slim")
    (context / "Dockerfile").write_text(block(README, "FROM debian:12-slim\n"))
    podman("build", "--network", "none", "-t", IMAGE, context)


def podman(*words, is_demanded=True):
    environment = {"PATH": os.environ["PATH"], "HOME": str(BASE), "TMPDIR": "/var/tmp",
                   **podman_setup.environment(BASE)}
    result = subprocess.run(["podman", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, errors="replace", cwd="/", env=environment, timeout=LIMIT_S)
    if result.returncode and is_demanded:
        raise Failure(f"podman {' '.join(map(str, words))}: status {result.returncode}: "
                      f"{result.stderr.strip()}")
    return result.stdout.strip() if is_demanded else result


class Pod:
    """One that is played, with a container for its vassals."""

    def __init__(self, file):
        self.file = file
        podman("kube", "play", "--network", "host", "--start=false", file)
        make_cgroups_anew()
        podman("pod", "start", *podman("pod", "ps", "-q").split())
        [self.container] = podman("ps", "-a", "--filter", f"ancestor={IMAGE}", "--format",
                                  "{{.Names}}").split()

    def said(self):
        result = podman("logs", self.container, is_demanded=False)
        return result.stdout + result.stderr

    def end(self):
        """Stops it, and removes all that there is of it."""
        podman("stop", "-t", "60", self.container)
        status = podman("wait", self.container)
        if status != "0":
            raise Failure(f"status {status} after the stop, and not 0")
        podman("kube", "down", self.file)
        for volume in podman("volume", "ls", "-q").split():
            podman("volume", "rm", "-f", volume)


def make_cgroups_anew():
    """In cgroups of version 2, Podman 4.3 without systemd makes that of a pod with a filter that refuses every
    device, /dev/null among them. The filter goes with the cgroup."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        for cgroup in Path("/sys/fs/cgroup/libpod_parent").iterdir():
            if cgroup.is_dir():
                cgroup.rmdir()
                cgroup.mkdir()


def emperor(pod):
    until_up(pod)
    with Client(lambda: [(HERE, HELLO)]) as client:
        for _ in range(LOSSES):
            until_settled(HERE, "vassals/hello")
            lose_daemons()
            client.until_answered()
    client.expect_none_refused()
    add_vassal()
    pod.end()
    return f"served, {LOSSES} FUSE daemons killed ({client}), a key added"


def until_up(pod):
    until_served(HELLO)
    until("the vassal is up", is_up)
    podman("exec", pod.container, "emperor", "status", "vassals/hello")


def until_served(port):
    until(f"port {port} serves the page", lambda: fetch(HERE, port) == PAGE)


def is_up():
    return 'vassal_up{vassal="vassals/hello"} 1\n' in fetch(HERE, METRICS)


def add_vassal():
    """A key that is added to the ConfigMap."""
    directory = Path(podman("volume", "inspect", "-f", "{{.Mountpoint}}", "emperor-vassals"))
    first = (directory / "hello.ini").read_text()
    (directory / "second.ini").write_text(first.replace(f":{HELLO}", f":{SECOND}"))
    until_served(SECOND)


def restricted_emperor(pod):
    until_up(pod)
    pod.end()
    return "served"


def vassal(pod):
    until_served(HELLO)
    with Client(lambda: [(HERE, HELLO)]) as client:
        lose_daemons()
        client.until_answered()
    restarts = podman("inspect", "-f", "{{.RestartCount}}", pod.container)
    if restarts != "0":
        raise Failure(f"the container was started {restarts} times again")
    pod.end()
    return f"served, a FUSE daemon killed ({client}), the mount made again in the same container"


def restricted_vassal(pod):
    until_served(HELLO)
    pod.end()
    return "served"


if __name__ == "__main__":
    main()
