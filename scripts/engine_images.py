"""Makes the images that scripts/engines.py runs: `FROM scratch`, out of what Debian has installed here.

  plain  busybox, and nothing else: no C library, so that it shows what the programs themselves need
  fuse   the same with squashfuse, fusermount3, the libraries of both, an image to mount, and files for both
         programs

Besides: the image of a release, as scripts/package makes it, and directories to make images in as the
documents say. And for scripts/bench `machine`: the /etc of the stage, and an empty /usr for the machine's own.
"""

import glob
import json
import os
import pwd
import re
import shutil
import tarfile

from documents import REPO, block
from engine_drivers import BASE, CONTAINERS, IMAGES, demand

# Not below IMAGES: what is there is built for each engine.
DOCUMENTS, RELEASE = f"{BASE}/documents", f"{BASE}/release.tar"
PAGE = "a page of a squashfs image\n"
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
COPY vassal-init emperor /sbin/
ENTRYPOINT ["/sbin/vassal-init", "--"]
CMD ["/bin/true"]
"""
# Mounted by root; by the user, with the set-user-id fusermount3; for the user, by PID 1, without it.
BY_ROOT = """[uwsgi]
exec-as-root = squashfuse /srv/page.squashfs /app
mountpoint-check = /app
"""
BY_USER = """[uwsgi]
uid = 1000
gid = 1000
exec-as-user = squashfuse /srv/page.squashfs /app
mountpoint-check = /app
"""
BY_PID_1 = """[uwsgi]
uid = 1000
gid = 1000
unshare = fs
hook-as-user = fuse:/app squashfuse /srv/page.squashfs {}
mountpoint-check = /app
"""
EMPEROR = """[uwsgi]
emperor = /etc/uwsgi/vassals
emperor-use-clone = fs,pid
"""
COMMAND = "command = /bin/busybox httpd -f -p 8080 -h /app\n"
# What the documents call the app.
APP = """#!/bin/sh
trap 'exit 3' TERM
echo the app runs as $(id -u)
while :; do sleep 0.05; done
"""
# In both images; and in the second only.
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1000:\n",
}
FUSE_FILES = {
    "etc/vassal/by-root.ini": BY_ROOT,
    "etc/vassal/by-user.ini": BY_USER,
    "etc/vassal/by-pid-1.ini": BY_PID_1,
    "etc/uwsgi/emperor.ini": EMPEROR,
    "etc/uwsgi/vassals/page.ini": BY_USER + COMMAND,
}


def make_images(dist):
    """Directories of both: a tree for OCI runtimes; its archive and a Dockerfile for engines."""
    for image in ("plain", "fuse"):
        directory = f"{IMAGES}/{image}"
        tree = f"{directory}/tree"
        make_tree(tree)
        if image == "fuse":
            add_fuse(tree)
        with tarfile.open(f"{directory}/rootfs.tar", "w") as archive:
            archive.add(tree, ".")
        for program in ("vassal-init", "emperor"):
            for target in (directory, f"{tree}/sbin"):
                shutil.copy(f"{dist}/{program}", f"{target}/{program}")
        with open(f"{directory}/Dockerfile", "w", encoding="ascii") as file:
            file.write(DOCKERFILE)


def make_release(dist, image):
    """The archive of an image: this one, or one of `dist`, in whose index that of another architecture has no
    programs that would run here."""
    if image:
        shutil.copy(image, RELEASE)
        return
    layers = f"{BASE}/layers"
    for architecture in ("amd64", "arm64"):
        os.makedirs(f"{layers}/{architecture}/sbin")
        for program in ("vassal-init", "emperor"):
            target = f"{layers}/{architecture}/sbin/{program}"
            if architecture == "amd64":
                shutil.copy(f"{dist}/{program}", target)
            else:
                write(f"{layers}/{architecture}/sbin", {program: "not for this machine\n"})
                os.chmod(target, 0o755)
    version = re.search(r'^version = "(.*)"$', (REPO / "Cargo.toml").read_text(), re.MULTILINE)[1]
    demand(f"{REPO}/scripts/oci-image.py", RELEASE, f"vassal:{version}", "0" * 12, "0",
           *(f"{architecture}={layers}/{architecture}" for architecture in ("amd64", "arm64")))


def name_of_release():
    """What it is called once it is loaded."""
    with tarfile.open(RELEASE) as archive:
        return json.load(archive.extractfile("manifest.json"))[0]["RepoTags"][0]


def make_images_of_documents(dist):
    """Directories with the documents' lines for a Dockerfile, on top of an image that has /srv/app."""
    lines = "COPY vassal-init /sbin/vassal-init\n"
    containers = block(CONTAINERS, lines)
    options = block(CONTAINERS, 'ENTRYPOINT ["/sbin/vassal-init", "--user"')
    taken = f"COPY --from={name_of_release()} /sbin/vassal-init /sbin/vassal-init\n"
    entrypoint = 'ENTRYPOINT ["/sbin/vassal-init", "--"]\n'
    for image, text in (("readme", block("README.md", lines)), ("containers", containers),
                        ("options", containers + options), ("of-release", taken + entrypoint)):
        directory = f"{DOCUMENTS}/{image}"
        write(directory, {"Dockerfile": f"FROM vassal-plain\nCOPY app /srv/app\n{text}", "app": APP})
        os.chmod(f"{directory}/app", 0o755)
        shutil.copy(f"{dist}/vassal-init", f"{directory}/vassal-init")


def make_image_of_machine():
    directory = f"{IMAGES}/machine"
    tree = f"{directory}/tree"
    for name in ("app", "dev", "proc", "root", "run", "sys", "tmp", "usr", "var/tmp", "var/www"):
        os.makedirs(f"{tree}/{name}")
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{tree}/{name}", 0o1777)
    user = pwd.getpwnam("user001")
    os.chown(f"{tree}/app", user.pw_uid, user.pw_gid)
    for link in ("/bin", "/sbin", *glob.glob("/lib*")):
        os.symlink(os.readlink(link), f"{tree}{link}")
    shutil.copytree("/etc", f"{tree}/etc", symlinks=True)
    with tarfile.open(f"{directory}/rootfs.tar", "w") as archive:
        archive.add(tree, ".")
    with open(f"{directory}/Dockerfile", "w", encoding="ascii") as file:
        file.write("FROM scratch\nADD rootfs.tar /\n")


def make_tree(tree):
    for directory in ("bin", "sbin", "usr/bin", "dev", "etc", "proc", "run", "srv", "sys"):
        os.makedirs(f"{tree}/{directory}")
    for directory in ("app", "tmp"):
        os.mkdir(f"{tree}/{directory}")
        os.chmod(f"{tree}/{directory}", 0o777)
    shutil.copy("/bin/busybox", f"{tree}/bin/busybox")
    for applet in demand("/bin/busybox", "--list").split():
        if applet != "busybox":
            os.symlink("busybox", f"{tree}/bin/{applet}")
    shutil.copy("/usr/bin/tini-static", f"{tree}/sbin/tini")
    write(tree, FILES)


def add_fuse(tree):
    for program in ("squashfuse", "fusermount3"):
        copy_with_libraries(shutil.which(program), tree)
    os.chmod(f"{tree}/usr/bin/fusermount3", 0o4755)
    write(tree, {"page/page.txt": PAGE, **FUSE_FILES})
    demand("mksquashfs", f"{tree}/page", f"{tree}/srv/page.squashfs", "-quiet", "-no-progress")
    shutil.rmtree(f"{tree}/page")


def copy_with_libraries(program, tree):
    for path in (program, *re.findall(r"(/\S+) \(0x", demand("ldd", program))):
        target = f"{tree}{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(path, target)


def write(tree, files):
    for name, text in files.items():
        path = f"{tree}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
