"""Measures an emperor with many vassals: `sleep`, each with its own processes and mounts, as another user.

For each emperor, with a directory of the same files: from its start until every `sleep` runs, what it costs
while nothing happens, and from SIGTERM (SIGINT, for uWSGI) to its end, when no vassal may be left. Used by
scripts/bench as a module.
"""

import os
import signal
import subprocess
import time

import recovery

VASSAL = "[uwsgi]\nuid = nobody\ngid = nogroup\nunprivileged-binary-patch-arg = sleep 1000000\n"
REPLICAS = "replicas = {}\n"
# Scans of the directory come every 3 s in both: some of them belong to what an idle emperor costs.
IDLE_S = 15
DEADLINE_S = 180
POLL_S = 0.05
STOP_SIGNALS = {"vassal": signal.SIGTERM, "uWSGI": signal.SIGINT}


def measure(command, stop_signal, count, directory, log, replicas=1, idle_s=IDLE_S):
    """All figures of one emperor. `directory` is made, filled and emptied. What it costs when idle is left
    out if that may take no time."""
    text = VASSAL if replicas == 1 else VASSAL + REPLICAS.format(replicas)
    os.makedirs(directory)
    try:
        for number in range(count):
            with open(os.path.join(directory, f"v{number:05}.ini"), "w", encoding="ascii") as file:
                file.write(text)
        with open(log, "wb") as output:
            return live(command, stop_signal, count * replicas, output, idle_s)
    finally:
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def live(command, stop_signal, count, output, idle_s):
    before = len(sleepers())
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
        try:
            # Counting is cheap, looking at each is not: that is left for the end.
            wait_for(lambda: len(pids()) >= count and len(sleepers()) - before == count,
                     f"{count} running vassals")
            figures = {"vassals": count, "up_s": time.monotonic() - start}
            time.sleep(2)
            if idle_s:
                figures.update(idle(process.pid, count, idle_s))
            start = time.monotonic()
            process.send_signal(stop_signal)
            process.wait(DEADLINE_S)
            figures["stopped_s"] = time.monotonic() - start
        finally:
            process.kill()
    wait_for(lambda: len(sleepers()) == before, "the end of all vassals")
    figures["gone_s"] = time.monotonic() - start
    return figures


def idle(pid, count, idle_s):
    """What the emperor costs while nothing happens, with the processes that look at directories and files for
    it."""
    children = recovery.read_proc(pid, f"task/{pid}/children").split()
    deputies = [child for child in children if name_of(child) in ("emperor-scout", "emperor-reader")]
    inits = [child for child in children if child not in deputies]
    of_emperor = [pid, *deputies]
    ticks, start = sum(map(cpu_ticks, of_emperor)), time.monotonic()
    time.sleep(idle_s)
    used = (sum(map(cpu_ticks, of_emperor)) - ticks) / os.sysconf("SC_CLK_TCK")
    memory = sum(map(recovery.private_dirty_kb, of_emperor))
    return {
        "idle_percent": 100 * used / (time.monotonic() - start),
        "memory_kb": memory,
        "descriptors_each": len(os.listdir(f"/proc/{pid}/fd")) / count,
        "pid_1_kb": max(recovery.private_dirty_kb(child) for child in inits[:50]),
    }


def wait_for(holds, what):
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise recovery.Failure(f"waited {DEADLINE_S} s for {what}")
        time.sleep(POLL_S)


def pids():
    return [name for name in os.listdir("/proc") if name.isdigit()]


def sleepers():
    return [pid for pid in pids() if name_of(pid) == "sleep"]


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def cpu_ticks(pid):
    fields = recovery.read_proc(pid, "stat").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
