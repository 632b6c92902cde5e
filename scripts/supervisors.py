"""Measures supervisors with many services of one program, which notes when it starts and then waits.

Each gets its own form of the same services, started, left alone, killed one after another, and stopped. Used
by scripts/bench as a module.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import time

import crowd
import growth
import recovery

IDLE_S = 10.0
# The longest that a supervisor may take to end, and what it leaves behind.
PATIENCE_S = 35.0
# Between two kills: s6 and supervisord wait for a second before they start a service again.
BETWEEN_S = 0.05
PLACE = "/run/supervisors"
PROGRAM = f"{PLACE}/service"
MARKS = f"{PLACE}/marks"
VASSAL = f"[uwsgi]\nuid = nobody\ngid = nogroup\n%s = {PROGRAM}\n"


class Contender:
    """A supervisor: how its services are written, its command, and the signal that stops it."""

    def __init__(self, write, command, stop, slow=False):
        self.write, self.command, self.stop, self.is_slow = write, command, stop, slow


def contenders(dist, private):
    """By name. A slow one is asked for a few respawns only."""
    emperor = [os.path.join(dist, "emperor"), "--control", f"{PLACE}/control", "--emperor", f"{PLACE}/all"]
    uwsgi = [*private, "uwsgi", "--emperor", f"{PLACE}/all"]
    return {
        "emperor": Contender(vassals("command"), emperor, signal.SIGTERM),
        "emperor, fs,pid": Contender(vassals("command"), [*emperor, "--emperor-use-clone", "fs,pid"],
                                     signal.SIGTERM),
        "runit": Contender(run_scripts, ["runsvdir", f"{PLACE}/all"], signal.SIGHUP),
        "s6": Contender(run_scripts, ["s6-svscan", "-c", "20000", f"{PLACE}/all"], signal.SIGTERM, True),
        "supervisord": Contender(programs, ["supervisord", "-n", "-c", f"{PLACE}/supervisord.conf"],
                                 signal.SIGTERM, True),
        "uWSGI": Contender(vassals("unprivileged-binary-patch-arg"), uwsgi, signal.SIGINT, True),
    }


def vassals(key):
    def write(count):
        os.mkdir(f"{PLACE}/all")
        for number in range(count):
            put(f"{PLACE}/all/v{number:05}.ini", VASSAL % key)
    return write


def run_scripts(count):
    for number in range(count):
        os.makedirs(f"{PLACE}/all/v{number:05}")
        put(f"{PLACE}/all/v{number:05}/run", f"#!/bin/sh\nexec {PROGRAM}\n", 0o755)


def programs(count):
    put(f"{PLACE}/supervisord.conf",
        f"[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={PLACE}/pid\nminfds=10000\n"
        f"[program:v]\ncommand={PROGRAM}\nnumprocs={count}\nprocess_name=%(process_num)05d\n"
        "stdout_logfile=NONE\nstderr_logfile=NONE\n")


def put(path, text, mode=0o644):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, mode)


def measure(contender, program, count):
    """All figures of one supervisor."""
    os.mkdir(PLACE, 0o755)
    try:
        shutil.copy(program, PROGRAM)
        put(MARKS, "", 0o666)
        contender.write(count)
        with open(f"{PLACE}/log", "wb") as output:
            slab, began = growth.slab_kb(), time.monotonic()
            with subprocess.Popen(contender.command, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=output) as process:
                try:
                    return live(process, contender, count, slab, began)
                finally:
                    process.kill()
                    for pid in services():
                        os.kill(pid, signal.SIGKILL)
    finally:
        shutil.rmtree(PLACE)


def live(process, contender, count, slab, began):
    marks = growth.Log(MARKS)
    starts = wait_for_marks(marks, count)
    figures = {"up_s": max(starts) - began}
    time.sleep(2)
    figures["slab_each_kb"] = (growth.slab_kb() - slab) / count
    own = supervising(process.pid)
    figures["processes"] = len(own)
    figures["memory_each_kb"] = sum(map(recovery.private_dirty_kb, own)) / count
    used, start = growth.cpu_s(own), time.monotonic()
    time.sleep(IDLE_S)
    figures["idle_ms_s"] = (growth.cpu_s(own) - used) * 1000 / (time.monotonic() - start)
    victims = services()[:5 if contender.is_slow else 40]
    figures["respawned_ms"] = statistics.median(respawn(pid, marks) for pid in victims)
    start = time.monotonic()
    process.send_signal(contender.stop)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    figures["ended_s"] = time.monotonic() - start
    while services() and time.monotonic() < start + PATIENCE_S:
        time.sleep(0.01)
    figures["gone_s"], figures["left"] = time.monotonic() - start, len(services())
    return figures


def respawn(pid, marks):
    """From the kill of a service to the first instruction of the next one, in ms."""
    time.sleep(BETWEEN_S)
    marks.lines()
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return (wait_for_marks(marks, 1)[0] - start) * 1000


def wait_for_marks(marks, count):
    """When so many services have started, on the clock of time.monotonic()."""
    found, deadline = [], time.monotonic() + crowd.DEADLINE_S
    while len(found) < count:
        if time.monotonic() > deadline:
            raise recovery.Failure(f"waited {crowd.DEADLINE_S} s for {count} services, {len(found)} came")
        time.sleep(0.001 if count == 1 else 0.01)
        found += [int(line) / 1e9 for line in marks.lines()]
    return found


def services():
    return [int(pid) for pid in crowd.pids() if crowd.name_of(pid) == "service"]


def supervising(pid):
    """A supervisor, and all that it has started but the services."""
    return [pid, *(other for other in recovery.descendants(pid) if crowd.name_of(other) != "service")]
