#!/usr/bin/python3
"""The measurements of scripts/bench, which sets the stage and starts this.

A section is a function from the bench to a table and its raw figures; SECTIONS lists them in the order in
which they run, with their numbers of rounds. A new one needs a function and a line there (and one in the
usage of scripts/bench).
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bare
import crowd
import entrypoint
import faults
import growth
import jail
import recovery
import replicas
import stream
import supervisors


ORPHAN_ROUNDS = 5
PRIVATE = ["unshare", "--mount", "--propagation", "private"]
AS_USER = ["setpriv", "--reuid=user001", "--regid=user001", "--clear-groups"]


@dataclasses.dataclass
class Table:
    """What a section shows, and what it writes to the JSON file."""

    title: str
    columns: list
    rows: list
    raw: dict


def main():
    arguments = parse_arguments()
    report = {"machine": machine(), "sections": {}}
    print("Linux {kernel} on {cpus} CPUs, load average {load_average:.1f} at the start"
          .format(**report["machine"]))
    bench = Bench(arguments)
    try:
        with bench:
            for name, (section, rounds) in SECTIONS.items():
                if arguments.sections and name not in arguments.sections:
                    continue
                bench.rounds = arguments.rounds or (1 if bench.is_quick else rounds)
                table = section(bench)
                bench.unfinished = None
                print_table(table)
                report["sections"][name] = table.raw
    except recovery.Failure as failure:
        # What was measured until then took minutes.
        if bench.unfinished:
            print_table(bench.unfinished)
        sys.exit(f"bench.py: {failure}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", required=True)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--rounds", type=positive)
    parser.add_argument("--orphans", type=positive, default=10_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    arguments = parser.parse_args()
    for name in arguments.sections:
        if name not in SECTIONS:
            parser.error(f"no such section: {name} (there are: {', '.join(SECTIONS)})")
    return arguments


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


class Bench:
    """What sections share: the binaries, the number of rounds, and the emperors, each started when first
    asked for."""

    def __init__(self, arguments):
        self.dist = arguments.dist
        self.programs = arguments.programs
        self.orphans = arguments.orphans
        self.is_quick = arguments.quick
        self.rounds = 0
        self.ports = itertools.count(9110)
        # The table of a long section, as far as it goes.
        self.unfinished = None
        self.exit_stack = contextlib.ExitStack()
        self.started = {}

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.exit_stack.close()

    def zip_supervisors(self):
        """Ours and uWSGI's, over the tutorial's first vassal; and ours as an ordinary user, in user
        namespaces."""
        return self.supervisors("zip", ["emperor", "peer", "rootless"], [9090, 9091, 9100],
                                recovery.Daemon("fuse-zip"))

    def cow_supervisors(self):
        """Ours and uWSGI's, over the tutorial's second vassal."""
        return self.supervisors("cow", ["cow", "cow-peer"], [9092, 9093], recovery.Daemon("unionfs-fuse"))

    def supervisors(self, kind, files, ports, daemon):
        """By name: both emperors, each with one vassal that serves, and each left alone for a while.

        uWSGI's gets a private `/`: below a shared one its vassals' mounts come out, and pivot_root is
        refused.
        """
        if kind not in self.started:
            # A mount that is lost again and again would be waited for.
            emperor = [os.path.join(self.dist, "emperor"), "--emperor-max-throttle", "1"]
            starters = {"vassal": emperor, "uWSGI": [*PRIVATE, "uwsgi", "--ini"],
                        "vassal, no root": [*AS_USER, *emperor]}
            commands = {name: [*words, f"/etc/uwsgi/{file}.ini"]
                        for (name, words), file in zip(starters.items(), files)}
            self.started[kind] = {
                name: self.exit_stack.enter_context(
                    serving(command, port, f"/run/bench-{kind}-{name}.log", daemon))
                for (name, command), port in zip(commands.items(), ports)
            }
            time.sleep(2 * recovery.SETTLE_S)
        return self.started[kind]


@contextlib.contextmanager
def running(command, log):
    """An emperor, asked to stop at the end."""
    with open(log, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def serving(command, port, log, daemon):
    """An emperor that has its vassal up."""
    with running(command, log) as process:
        supervisor = recovery.Supervisor(process.pid, port, log, daemon)
        try:
            supervisor.wait_until_serving()
        except recovery.Failure as failure:
            with open(log, encoding="utf-8", errors="replace") as text:
                raise recovery.Failure(f"{' '.join(command)}: {failure}\n{text.read()}") from failure
        yield supervisor


def jail_section(bench):
    """The same small jail by several programs, from the start of the program to its end."""
    rows, raw = [], {}
    with tempfile.TemporaryDirectory(dir="/run") as directory, contextlib.ExitStack() as stack:
        scene = jail.Jail(os.path.join(directory, "jail"), bench.dist, bench.programs)
        contenders = scene.contenders()
        for name, contender in contenders.items():
            scene.require_works(name, contender)
        rounds = {name: [] for name in contenders}
        progress(f"jail: {bench.rounds} rounds of {', '.join(contenders)}")
        for _ in range(bench.rounds):
            for name, contender in contenders.items():
                time.sleep(jail.IDLE_S)
                rounds[name].append(scene.start_to_reaped_ms(contender))
        for name, values in rounds.items():
            remark = contenders[name].remark
            raw[name] = {"start_to_reaped_ms": summarize(values), "rounds": values}
            label = f"{name} ({remark})" if remark else name
            rows.append(["start to reaped", label, *figures_of(summarize(values), 2)])
        progress(f"jail: {bench.rounds} vassals of the emperor")
        log = scene.start_emperor(stack, running)
        values = [scene.clone_to_running_ms(log, number) for number in range(bench.rounds)]
        raw["emperor"] = {"clone_to_running_ms": summarize(values), "rounds": values}
        rows.append(["clone3 to app's exec", "emperor (own log)", *figures_of(summarize(values), 2)])
    title = ("A static `true` in a full jail (bind, pivot_root, /proc, /dev, old root gone, privileges "
             f"dropped), {bench.rounds} rounds\neach, interleaved, after {jail.IDLE_S} s of idling each, in ms; "
             "from before posix_spawn to after waitpid")
    return Table(title, ["", "", "p50", "p90", "max"], rows, raw)


def entrypoint_section(bench):
    """A command under several inits: start to reaped, memory, orphans."""
    rows, raw = [], {}
    contenders = entrypoint.contenders(bench.dist)
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        scene = jail.Jail(os.path.join(directory, "jail"), bench.dist, bench.programs)
        true = os.path.join(scene.root, "true")
        starts = {"no init": [], **{name: [] for name in contenders}}
        progress(f"entrypoint: {bench.rounds} rounds of {', '.join(contenders)}")
        for _ in range(bench.rounds):
            for name, values in starts.items():
                values.append(scene.start_to_reaped_ms(jail.Contender([*contenders.get(name, []), true])))
    for name, values in starts.items():
        raw[name] = {"start_to_reaped_ms": summarize(values), "rounds": values}
        rows.append(["start to reaped, ms", name, *figures_of(summarize(values), 2)])
    for name, init in contenders.items():
        raw[name]["private_dirty_kb"] = entrypoint.idle_kb(init, recovery.private_dirty_kb)
        rows.append(["idle, KB", name, str(raw[name]["private_dirty_kb"]), "", ""])
    # Orphans do not come to dumb-init here.
    reapers = [name for name in contenders if name != "dumb-init"]
    cpu = {name: [] for name in reapers}
    for number in range(ORPHAN_ROUNDS):
        for name in reapers:
            progress(f"entrypoint: {bench.orphans} orphans, round {number + 1} of {ORPHAN_ROUNDS}, {name}")
            cpu[name].append(entrypoint.orphans_cpu_ms(contenders[name], bench.orphans))
    for name, values in cpu.items():
        raw[name]["orphans_cpu_ms"] = summarize(values)
        rows.append([f"{bench.orphans} orphans, CPU ms", name, *figures_of(summarize(values), 1)])
    title = (f"Around a static `true`, {bench.rounds} rounds each, interleaved; from before posix_spawn to "
             "after waitpid")
    return Table(title, ["", "", "p50", "p90", "max"], rows, raw)


def recovery_section(bench):
    """kill -9 of fuse-zip: until the instance is gone, until a new one serves; and what that is made of."""
    return kill_rounds(bench, "recovery", "fuse-zip", bench.zip_supervisors(), bare.Parts(9098))


def connects_section(bench):
    """Connections at a constant rate while fuse-zip is killed again and again."""
    rows, raw = [], {}
    for name, supervisor in bench.zip_supervisors().items():
        # uWSGI takes four seconds each time.
        rounds = bench.rounds if name == "vassal" else min(bench.rounds, 5)
        stream = recovery.Connects(supervisor.port)
        for number in range(1, rounds + 1):
            progress(f"connects: kill {number} of {rounds}, {name}")
            supervisor.recover()
            time.sleep(recovery.SETTLE_S)
        seen = stream.stop()
        raw[name] = {"kills": rounds, **seen}
        rows.append([name, str(rounds), f"{seen['opened']:,}", f"{seen['refused']:,}"])
    title = f"Connections, {recovery.Connects.RATE} a second, while fuse-zip is killed"
    return Table(title, ["", "kills", "opened", "refused"], rows, raw)


def cow_section(bench):
    """The same of unionfs-fuse, which is the vassal's root."""
    return kill_rounds(bench, "cow", "unionfs-fuse", bench.cow_supervisors())


def kill_rounds(bench, section, daemon, supervisors, parts=None):
    rounds = {name: [] for name in supervisors}
    part_rounds = []
    for number in range(1, bench.rounds + 1):
        if parts:
            progress(f"{section}: round {number} of {bench.rounds}, the bare parts")
            part_rounds.append(parts.start())
        for name, supervisor in supervisors.items():
            progress(f"{section}: round {number} of {bench.rounds}, {name}")
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
                rows.append([label, name, *figures_of(summary, 1)])
    for name in supervisors:
        raw[name]["rounds"] = rounds[name]
    if part_rounds:
        raw["bare parts"] = {"rounds": part_rounds}
        for figure, label in [
            ("mount_ms", "fuse-zip's mount"),
            ("first_byte_ms", "uWSGI's first byte, then"),
            ("sum_ms", "both"),
        ]:
            raw["bare parts"][figure] = summarize([figures[figure] for figures in part_rounds])
            rows.append([label, "by a shell script", *figures_of(raw["bare parts"][figure], 1)])
        for name in supervisors:
            share = raw[name]["serving_ms"]["p50"] / raw["bare parts"]["sum_ms"]["p50"]
            raw[name]["serving_by_bare_parts"] = share
            rows.append(["serving again, by both", name, f"{share:.2f}", "", ""])
    title = f"Recovery after kill -9 of {daemon}, {bench.rounds} rounds each, in ms"
    return Table(title, ["", "", "p50", "p90", "max"], rows, raw)


def footprint_section(bench):
    """Size of the programs, and the memory that is theirs alone while nothing happens."""
    rows, raw = [], {}
    for name, supervisor in bench.zip_supervisors().items():
        for role, pid in [("emperor", supervisor.pid), ("PID 1 of the vassal", supervisor.vassal())]:
            # Not the name behind the link: vassal-init may run from a memfd.
            program, size = recovery.name_of(pid), os.stat(f"/proc/{pid}/exe").st_size
            dirty = recovery.private_dirty_kb(pid)
            raw.setdefault(name, {})[role] = {"program": program, "file_bytes": size,
                                              "private_dirty_kb": dirty}
            rows.append([role, f"{name}: {program}", f"{size:,}", f"{dirty}"])
    return Table("Size, and private dirty memory when idle", ["", "", "file, bytes", "memory, KB"], rows, raw)


def emperor_section(bench):
    """Many vassals at a time, one emperor after the other. uWSGI is not asked for more than 1,000."""
    rows, raw = [], {}
    for name, count in [("vassal", 1000), ("uWSGI", 1000), ("vassal", 5000)]:
        rounds = []
        for number in range(1, bench.rounds + 1):
            progress(f"emperor: round {number} of {bench.rounds}, {name} with {count:,} vassals")
            ours = [os.path.join(bench.dist, "emperor"), "--control", "/run/crowd.sock"]
            command = ours if name == "vassal" else [*PRIVATE, "uwsgi"]
            command = [*command, "--emperor", "/run/crowd", "--emperor-use-clone", "fs,pid"]
            stop = crowd.STOP_SIGNALS[name]
            rounds.append(crowd.measure(command, stop, count, "/run/crowd", f"/run/crowd-{name}.log"))
        figures = {key: percentile(sorted(figures[key] for figures in rounds), 50) for key in rounds[0]}
        raw[f"{name}, {count}"] = {**figures, "rounds": rounds}
        rows.append([
            name, f"{count:,}", f"{figures['up_s']:.2f}", f"{figures['gone_s']:.2f}",
            f"{figures['idle_percent']:.2f}", f"{figures['memory_kb']:,.0f}",
            f"{figures['descriptors_each']:.2f}", f"{figures['pid_1_kb']:.0f}",
        ])
    title = ("Vassals that sleep, as nobody, in pid and mount namespaces of their own; p50 of "
             f"{bench.rounds} rounds.\nMemory is private dirty: of the emperor with its scouts, and of the "
             "largest of 50 vassals' first processes")
    columns = ["", "vassals", "up, s", "stopped, s", "idle, %", "emperor, KB", "descriptors each",
               "PID 1, KB"]
    return Table(title, columns, rows, raw)


def faults_section(bench):
    """Faults of the filesystem, to ours and to uWSGI's: how long the instance outlives them."""
    rows, raw = [], {}
    for fault, (_, kind) in faults.FAULTS.items():
        commands = {
            "vassal": (
                [os.path.join(bench.dist, "emperor"), f"/etc/uwsgi/{kind}.ini", "--control",
                 "/run/bench-faults.sock"],
                9094 if kind == "plain" else 9096,
            ),
            "uWSGI": (
                [*PRIVATE, "uwsgi", "--ini", f"/etc/uwsgi/{kind}-peer.ini"], 9095 if kind == "plain" else 9097
            ),
        }
        for name, (command, port) in commands.items():
            progress(f"faults: {fault}, {name}")
            values = []
            while len(values) < bench.rounds and None not in values:
                values.append(faults.outlived_ms(command, port, f"/run/bench-faults-{name}.log", fault))
            raw.setdefault(fault, {})[name] = {"rounds": values}
            if None in values:
                cells = [f"never (>{faults.DEADLINE_S:.0f} s)", "", ""]
            else:
                raw[fault][name]["gone_ms"] = summarize(values)
                cells = figures_of(summarize(values), 1)
            rows.append([fault, name, *cells])
    title = f"Fault to instance gone, at most {bench.rounds} rounds each, in ms"
    return Table(title, ["", "", "p50", "p90", "max"], rows, raw)


def watch_section(bench):
    """What it costs to watch the filesystems of idle vassals, at the default interval, beside a bare program
    that asks."""
    size, seconds = 100, 20
    directory = "/etc/uwsgi/crowd"
    os.makedirs(directory)
    for number in range(size):
        with open(f"{directory}/v{number}.ini", "w", encoding="utf-8") as file:
            file.write(faults.Crowd.VASSAL)
    log, program = "/run/bench-crowd.log", "/run/statx-loop"
    # Where the user may run it.
    shutil.copy(os.path.join(bench.programs, "statx-loop"), program)
    options = ["--emperor-use-clone", "fs,pid", "--control", "/run/bench-crowd.sock"]
    command = [os.path.join(bench.dist, "emperor"), "--emperor", directory, *options]
    interval_s = faults.Crowd.INTERVAL_S
    with running(command, log) as process, bare.probes(program, size, interval_s) as probing:
        crowd = faults.Crowd(size, process.pid, log)
        progress(f"watch: {size} vassals, and {size} bare probes")
        crowd.wait_until_running()
        time.sleep(recovery.SETTLE_S)
        used, used_bare = faults.cpu_seconds([crowd.processes(), bare.probing(probing)], seconds)
        memory = [faults.private_kb(pid) for pid in crowd.processes()["vassal-probe"]]
    probes = size * seconds / interval_s
    ours = {name: used.get(name, 0.0) for name in ("vassal-probe", "vassal-init", "emperor", "fuse-zip")}
    theirs = {f"bare {name}": used_bare[name] for name in ("statx-loop", "fuse-zip")}
    rows = [["CPU of one probe, us", name, f"{value * 1e6 / probes:.1f}"]
            for name, value in {**ours, **theirs}.items()]
    total, total_bare = sum(ours.values()), sum(theirs.values())
    rows.append(["CPU of one probe, us", "all", f"{total * 1e6 / probes:.1f}"])
    rows.append(["CPU of one probe, us", "all of the bare ones", f"{total_bare * 1e6 / probes:.1f}"])
    rows.append(["CPU of a probe, by a bare one", "all", f"{total / total_bare:.2f}"])
    share = total / seconds * 1000 / size * 100
    rows.append(["1,000 such vassals, % of a core", "all", f"{share:.2f}"])
    rows.append(["private memory, KB", "vassal-probe", f"{max(memory)}"])
    raw = {"vassals": size, "seconds": seconds, "cpu_seconds": used, "bare_cpu_seconds": used_bare,
           "thousand_percent": share, "private_kb": memory}
    title = (f"Watching a FUSE filesystem: {size} idle vassals for {seconds} s, one probe in "
             f"{interval_s:.0f} s each;\nat the same time as many filesystems, each asked by a C program "
             "with one forced statx in that time")
    return Table(title, ["", "process", "figure"], rows, raw)


def config_section(_bench):
    """Configurations read in a process of its own (tests/bench/config.rs), which counts what it allocates."""
    output = subprocess.run(["cargo", "bench", "--locked", "--offline", "--quiet", "--bench", "config"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    rows, raw = [], []
    for result in json.loads(output):
        summary = summarize(result.pop("microseconds"))
        raw.append({**result, "microseconds": summary})
        rows.append([result["name"], f"{result['lines']} lines", *figures_of(summary, 1),
                     f"{result['peak_bytes'] / 1024:.0f}"])
    return Table("Reading a configuration, in µs, and the most memory that takes",
                 ["", "", "p50", "p90", "max", "memory, KB"], rows, raw)


def replicas_section(bench):
    """Requests to a vassal with replicas while it is reloaded, deployed with a mistake, and loses a
    filesystem; and how long many of them take to be up."""
    rows, raw = [], {}
    names = ["vassal", "uWSGI"] if bench.is_quick else list(replicas.LINES)
    title = (f"Requests to uWSGI with four processes over fuse-zip, {stream.RATE} a second, in ms: vassal "
             f"with {replicas.INSTANCES}\nreplicas; uWSGI reloaded by its emperor, or process by process "
             "(chain). (k) is with keep-alive; gap is the longest between\ntwo good answers")
    columns = ["", "", "times", "asked", "refused", "failed", "p50", "p99", "max", "gap"]
    bench.unfinished = Table(title, columns, rows, raw)
    for keeps_alive in [False] if bench.is_quick else [False, True]:
        for name in names:
            try:
                add_replicas(bench, name, keeps_alive, rows, raw)
            except recovery.Failure as failure:
                if name == "vassal":
                    raise
                # That it does not come back is a result, too.
                progress(f"replicas: {str(failure).splitlines()[0]}: what is left of its rounds is left out")
    add_crowd(bench, rows, raw)
    return bench.unfinished


def add_replicas(bench, name, keeps_alive, rows, raw):
    """All that is done to one of them."""
    # uWSGI takes seconds each time.
    rounds = bench.rounds if name == "vassal" else min(bench.rounds, 5)
    label = f"{name} (k)" if keeps_alive else name
    raw[label] = {}

    def note(what, seen):
        seen["ms"] = {**summarize(seen["ms"]), "p99": percentile(seen["ms"], 99)} if seen["ms"] else None
        cells = [f"{seen['ms'][key]:.1f}" if seen["ms"] else "-" for key in ("p50", "p99", "max")]
        rows.append([what, label, str(rounds), f"{seen['asked']:,}", f"{seen['refused']:,}",
                     f"{seen['failed']:,}", *cells, f"{seen['longest_gap_ms']:.1f}"])
        return {"times": rounds, **seen}

    with tempfile.TemporaryDirectory(dir="/var/www") as directory:
        os.chmod(directory, 0o755)
        service = replicas.Service(name, directory, next(bench.ports), bench.dist)
        socket = "http11-socket" if keeps_alive else "http-socket"

        def repeat(what, act):
            course = replicas.Course(service, keeps_alive)
            try:
                results = []
                for number in range(1, rounds + 1):
                    progress(f"replicas: {what} {number} of {rounds}, {label}")
                    results.append(course.do(act))
            finally:
                course.end()
            raw[label][what] = note(what, course.meanwhile())
            raw[label][what]["idle"] = note("  the pauses between them", course.in_pauses())
            return course, results

        with replicas.serving(service, socket, PRIVATE, running):
            repeat("reload", service.deploy)
            # Of the emperor alone: in a chain reload nothing else happens than without one.
            if name != "uWSGI, chain":
                course, ends = repeat("kill of fuse-zip", service.kill_daemon)
                gone_ms = summarize([(gone - killed) * 1000 for killed, gone in ends])
                raw[label]["kill of fuse-zip"].update(
                    gone_ms=gone_ms,
                    in_flight=note("  on their way until it was gone", course.overlapping(ends)),
                    around=note("  250 ms from each", course.overlapping(
                        [(killed, killed + replicas.AROUND_S) for killed, _ in ends])),
                )
            repeat("deploy of a mistake", service.deploy_mistake)


def add_crowd(bench, rows, raw):
    count = 100 if bench.is_quick else 1000
    for name, instances in [("vassal", replicas.INSTANCES), ("uWSGI", 1)]:
        progress(f"replicas: {name} with {count:,} vassals of {instances}")
        ours = [os.path.join(bench.dist, "emperor"), "--control", "/run/crowd.sock"]
        command = ours if name == "vassal" else [*PRIVATE, "uwsgi"]
        command = [*command, "--emperor", "/run/crowd", "--emperor-use-clone", "fs,pid"]
        seen = crowd.measure(command, crowd.STOP_SIGNALS[name], count, "/run/crowd", f"/run/crowd-{name}.log",
                             replicas=instances, idle_s=0)
        raw[f"{name}, {count} of {instances}"] = seen
        rows.append([f"{count:,} vassals of {instances} up, ms", name, "1", "", "", "",
                     f"{seen['up_s'] * 1000:.0f}", "", "", ""])


def growth_section(bench):
    """What a vassal costs as their number grows."""
    counts = [100, 300] if bench.is_quick else [100, 1000, 3000, 10000]
    rounds = {count: [] for count in counts}
    for number in range(1, bench.rounds + 1):
        for count in counts:
            progress(f"growth: round {number} of {bench.rounds}, {count:,} vassals")
            rounds[count].append(growth.measure(bench.dist, count, "/run/growth", "/run/growth.log"))
    rows, raw = [], {}
    for count, all_figures in rounds.items():
        figures = {key: statistics.median(figures[key] for figures in all_figures) for key in all_figures[0]}
        raw[str(count)] = {**figures, "rounds": all_figures}
        rows.append([f"{count:,}", f"{figures['up_s']:.2f}", f"{figures['stopped_s']:.2f}",
                     f"{figures['slab_each_kb']:.1f}", f"{figures['table_max']:.0f}",
                     f"{figures['memory_each_bytes'] / 1024:.2f}", f"{figures['descriptors_each']:.2f}",
                     f"{figures['idle_percent']:.3f}", f"{figures['status_json_ms']:.1f}",
                     f"{figures['problems_ms']:.1f}", f"{figures['enter_ms']:.1f}",
                     f"{figures['touched_cpu_ms']:.2f}", f"{figures['touched_ms']:.1f}",
                     f"{figures['respawned_ms']:.1f}"])
    title = ("One emperor, vassals that sleep, in pid and mount namespaces of their own; p50 of "
             f"{bench.rounds} rounds.\nslab and table: the kernel's memory a vassal, and the largest table of "
             "descriptors of a PID 1; touched: a file")
    columns = ["vassals", "up, s", "stopped, s", "slab, KB", "table", "emperor, KB each", "descriptors each",
               "idle, %", "status --json, ms", "--problems, ms", "enter, ms", "touched, CPU ms",
               "to reloaded, ms", "kill -9 to running, ms"]
    return Table(title, columns, rows, raw)


def supervisors_section(bench):
    """A thousand services under several supervisors, one after the other in each round."""
    count = 50 if bench.is_quick else 1000
    program = os.path.join(bench.programs, "service")
    contenders = supervisors.contenders(bench.dist, PRIVATE)
    rounds = {name: [] for name in contenders}
    for number in range(1, bench.rounds + 1):
        for name, contender in contenders.items():
            progress(f"supervisors: round {number} of {bench.rounds}, {name}")
            rounds[name].append(supervisors.measure(contender, program, count))
    rows, raw = [], {}
    for name, all_figures in rounds.items():
        figures = {key: statistics.median(figures[key] for figures in all_figures) for key in all_figures[0]}
        raw[name] = {**figures, "rounds": all_figures}
        left = f", {figures['left']:.0f} left" if figures["left"] else ""
        rows.append([name, f"{figures['processes']:,.0f}", f"{figures['up_s']:.2f}",
                     f"{figures['idle_ms_s']:.2f}", f"{figures['memory_each_kb']:.1f}",
                     f"{figures['slab_each_kb']:.1f}", f"{figures['respawned_ms']:.2f}",
                     f"{figures['ended_s']:.2f}", f"{figures['gone_s']:.2f}{left}"])
    title = (f"{count:,} services of one program; p50 of {bench.rounds} rounds. memory: private dirty, of all "
             "supervising\nprocesses together; respawned: kill -9 of a service to the first instruction of the "
             "next one")
    columns = ["", "processes", "up, s", "idle, ms/s", "memory, KB each", "slab, KB each", "respawned, ms",
               "ended, s", "all gone, s"]
    return Table(title, columns, rows, raw)


# The one that minds company goes first.
SECTIONS = {
    "entrypoint": (entrypoint_section, 200),
    "jail": (jail_section, 100),
    "watch": (watch_section, 1),
    "faults": (faults_section, 5),
    "config": (config_section, 1),
    "footprint": (footprint_section, 1),
    "recovery": (recovery_section, 10),
    "connects": (connects_section, 20),
    "cow": (cow_section, 10),
    "replicas": (replicas_section, 20),
    "emperor": (emperor_section, 1),
    "growth": (growth_section, 1),
    "supervisors": (supervisors_section, 3),
}


def summarize(values):
    ordered = sorted(values)
    return {"p50": percentile(ordered, 50), "p90": percentile(ordered, 90), "max": ordered[-1],
            "n": len(ordered)}


def figures_of(summary, digits):
    return [f"{summary[key]:.{digits}f}" for key in ("p50", "p90", "max")]


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
    return {
        "kernel": ".".join(platform.release().split(".")[:2]),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "is_real_time": os.sched_getscheduler(0) != os.SCHED_OTHER,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def progress(text):
    print(f"==> {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
