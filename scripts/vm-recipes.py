#!/usr/bin/python3
"""Runs what stands in the documents, word for word, in a guest.

Started by scripts/vm --guide, as root, in a machine that is thrown away, after scripts/vm-guide.py. Each
check is a line, `ok` or `failed` with what it is about and how long it took; the status is 1 if one has
failed.
"""

import contextlib
import glob
import os
import pwd
import re
import shutil
import subprocess
import sys

from documents import block, commands
from guest import Failed, all_pass, expect, pids, read, run, state, until, with_line, write

CONTAINERS, ROOTLESS = "docs/containers.md", "docs/rootless.md"
REFERENCE, SECURITY = "docs/reference.md", "docs/security.md"
EMPEROR_INI = "/etc/uwsgi/emperor.ini"
VASSALS = "/etc/uwsgi/vassals"
LOG = "/run/emperor.log"
CGROUPS = "/sys/fs/cgroup"
# bind mounts with IDs of their own (mount_setattr(2)).
IDMAPPED = (5, 12)
JOE = "/home/joe"

CHECKS = []


def check(name):
    def add(function):
        CHECKS.append((name, lambda: (clear(VASSALS), function())))
        return function

    return add


def main():
    os.makedirs(VASSALS, exist_ok=True)
    return all_pass("recipes", CHECKS, lambda: read(LOG)[-4000:] if os.path.exists(LOG) else "no log")


@check("docs/containers.md: a service of systemd")
def service():
    os.makedirs("/etc/app", exist_ok=True)
    write("/etc/app/hooks.ini", "[uwsgi]\nexec-as-root = touch /run/hooked\n")
    write("/srv/app", "#!/bin/bash\ntrap 'echo stopped >/run/stopped; exit' TERM\nsetsid sleep 54321 &\n"
                      "echo $$ >/run/started\nwhile :; do sleep 0.2; done\n")
    os.chmod("/srv/app", 0o755)
    write("/etc/systemd/system/app.service", block(CONTAINERS, "[Service]\nExecStart="))
    run("systemctl daemon-reload && systemctl start app")
    until("the app runs", lambda: os.path.exists("/run/started"))
    expect(os.path.exists("/run/hooked"), "no hook")
    run("systemctl stop app")
    expect(read("/run/stopped") == "stopped\n", "the app was not asked to stop")
    expect(run("systemctl show -P Result app").strip() == "success", run("systemctl status app || true"))
    expect(not with_line("sleep 54321"), "what the app had started is left")


@check("docs/containers.md: in front of a command in a shell")
def command():
    write("/usr/local/bin/make", "#!/bin/sh\nsetsid sleep 65432 &\necho made \"$@\"\n")
    os.chmod("/usr/local/bin/make", 0o755)
    said = run(block(CONTAINERS, "vassal-init --grace 2s -- make test"))
    expect(said == "made test\n", said)
    expect(not with_line("sleep 65432"), "what the command had started is left")


@check("docs/rootless.md: an ordinary user's emperor and commands")
def rootless():
    as_joe = become_joe()
    os.makedirs(f"{JOE}/vassals", exist_ok=True)
    write(f"{JOE}/vassals/hello.ini", block(ROOTLESS, "[uwsgi]\nuid = root\n"))
    start, status = commands(block(ROOTLESS, "emperor --emperor ~/vassals"))
    with emperor(start, as_joe):
        until("the page", lambda: answers("curl http://127.0.0.1:8080/", "<html", "<!DOCTYPE"))
        # The app may answer before PID 1 has told that it runs.
        until("it runs", lambda: answers(f"{as_joe} {status}", "running"))
        expect(run(f"{as_joe} vassal-init --unshare user,fs,pid -- id -u") == "0\n", "not root inside")


@check("docs/rootless.md: as a unit, also while nobody is logged in")
def rootless_unit():
    as_joe = become_joe()
    units = f"{JOE}/.config/systemd/user"
    run(f"{as_joe} mkdir -p {units} {JOE}/vassals")
    shutil.copy("docs/example/emperor-user.service", f"{units}/emperor.service")
    write(f"{JOE}/vassals/hello.ini", "[uwsgi]\nuid = root\ncommand = sleep 1000\n")
    enable, linger = commands(block(ROOTLESS, "systemctl --user enable --now emperor"))
    uid = pwd.getpwnam("joe").pw_uid
    run(f"systemctl start user@{uid}; {as_joe} {enable}")
    until("the vassal runs", lambda: answers(f"{as_joe} emperor status", "running"))
    # Without polkit only root may, and says whom.
    run(f"{as_joe} {linger} || {linger} joe")
    expect(os.path.exists("/var/lib/systemd/linger/joe"), "it does not linger")
    run(f"systemctl stop user@{uid}")
    # As at boot.
    run("systemctl restart systemd-logind")
    until("the vassal runs", lambda: answers(f"{as_joe} emperor status", "running"))
    run(f"loginctl disable-linger joe; systemctl stop user@{uid}")


@check("docs/rootless.md: IDs of its own for each vassal, and a tree")
def own_ids():
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    maps = block(ROOTLESS, "emperor-use-clone = user,fs,pid\n")
    tree = block(ROOTLESS, "map-tree = ") if version >= IDMAPPED else ""
    for file in ("/etc/subuid", "/etc/subgid"):
        with open(file, "a", encoding="ascii") as ranges:
            ranges.write("root:100000000:100000000\n")
    with open("/etc/fstab", "a", encoding="ascii") as table:
        table.write(block(ROOTLESS, "/ns /ns "))
    run("mkdir -p /ns && mount /ns")
    write(EMPEROR_INI, f"[uwsgi]\nemperor = {VASSALS}\n{maps}{tree}")
    write(f"{VASSALS}/own.ini", "[uwsgi]\nuid = 0\ncommand = sh -c 'touch /ns/of-own; sleep 1000'\n")
    with emperor(f"emperor {EMPEROR_INI}"):
        until("it runs", lambda: state("own") == "running")
        [app] = until("its app", lambda: with_line("sleep 1000"))
        owner = os.stat(f"/proc/{app}").st_uid
        expect(owner >= 100000000, f"its root is {owner} outside")
        if tree:
            until("its file", lambda: os.path.exists("/ns/of-own"))
            expect(os.stat("/ns/of-own").st_uid == 0, "its file is not root's on the disk")
    run("umount /ns")


@check("docs/reference.md: an emperor with some capabilities, by setpriv")
def some_capabilities():
    run("useradd --system emperor; install -d -o emperor /run/emperors")
    owner = pwd.getpwnam("nobody")
    write(EMPEROR_INI, f"[uwsgi]\nemperor = {VASSALS}\nemperor-use-clone = fs,pid\n"
                       "control = /run/emperors/control\n")
    write(f"{VASSALS}/of-nobody.ini", "[uwsgi]\ncommand = sleep 1000\n")
    os.chown(f"{VASSALS}/of-nobody.ini", owner.pw_uid, owner.pw_gid)
    with emperor(block(REFERENCE, "setpriv --reuid emperor")):
        [app] = until("its app", lambda: with_line("sleep 1000"))
        expect(os.stat(f"/proc/{app}").st_uid == owner.pw_uid, "it is not its owner's")
        expect(run("ps -o user= -C emperor").split()[0] == "emperor", run("ps -ef"))


@check("docs/security.md: a host for strangers, with limits and a pipe for the log")
def strangers():
    run("id eve || useradd -m eve; chmod 755 /home/eve; mkdir -p /home/eve/vassals")
    write(EMPEROR_INI, block(SECURITY, "[uwsgi]\n; whose a file is"))
    write("/etc/uwsgi/policy.ini", block(SECURITY, "[uwsgi]\nno-new-privs = true\n"))
    write("/home/eve/vassals/shop.ini", "[uwsgi]\ncommand = sleep 1000\n")
    run("chown -R eve: /home/eve")
    with emperor(f"emperor {EMPEROR_INI} 2>&1 | systemd-cat"):
        until("it runs", lambda: state("eve/vassals/shop") == "running")
        [app] = until("its app", lambda: with_line("sleep 1000"))
        cgroup = CGROUPS + read(f"/proc/{app}/cgroup").strip().partition("::")[2]
        expect(cgroup.startswith(f"{CGROUPS}/vassals/"), cgroup)
        for file, limit in (("memory.max", "536870912"), ("cpu.max", "100000 100000"), ("pids.max", "200")):
            seen = read(f"{cgroup}/{file}").strip()
            expect(seen == limit, f"{file}: {seen}")
        expect("Max open files            1024" in read(f"/proc/{app}/limits"), "the policy is not in force")
        line = "emperor: eve/vassals/shop: running"
        until("the log", lambda: answers("journalctl -o cat --no-pager", line))


def become_joe():
    """What a command of joe's begins with."""
    if subprocess.run(["id", "joe"], capture_output=True, check=False).returncode:
        run("useradd -m joe")
        own = f"/run/user/{pwd.getpwnam('joe').pw_uid}"
        # pam_systemd does both where it is installed.
        run(f"install -d -o joe -g joe -m 700 {own}")
        os.makedirs("/etc/systemd/system/user@.service.d", exist_ok=True)
        write("/etc/systemd/system/user@.service.d/own.conf",
              f"[Service]\nEnvironment=XDG_RUNTIME_DIR={own}\n")
        run("systemctl daemon-reload")
    own = f"/run/user/{pwd.getpwnam('joe').pw_uid}"
    # systemd takes it away with the user's units.
    run(f"install -d -o joe -g joe -m 700 {own}; rm -rf {JOE}/vassals; install -d -o joe {JOE}/vassals")
    return f"setpriv --reuid joe --regid joe --init-groups env HOME={JOE} XDG_RUNTIME_DIR={own}"


@contextlib.contextmanager
def emperor(line, prefix=""):
    """One that a line of shell runs for as long as the block takes, and that leaves nothing."""
    with open(LOG, "wb") as log:
        shell = subprocess.Popen([*prefix.split(), "bash", "-c", line], stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log)
    try:
        yield
    finally:
        run("pkill -TERM -x emperor || true")
        shell.wait()
    expect(not any(map(pids, ("emperor", "vassal-init", "fuse-zip"))), run("ps -ef"))


def answers(line, *parts):
    """Whether what a line of shell prints has one of these."""
    try:
        said = run(line)
    except Failed:
        return False
    return any(part in said for part in parts)


def clear(directory):
    for file in glob.glob(f"{directory}/*"):
        os.unlink(file)


if __name__ == "__main__":
    sys.exit(main())
