"""The parts that a vassal is made of, without a supervisor: what scripts/bench measures beside ours, in the
same run.

- Recovery: a shell script mounts with fuse-zip and starts uWSGI, as user001. No recovery can be faster than
  both.
- Watch: a C program asks a filesystem once in a while, with one forced statx(2), whether it answers.
"""

import contextlib
import os
import select
import signal
import subprocess
import time

import faults
import recovery

ZIP = "/var/www/app001.zip"
# Namespaces of their own, and the tutorial's user.
APART = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
AS_USER = ["setpriv", f"--reuid={faults.USER}", f"--regid={faults.USER}", "--init-groups"]


class Parts:
    """fuse-zip's mount and uWSGI's first byte, on a port of their own."""

    INI = "/etc/uwsgi/bare.ini"
    SCRIPT = f"echo begun; fuse-zip -r {ZIP} /app; echo mounted; exec uwsgi --ini {INI} 2>/dev/null"

    def __init__(self, port):
        self.port = port
        with open(self.INI, "w", encoding="utf-8") as file:
            file.write(f"[uwsgi]\nhttp-socket = :{port}\nplugin = psgi\npsgi = /app/myapp.pl\n")

    def start(self):
        """One round. Both figures in milliseconds, and their sum."""
        command = [*APART, *AS_USER, "sh", "-c", self.SCRIPT]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                said = [self.line(process.stdout) for _ in range(2)]
                if [text for text, _ in said] != [b"begun\n", b"mounted\n"]:
                    raise recovery.Failure(f"the bare parts: {said}")
                recovery.poll_until(lambda: recovery.http_status(self.port) == 200,
                                    f"no page on port {self.port}")
                serving = time.monotonic()
            finally:
                end(process)
        # Its namespaces end a moment after it.
        recovery.poll_until(lambda: recovery.http_status(self.port) is None,
                            f"still a page on port {self.port}")
        begun, mounted = (moment for _, moment in said)
        return {
            "mount_ms": (mounted - begun) * 1000,
            "first_byte_ms": (serving - mounted) * 1000,
            "sum_ms": (serving - begun) * 1000,
        }

    @staticmethod
    def line(stream):
        """The next line, and when it was there."""
        if not select.select([stream], [], [], recovery.DEADLINE_S)[0]:
            raise recovery.Failure("the bare parts: the script says nothing")
        moment = time.monotonic()
        text = b""
        while not text.endswith(b"\n"):
            byte = os.read(stream.fileno(), 1)
            if not byte:
                raise recovery.Failure(f"the bare parts: the script ended after {text}")
            text += byte
        return text, moment


def end(process):
    """Kills `unshare` and PID 1 below it, and with that all that it has started."""
    for pid in [*recovery.descendants(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def probes(program, count, interval_s):
    """So many filesystems of fuse-zip's, each asked by a process of the program."""
    script = f"fuse-zip -r {ZIP} /app; exec {program} /app {interval_s * 1000:.0f}"
    command = [*APART, *AS_USER, "sh", "-c", script]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        recovery.poll_until(lambda: len(probing(processes)["statx-loop"]) == count, "not all bare probes run")
        yield processes
    finally:
        for process in processes:
            end(process)
        for process in processes:
            process.wait()


def probing(processes):
    """Pids of the processes that probe, and of those that answer."""
    found = {"statx-loop": [], "fuse-zip": []}
    for process in processes:
        for pid in recovery.descendants(process.pid):
            found.setdefault(recovery.name_of(pid), []).append(pid)
    return found
