#!/usr/bin/python3
"""How long an instance outlives a fault of its filesystem, and what watching it costs. Used by scripts/bench
as a module.

A supervisor that does not notice, or hangs itself, gets DEADLINE_S for it; that is a result too.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import time

import recovery

DEADLINE_S = 15.0
# uWSGI looks once a second; an instance that is up for a second is respawned at once.
SETTLE_S = 2.5
USER = "user001"


def kill(daemon, _init):
    os.kill(daemon, signal.SIGKILL)


def stop(daemon, _init):
    os.kill(daemon, signal.SIGSTOP)


def unmount(_daemon, init):
    enter = ["nsenter", f"--target={init}", "--mount", "setpriv", f"--reuid={USER}", f"--regid={USER}",
             "--init-groups"]
    subprocess.run([*enter, "fusermount3", "-u", "-z", "/app"], check=True)


# What happens, to which kind of vassal.
FAULTS = {
    "daemon killed": (kill, "plain"),
    "daemon stopped": (stop, "plain"),
    "cleanly unmounted": (unmount, "plain"),
    "private mount, daemon killed": (kill, "private"),
}


def outlived_ms(command, port, log, fault):
    """One round with an emperor of its own. None if the instance is still there when the time is up."""
    inject, _ = FAULTS[fault]
    with open(log, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as emperor:
        supervisor = recovery.Supervisor(emperor.pid, port, log, recovery.Daemon("fuse-zip"))
        daemon = None
        try:
            supervisor.wait_until_serving()
            time.sleep(SETTLE_S)
            daemon = supervisor.daemon()
            init = recovery.pid_one_of(daemon)
            gone = select.poll()
            handle = os.pidfd_open(init)
            gone.register(handle, select.POLLIN)
            began = time.monotonic()
            inject(daemon, init)
            is_gone = bool(gone.poll(DEADLINE_S * 1000))
            took = (time.monotonic() - began) * 1000
            os.close(handle)
            return took if is_gone else None
        finally:
            # By force: it may hang in what was done to it.
            emperor.send_signal(signal.SIGSTOP)
            for pid in [daemon, *recovery.descendants(emperor.pid), emperor.pid]:
                with contextlib.suppress(ProcessLookupError, TypeError):
                    os.kill(pid, signal.SIGKILL)


class Crowd:
    """Idle vassals of one emperor, each with a filesystem of its own that is checked at the default
    interval."""

    VASSAL = f"""[uwsgi]
uid = {USER}
exec-as-user = fuse-zip -r /var/www/app001.zip /app
mountpoint-check = /app
command = sleep infinity
"""
    INTERVAL_S = 2.0

    def __init__(self, size, emperor_pid, log):
        self.size = size
        self.emperor = emperor_pid
        self.log = log

    def wait_until_running(self):
        def is_running():
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return len(re.findall(r": running after ", log.read())) == self.size

        recovery.poll_until(is_running, f"not all of {self.size} vassals run")

    def processes(self):
        """Pids by the program's name."""
        found = {}
        for pid in [self.emperor, *recovery.descendants(self.emperor)]:
            found.setdefault(recovery.name_of(pid), []).append(pid)
        return found


def cpu_seconds(crowds, seconds):
    """What each kind of process of each crowd has used of the CPUs meanwhile. A crowd is its pids by their
    names."""
    def used():
        return [{name: sum(map(cpu_time, pids)) for name, pids in crowd.items()} for crowd in crowds]

    before = used()
    time.sleep(seconds)
    return [{name: now[name] - then[name] for name in now} for now, then in zip(used(), before)]


def cpu_time(pid):
    return int(recovery.read_proc(pid, "schedstat").split()[0]) / 1e9


def private_kb(pid):
    return sum(map(int,
                   re.findall(r"^Private_\w+:\s+(\d+) kB", recovery.read_proc(pid, "smaps_rollup"), re.M)))
