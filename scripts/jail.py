"""What the section `jail` of scripts/bench starts: the same small jail by several programs.

The jail: a root directory bound to a place of its own and pivoted into, a new /proc, the machine's /dev bound
into it, the old root gone, new mount and pid namespaces, and a program that runs as user001 and ends at once.
"""

import dataclasses
import json
import os
import pwd
import re
import shutil
import subprocess

import recovery

RUNNING = re.compile(r"running after ([0-9.]+) (µs|ms|s)$", re.M)
USER = "user001"
# An emperor waits for so long until it believes that a file is gone, so the machine idles before each of its
# starts. What is compared with it has idled, too: the same jail takes twice as long then as in a hot loop.
IDLE_S = 0.12
VASSAL_INI = """[uwsgi]
uid = {user}
gid = {user}
command = {command}
hook-pre-jail = mount:none {root} /ufs bind
pivot_root = /ufs /ufs/.old_root
hook-as-root = mount:proc none /proc
hook-as-root = mount:none /.old_root/dev /dev bind
hook-as-root = umount:/.old_root rec,detach
"""


@dataclasses.dataclass
class Contender:
    """A command that makes the jail, runs `true` in it and ends; and what there is to say about it."""

    command: list
    remark: str = ""


class Jail:
    """The root, the programs and the configuration files, in a new directory."""

    def __init__(self, directory, dist, programs):
        self.directory = directory
        self.dist = dist
        self.root = os.path.join(directory, "root")
        for name in ("proc", "dev", ".old_root"):
            os.makedirs(os.path.join(self.root, name))
        self.timer = os.path.join(programs, "spawn-time")
        for name in ("true", "pause"):
            shutil.copy(os.path.join(programs, name), self.root)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Renamed into place: an emperor may be watching, and is to see the file once, and whole.
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path

    def contenders(self):
        """By name. All of them name files that this writes."""
        user = pwd.getpwnam(USER)
        ini = self.write("true.ini", VASSAL_INI.format(user=USER, command="/true", root=self.root))
        rootless = self.write("rootless.ini", VASSAL_INI.format(user="root", command="/true", root=self.root))
        self.write("bundle/config.json", json.dumps(self.bundle(user)))
        bwrap = ["bwrap", "--unshare-pid", "--bind", self.root, "/", "--proc", "/proc", "--dev-bind", "/dev",
                 "/dev"]
        in_user_namespace = ["--unshare-user", "--uid", str(user.pw_uid), "--gid", str(user.pw_gid)]
        runc = ["runc", "--root", os.path.join(self.directory, "runc"), "run"]
        return {
            "no jail": Contender([os.path.join(self.root, "true")], "as root"),
            "vassal-init": Contender([os.path.join(self.dist, "vassal-init"), "--unshare", "fs,pid", ini]),
            "vassal-init, as a user": Contender(
                [os.path.join(self.dist, "vassal-init"), "--unshare", "user,fs,pid", rootless],
                "user namespace"
            ),
            "bwrap": Contender([*bwrap, "--cap-drop", "ALL", "/true"], "stays uid 0"),
            "bwrap, as a user": Contender([*bwrap, *in_user_namespace, "/true"], "user namespace"),
            "runc": Contender([*runc, "-b", os.path.join(self.directory, "bundle"), "bench"]),
        }

    def bundle(self, user):
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user.pw_uid, "gid": user.pw_gid},
                "args": ["/true"],
                "cwd": "/",
                "noNewPrivileges": True,
            },
            "root": {"path": self.root},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]},
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
        }

    def require_works(self, name, contender):
        """Once with its output, so that a mistake shows; the measured rounds throw it away."""
        result = subprocess.run(contender.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode != 0:
            raise recovery.Failure(f"{name}: exit status {result.returncode}: {result.stdout}")

    def start_to_reaped_ms(self, contender):
        """From before posix_spawn to after waitpid, as the helper in C saw it."""
        output = subprocess.run([self.timer, *contender.command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                check=True).stdout
        nanoseconds, status = map(int, output.split())
        if status != 0:
            raise recovery.Failure(f"{contender.command[0]}: wait status {status}")
        return nanoseconds / 1e6

    def start_emperor(self, stack, running):
        """Our emperor over an empty directory. `running` is bench.running."""
        vassals = os.path.join(self.directory, "vassals")
        os.mkdir(vassals)
        ini = self.write("emperor.ini", f"[uwsgi]\nemperor = {vassals}\nemperor-use-clone = fs,pid\n")
        log = os.path.join(self.directory, "emperor.log")
        stack.enter_context(running([os.path.join(self.dist, "emperor"), ini], log))
        return log

    def clone_to_running_ms(self, log, number):
        """Gives the emperor a vassal, and takes it away again. The emperor's own figure, out of its log."""
        end = os.path.getsize(log)
        name = f"vassals/r{number}.ini"
        path = self.write(name, VASSAL_INI.format(user=USER, command="/pause", root=self.root))
        found = self.wait_for(log, end, RUNNING, f"r{number} does not run")
        end = os.path.getsize(log)
        os.unlink(path)
        self.wait_for(log, end, re.compile(rf"^emperor: r{number}: stopped", re.M),
                      f"r{number} does not stop")
        return float(found.group(1)) * recovery.IN_MS[found.group(2)]

    def wait_for(self, log, offset, pattern, otherwise):
        found = None

        def look():
            nonlocal found
            with open(log, encoding="utf-8", errors="replace") as text:
                text.seek(offset)
                found = pattern.search(text.read())
            return found

        recovery.poll_until(look, otherwise)
        return found
