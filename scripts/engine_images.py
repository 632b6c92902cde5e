"""Makes the images that scripts/engines.py runs: `FROM scratch`, out of what Debian has installed here.

  plain  busybox, and nothing else: no C library, so that it shows what the programs themselves need
  fuse   the same with squashfuse, fusermount3, the libraries of both, an image to mount, and files for both
         programs

And for scripts/bench `machine`: the /etc of the stage, and an empty /usr for the machine's own.
"""

import glob
import os
import pwd
import re
import shutil
import tarfile

from engine_drivers import IMAGES, demand

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
