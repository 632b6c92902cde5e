#!/usr/bin/python3
"""The measurements of scripts/bench, which sets the stage and starts this.

A section is a function from the bench to a table and its raw figures; SECTIONS lists them in the order in which they
run. A new one needs a function and a line there (and a word in the usage of scripts/bench).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import time

import recovery


@dataclasses.dataclass
class Table:
    """What a section shows, and what it writes to the JSON file."""

    title: str
    columns: list
    rows: list
    raw: dict


def main():
    arguments = parse_arguments()
    report = {"machine": machine(), "rounds": arguments.rounds, "sections": {}}
    try:
        with Bench(arguments.dist, arguments.rounds) as bench:
            for name in arguments.section or SECTIONS:
                table = SECTIONS[name](bench)
                print_table(table)
                report["sections"][name] = table.raw
    except recovery.Failure as failure:
        sys.exit(f"bench.py: {failure}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", required=True)
    parser.add_argument("--rounds", type=positive, default=10)
    parser.add_argument("--section", action="append", choices=SECTIONS)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


class Bench:
    """What sections share: the binaries, the number of rounds, and both emperors, started when first asked for."""

    def __init__(self, dist, rounds):
        self.dist = dist
        self.rounds = rounds
        self.exit_stack = contextlib.ExitStack()
        self.started = None

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.exit_stack.close()

    def supervisors(self):
        """By name: ours and uWSGI's, each with one vassal that serves, and each left alone for a while."""
        if self.started is None:
            ours = [os.path.join(self.dist, "emperor"), "/etc/uwsgi/emperor.ini"]
            peer = ["uwsgi", "--ini", "/etc/uwsgi/peer.ini"]
            self.started = {
                "vassal": self.exit_stack.enter_context(running(ours, 9090, "/run/bench-vassal.log")),
                "uWSGI": self.exit_stack.enter_context(running(peer, 9091, "/run/bench-uwsgi.log")),
            }
            time.sleep(2 * recovery.SETTLE_S)
        return self.started


@contextlib.contextmanager
def running(command, port, log):
    """An emperor that has its vassal up; stopped at the end."""
    with open(log, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            supervisor = recovery.Supervisor(process.pid, port, log)
            try:
                supervisor.wait_until_serving()
            except recovery.Failure as failure:
                with open(log, encoding="utf-8", errors="replace") as text:
                    raise recovery.Failure(f"{' '.join(command)}: {failure}\n{text.read()}") from failure
            yield supervisor
        finally:
            process.terminate()


def recovery_section(bench):
    """kill -9 of fuse-zip: until the instance is gone, until a new one serves."""
    supervisors = bench.supervisors()
    rounds = {name: [] for name in supervisors}
    for number in range(1, bench.rounds + 1):
        for name, supervisor in supervisors.items():
            progress(f"recovery: round {number} of {bench.rounds}, {name}")
            rounds[name].append(supervisor.recover())
            time.sleep(recovery.SETTLE_S)
    rows, raw = [], {}
    for figure, label in [
        ("detected_ms", "kill to noticed (own log)"),
        ("destroyed_ms", "kill to instance gone"),
        ("serving_ms", "kill to serving again"),
    ]:
        for name in supervisors:
            values = [figures[figure] for figures in rounds[name] if figures[figure] is not None]
            if values:
                summary = summarize(values)
                raw.setdefault(name, {})[figure] = summary
                rows.append([label, name, *(f"{summary[key]:.1f}" for key in ("p50", "p90", "max"))])
    for name in supervisors:
        raw[name]["rounds"] = rounds[name]
    title = f"Recovery after kill -9 of fuse-zip, {bench.rounds} rounds each, in ms"
    return Table(title, ["", "", "p50", "p90", "max"], rows, raw)


def footprint_section(bench):
    """Size of the programs, and the memory that is theirs alone while nothing happens."""
    rows, raw = [], {}
    for name, supervisor in bench.supervisors().items():
        for role, pid in [("emperor", supervisor.pid), ("PID 1 of the vassal", supervisor.vassal())]:
            # Not the name behind the link: vassal-init may run from a memfd.
            program, size = recovery.name_of(pid), os.stat(f"/proc/{pid}/exe").st_size
            dirty = private_dirty_kb(pid)
            raw.setdefault(name, {})[role] = {"program": program, "file_bytes": size, "private_dirty_kb": dirty}
            rows.append([role, f"{name}: {program}", f"{size:,}", f"{dirty}"])
    return Table("Size, and private dirty memory when idle", ["", "", "file, bytes", "memory, KB"], rows, raw)


SECTIONS = {"footprint": footprint_section, "recovery": recovery_section}


def private_dirty_kb(pid):
    return int(re.search(r"^Private_Dirty:\s+(\d+) kB", recovery.read_proc(pid, "smaps_rollup"), re.M).group(1))


def summarize(values):
    ordered = sorted(values)
    return {"p50": percentile(ordered, 50), "p90": percentile(ordered, 90), "max": ordered[-1], "n": len(ordered)}


def percentile(ordered, percent):
    """By linear interpolation between the two nearest values, as most programs do it."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def print_table(table):
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    print(f"\n{table.title}\n")
    for row in rows:
        # Words to the left, figures to the right.
        cells = [cell.ljust(width) if column < 2 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()


def machine():
    return {"kernel": platform.release(), "architecture": platform.machine(), "cpus": os.cpu_count(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def progress(text):
    print(f"==> {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
