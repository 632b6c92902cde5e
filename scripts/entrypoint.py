"""What the section `entrypoint` of scripts/bench measures: vassal-init around one command, beside tini,
dumb-init and catatonit.

Three figures of each: the time around a static `true`, the memory that is its own while nothing happens, and
the CPU time that orphans cost it that die at the same moment.
"""

import os
import signal
import subprocess
import sys
import time

import recovery

# Leaves orphans, as many hundreds as its argument says, that all wait for the end of one pipe, says so, and
# ends that pipe when its own input ends.
PARENT = """
import os, sys, time
reader, writer = os.pipe()
for _ in range(100):
    if os.fork() == 0:
        for _ in range(int(sys.argv[1])):
            if os.fork() == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
        os._exit(0)
for _ in range(100):
    os.wait()
os.write(1, b"ready")
os.read(0, 1)
os.close(writer)
time.sleep(1000)
"""


def contenders(dist):
    """By name: what comes before the command. All reap orphans, but for dumb-init, which has to be PID 1 for
    that."""
    return {
        "vassal-init": [os.path.join(dist, "vassal-init"), "--"],
        "tini-static": ["tini-static", "-s", "--"],
        "tini": ["tini", "-s", "--"],
        "dumb-init": ["dumb-init", "--"],
        "catatonit": ["catatonit", "--"],
    }


def idle_kb(init, true_memory):
    """Private dirty memory while the command sleeps."""
    with subprocess.Popen([*init, "sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        recovery.poll_until(lambda: children(process.pid), f"{init[0]}: no command")
        time.sleep(0.2)
        memory = true_memory(process.pid)
        process.terminate()
    return memory


def orphans_cpu_ms(init, count):
    """User and system time from the moment they begin to die until the last one is reaped."""
    command = [*init, sys.executable, "-c", PARENT, str(count // 100)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout.read(5) != b"ready":
            raise recovery.Failure(f"{init[0]}: no orphans")
        before = cpu_ns(process.pid)
        process.stdin.close()
        recovery.poll_until(lambda: len(children(process.pid)) == 1, f"{init[0]}: orphans are left")
        used = cpu_ns(process.pid) - before
        process.send_signal(signal.SIGTERM)
    return used / 1e6


def cpu_ns(pid):
    """The first field of schedstat: time on a CPU, in nanoseconds."""
    return int(recovery.read_proc(pid, "schedstat").split()[0])


def children(pid):
    return recovery.read_proc(pid, f"task/{pid}/children").split()
