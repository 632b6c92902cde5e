#!/usr/bin/python3
"""Measures how a vassal recovers when its FUSE daemon is killed.

For each round: kill -9 of the daemon (fuse-zip when not told otherwise), then three times in milliseconds
from that:

  detected   the supervisor's own figure, from its log line `mountpoint /app lost: ..., 0.4 ms after the
             daemon died`; the line has none if the daemon was not quite gone by then
  destroyed  PID 1 of the vassal is gone, and with it, by the kernel's order, every other process of it
  serving    a request on a new connection, made after that, was answered with 200

Run on a stage (scripts/stage), where the supervisor is running already. Used by scripts/demo as a program and
by scripts/bench as a module.
"""

import argparse
import json
import os
import re
import select
import signal
import socket
import sys
import time

LOST = re.compile(r"mountpoint \S+ lost: .*?([0-9.]+) (µs|ms|s) after the daemon died")
TOLD = re.compile(r"^emperor: \S+: mountpoint \S+ lost: ", re.M)
IN_MS = {"µs": 0.001, "ms": 1.0, "s": 1000.0}
# Long enough that the next loss does not count as a failed start: a supervisor then respawns at once.
SETTLE_S = 1.5
DEADLINE_S = 30.0


class Failure(Exception):
    """Something did not happen in time, or not as it should."""


def main():
    arguments = parse_arguments()
    supervisor = Supervisor(
        arguments.supervisor, arguments.port, arguments.log,
        Daemon(arguments.daemon, arguments.daemon_argument)
    )
    load = Load(arguments.port)
    neighbour = Load(arguments.neighbour) if arguments.neighbour else None
    rounds = []
    log_end = os.path.getsize(arguments.log)
    try:
        supervisor.wait_until_serving()
        for number in range(1, arguments.rounds + 1):
            time.sleep(SETTLE_S)
            rounds.append(supervisor.recover())
            print_round(number, rounds[-1])
        time.sleep(0.5)
    except Failure as failure:
        sys.exit(f"recovery.py: {failure}")
    finally:
        seen = load.stop()
        neighbour_seen = neighbour.stop() if neighbour else None
    print(
        f"\n  The stream, one request after the other: {seen['ok']} answered with 200, {seen['failed']} "
        "refused or cut off during the recoveries;\n  the longest gap between two good answers was "
        f"{seen['longest_gap_ms']:.0f} ms."
    )
    if neighbour:
        print(
            f"  The neighbour on port {arguments.neighbour}, meanwhile: {neighbour_seen['ok']} answered with "
            "200, "
            f"{neighbour_seen['failed']} failed."
        )
        if neighbour_seen["failed"] or not neighbour_seen["ok"]:
            sys.exit("recovery.py: the neighbour was disturbed")
    told = len(TOLD.findall(read_from(arguments.log, log_end)))
    if told < len(rounds):
        sys.exit(f"recovery.py: the log has {told} lines about {len(rounds)} losses")
    if all(figures["detected_ms"] is None for figures in rounds):
        sys.exit("recovery.py: the log has no line that says when the loss was detected")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supervisor", type=int, required=True, metavar="PID", help="the running emperor")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--daemon", default="fuse-zip", metavar="NAME", help="the program to kill")
    parser.add_argument("--daemon-argument", metavar="WORD", help="the one with this among its arguments")
    parser.add_argument("--neighbour", type=int, metavar="PORT",
                        help="a vassal that must answer all the time")
    parser.add_argument("--log", required=True, metavar="FILE", help="where the emperor's stderr goes")
    return parser.parse_args()


def print_round(number, figures):
    if number == 1:
        print(f"  {'round':>5}  {'detected':>12}  {'destroyed':>12}  {'serving again':>14}")
    cells = ["-" if value is None else f"{value:.1f} ms" for value in figures.values()]
    print(f"  {number:>5}  {cells[0]:>12}  {cells[1]:>12}  {cells[2]:>14}", flush=True)


class Daemon:
    """What is to be killed: a program by its name, and by an argument where an emperor has several of
    them."""

    def __init__(self, name, argument=None):
        self.name = name
        self.argument = argument

    def is_it(self, pid):
        return name_of(pid) == self.name and (
            self.argument is None or self.argument in read_proc(pid, "cmdline").split("\0")
        )


class Supervisor:
    """A running emperor, ours or uWSGI's, and a vassal of it that serves HTTP on a port from what a daemon
    mounts."""

    def __init__(self, pid, port, log, kind):
        self.pid = pid
        self.port = port
        self.log = log
        self.kind = kind

    def wait_until_serving(self):
        poll_until(lambda: http_status(self.port) == 200, f"no page on port {self.port}")

    def recover(self):
        """One round. The figures in milliseconds, in the order in which they happen."""
        daemon = self.daemon()
        init = pid_one_of(daemon)
        handle = os.pidfd_open(init)
        gone = select.poll()
        gone.register(handle, select.POLLIN)
        log_end = os.path.getsize(self.log)

        killed_at = time.monotonic()
        os.kill(daemon, signal.SIGKILL)
        if not gone.poll(DEADLINE_S * 1000):
            raise Failure(f"PID 1 of the vassal is still there {DEADLINE_S:.0f} s after the kill")
        destroyed_at = time.monotonic()
        os.close(handle)
        self.wait_until_serving()
        serving_at = time.monotonic()
        return {
            "detected_ms": self.detected_after(log_end),
            "destroyed_ms": (destroyed_at - killed_at) * 1000,
            "serving_ms": (serving_at - killed_at) * 1000,
        }

    def daemon(self):
        return self.only([pid for pid in descendants(self.pid) if self.kind.is_it(pid)], self.kind.name)

    def vassal(self):
        """PID 1 of the vassal, by its pid out here."""
        return pid_one_of(self.daemon())

    def only(self, pids, what):
        if len(pids) != 1:
            raise Failure(f"expected one {what} below process {self.pid}, found {len(pids)}")
        return pids[0]

    def detected_after(self, offset):
        found = LOST.search(read_from(self.log, offset))
        return float(found.group(1)) * IN_MS[found.group(2)] if found else None


class Load:
    """A process that sends one request after the other, so that the kills hit a vassal at work."""

    PAUSE_S = 0.005

    def __init__(self, port):
        self.result, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.run(port, write_end)
        os.close(write_end)

    def run(self, port, write_end):
        running = True

        def finish(_signal, _frame):
            nonlocal running
            running = False

        signal.signal(signal.SIGTERM, finish)
        seen = {"ok": 0, "failed": 0, "longest_gap_ms": 0.0}
        last_good = None
        while running:
            if http_status(port) == 200:
                now = time.monotonic()
                if last_good is not None:
                    seen["longest_gap_ms"] = max(seen["longest_gap_ms"], (now - last_good) * 1000)
                last_good = now
                seen["ok"] += 1
            elif last_good is not None:
                seen["failed"] += 1
            time.sleep(self.PAUSE_S)
        os.write(write_end, json.dumps(seen).encode())
        # Not sys.exit: this is a copy of the parent, whose clean-up is the parent's business.
        os._exit(0)

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        with os.fdopen(self.result) as result:
            seen = json.load(result)
        os.waitpid(self.pid, 0)
        return seen


class Connects(Load):
    """A process that opens connections at a constant rate, whatever becomes of the ones before."""

    RATE = 250
    # A connection is kept for its answer for so long.
    PATIENCE_S = 10.0

    def run(self, port, write_end):
        running = True

        def finish(_signal, _frame):
            nonlocal running
            running = False

        signal.signal(signal.SIGTERM, finish)
        seen = {"opened": 0, "refused": 0}
        waiting = []
        due = time.monotonic()
        while running:
            due += 1 / self.RATE
            try:
                connection = socket.create_connection(("127.0.0.1", port), self.PATIENCE_S)
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                waiting.append((due, connection))
                seen["opened"] += 1
            except ConnectionRefusedError:
                seen["refused"] += 1
            except OSError:
                # Reset by an instance that died with it in hand.
                seen["opened"] += 1
            while waiting and (waiting[0][0] < due - self.PATIENCE_S or is_answered(waiting[0][1])):
                waiting.pop(0)[1].close()
            time.sleep(max(0.0, due - time.monotonic()))
        os.write(write_end, json.dumps(seen).encode())
        # As above.
        os._exit(0)


def is_answered(connection):
    return bool(select.select([connection], [], [], 0)[0])


def http_status(port, timeout=5.0):
    """The status of GET / on a new connection, None when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = connection.recv(64)
    except OSError:
        return None
    words = answer.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def poll_until(condition, otherwise):
    """Asks every millisecond."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{otherwise} after {DEADLINE_S:.0f} s")
        time.sleep(0.001)


def descendants(ancestor):
    """All processes below a process, at any depth. One that ends meanwhile is left out."""
    children = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        children.setdefault(parent_of(pid), []).append(pid)
    found, pending = [], [ancestor]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def pid_one_of(pid):
    """PID 1 of the pid namespace that a process lives in: the last of its ancestors in the same one."""
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    while True:
        parent = parent_of(pid)
        if not parent or os.readlink(f"/proc/{parent}/ns/pid") != namespace:
            return pid
        pid = parent


def read_from(path, offset):
    with open(path, encoding="utf-8", errors="replace") as file:
        file.seek(offset)
        return file.read()


def parent_of(pid):
    stat = read_proc(pid, "stat")
    # The name is in parentheses and may hold anything, parentheses too: count from the last one.
    return int(stat.rpartition(")")[2].split()[1]) if stat else None


def name_of(pid):
    return read_proc(pid, "comm").strip()


def private_dirty_kb(pid):
    return int(re.search(r"^Private_Dirty:\s+(\d+) kB", read_proc(pid, "smaps_rollup"), re.M).group(1))


def read_proc(pid, name):
    """The text of a file below /proc/PID, empty when the process has ended."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


if __name__ == "__main__":
    main()
