"""Measures what a vassal costs as their number grows: `sleep`, in pid and mount namespaces of its own.

One emperor at a time, with a directory of the same files. Its log says when the last app runs; what it costs
is the time on a processor of the emperor and its scouts and readers (`/proc/PID/schedstat`, which has
nanoseconds), their private memory, and the kernel's memory for objects (slab) of the whole machine. Used by
scripts/bench as a module.
"""

import contextlib
import glob
import os
import signal
import statistics
import subprocess
import time

import crowd
import recovery

VASSAL = "[uwsgi]\nuid = nobody\ngid = nogroup\ncommand = sleep 1000000\n"
IDLE_S = 20.0
TOUCHES = 5
# How often each command is run.
COMMANDS = 5
# The scan that comes by itself must not fall into what is measured.
BETWEEN_S = 0.3
CONTROL = "/run/growth.sock"


class Log:
    """A log that grows."""

    def __init__(self, path):
        self.path, self.place, self.rest = path, 0, ""

    def lines(self):
        """The lines since the last call."""
        with open(self.path, encoding="utf-8", errors="replace") as file:
            file.seek(self.place)
            text = self.rest + file.read()
            self.place = file.tell()
        *lines, self.rest = text.split("\n")
        return lines

    def wait_for(self, word, count=1):
        """Until so many more lines have the word."""
        def are_there():
            nonlocal count
            count -= sum(word in line for line in self.lines())
            return count <= 0
        deadline = time.monotonic() + crowd.DEADLINE_S
        while not are_there():
            if time.monotonic() > deadline:
                raise recovery.Failure(f"waited {crowd.DEADLINE_S} s for {count} times `{word}`")
            time.sleep(0.005)


def measure(dist, count, directory, log):
    """All figures of one emperor with so many vassals."""
    os.makedirs(directory)
    for number in range(count):
        with open(f"{directory}/v{number:05}.ini", "w", encoding="ascii") as file:
            file.write(VASSAL)
    emperor = os.path.join(dist, "emperor")
    command = [emperor, "--emperor", directory, "--emperor-use-clone", "fs,pid", "--control", CONTROL]
    try:
        with open(log, "wb") as output:
            slab, began = slab_kb(), time.monotonic()
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
                try:
                    return live(process, emperor, Log(log), count, directory, slab, began)
                finally:
                    process.kill()
    finally:
        for path in glob.glob(f"{directory}/*"):
            os.unlink(path)
        os.rmdir(directory)


def live(process, emperor, log, count, directory, slab, began):
    log.wait_for(": running after", count)
    figures = {"vassals": count, "up_s": time.monotonic() - began}
    time.sleep(2)
    figures["slab_each_kb"] = (slab_kb() - slab) / count
    children = recovery.read_proc(process.pid, f"task/{process.pid}/children").split()
    inits = [pid for pid in children if crowd.name_of(pid) == "vassal-init"]
    deputies = [pid for pid in children if crowd.name_of(pid) in ("emperor-scout", "emperor-reader")]
    ours = [process.pid, *deputies]
    figures["memory_each_bytes"] = recovery.private_dirty_kb(process.pid) * 1024 / count
    figures["descriptors_each"] = len(os.listdir(f"/proc/{process.pid}/fd")) / count
    figures["table_max"] = max(map(table_size, inits))
    used, start = cpu_s(ours), time.monotonic()
    time.sleep(IDLE_S)
    figures["idle_percent"] = 100 * (cpu_s(ours) - used) / (time.monotonic() - start)
    name = f"v{count // 2:05}"
    for key, words in [("status_json_ms", ["status", "--json"]), ("problems_ms", ["status", "--problems"]),
                       ("enter_ms", ["enter", name, "--", "true"])]:
        figures[key] = statistics.median(command_ms(emperor, words) for _ in range(COMMANDS))
    touched = [touch(ours, log, f"{directory}/{name}.ini") for _ in range(TOUCHES)]
    figures["touched_cpu_ms"] = statistics.median(cpu for cpu, _ in touched)
    figures["touched_ms"] = statistics.median(elapsed for _, elapsed in touched)
    figures["respawned_ms"] = statistics.median(respawn(pid, log) for pid in inits[:2 * TOUCHES])
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(crowd.DEADLINE_S)
    figures["stopped_s"] = time.monotonic() - start
    return figures


def touch(pids, log, path):
    """What it costs them to reload the vassal of a file that was touched, in ms of a processor, and how long
    that takes."""
    time.sleep(BETWEEN_S)
    log.lines()
    used, start = cpu_s(pids), time.monotonic()
    os.utime(path)
    log.wait_for(": reloaded after")
    elapsed = time.monotonic() - start
    # The line may be written before the work is over.
    time.sleep(BETWEEN_S)
    return (cpu_s(pids) - used) * 1000, elapsed * 1000


def respawn(pid, log):
    """How long it takes until another one runs in place of the instance whose PID 1 is killed, in ms."""
    time.sleep(BETWEEN_S)
    log.lines()
    start = time.monotonic()
    os.kill(int(pid), signal.SIGKILL)
    log.wait_for(": running after")
    return (time.monotonic() - start) * 1000


def command_ms(emperor, words):
    """How long a command for the emperor takes, in ms."""
    start = time.monotonic()
    subprocess.run([emperor, "--control", CONTROL, *words], check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - start) * 1000


def cpu_s(pids):
    return sum(int(recovery.read_proc(pid, "schedstat").split()[0]) for pid in pids) / 1e9


def table_size(pid):
    """The number of entries in the descriptor table of a process."""
    with contextlib.suppress(ValueError):
        status = recovery.read_proc(pid, "status").split()
        return int(status[status.index("FDSize:") + 1])
    return 0


def slab_kb():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Slab:"))

