#!/usr/bin/python3
"""Injects faults into many vassals of one emperor; checks that all serve again and that nothing is left over.

Used by scripts/soak, on a stage; its usage says what there is to say. One thread: an answer of an app, a
timer or the end of a command is an event.
"""

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time

import recovery

BASE = "/run/soak"
# Vassals move between the first two. The third is one of a bindfs, on which every tenth vassal has its file.
REMOTE, REAL = f"{BASE}/remote", f"{BASE}/real"
DIRECTORIES = (f"{BASE}/vassals", f"{BASE}/more", f"{REMOTE}/vassals")
LOCAL, ON_REMOTE = 2, 2
CONTROL = f"{BASE}/control"
LOG = f"{BASE}/emperor.log"
# How the vassals are checked, and what follows from it for the times that are promised.
CHECK_INTERVAL_S = 0.5
CHECK_TIMEOUT_S = 2.0
HEARTBEAT_S = 4
SCAN_S = 1
# What a restart may take beside the time until the fault is noticed, on a machine that is not overloaded.
RESTART_S = 1.0
# All vassals at once, by the two that an emperor starts at a time for each processor.
ALL_AGAIN_S = 15.0
# After the promised time and this one more, a vassal counts as lost for good.
LOST_AFTER_S = 25.0
# An instance that is lost sooner than this after its start counts as failed, and its successor has to wait.
SETTLE_S = 1.5
FROZEN_S = 0.5
IN_FLIGHT_MAX = 24
PER_SECOND_MAX = 4
UPGRADE_EVERY_S = 20.0
# An emperor waits 2 s for vassal-init to be read, and refuses an upgrade then, as the new one does. On a
# machine that is far too busy that is no fault, unless it happens again and again.
UPGRADE_TRIES = 3
REFUSED = ("does its filesystem answer?", "exited with status 1; everything stays as it is")
EMPEROR_KILLED_EVERY_S = 300.0
# A directory hangs for so long at least, and until the emperor has told of it.
HUNG_EVERY_S = 25.0
HUNG_S = 5.0
TOLD_WITHIN_S = 15.0
# The emperor answers within this time, on a machine that is far too busy.
STATUS_S = 10.0
RETRY_S = 0.01

VASSAL_INI = """[uwsgi]
uid = user001
exec-as-root = {base}/faulty-fuse /app /dev/null direct good
mountpoint-check = /app
mountpoint-check-interval = {interval:.0f}ms
mountpoint-check-timeout = {timeout:.0f}ms
mountpoint-lost = {policy}
listen = {socket}
command = {base}/soak-app /app/file
"""

libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
CLONE_NEWNS = 0x20000


class Violation(Exception):
    """Something that must not happen."""


@dataclasses.dataclass
class Fault:
    """A kind of fault: how often it is chosen, and within what time a vassal is promised to serve again."""

    weight: int
    promise_s: float
    inject: object = None
    # Whether the app goes on.
    same_app: bool = False
    # Whether it is something that is done to the vassal's file.
    is_in_file: bool = False


class Vassal:
    """A vassal, by its number; its name and directory change when its file is renamed."""

    def __init__(self, number):
        self.number = number
        self.letter = "v"
        self.is_remote = number % 10 == 0
        self.directory = ON_REMOTE if self.is_remote else number % LOCAL
        self.socket = f"{BASE}/sockets/{number}.sock"
        self.started = None
        self.serving_since = None
        self.trial = None

    @property
    def name(self):
        return f"{self.letter}{self.number:03}"

    @property
    def path(self):
        return f"{DIRECTORIES[self.directory]}/{self.name}.ini"

    def write(self):
        # Every second one survives the loss of its mount.
        policy = "remount" if self.number % 2 else "destroy"
        with open(self.path, "w", encoding="ascii") as file:
            file.write(VASSAL_INI.format(base=BASE, interval=CHECK_INTERVAL_S * 1000,
                                         timeout=CHECK_TIMEOUT_S * 1000, policy=policy, socket=self.socket))


class Trial:
    """A question to one vassal: asked again and again until the answer is the one that is waited for."""

    def __init__(self, vassal, kind, promise_s, same_app, began):
        self.vassal = vassal
        self.kind = kind
        self.promise_s = promise_s
        self.same_app = same_app
        self.began = began
        self.connection = None
        self.ask_at = began
        self.last_answer = "none"

    def is_answer(self, started, content):
        is_right = content == "content" and (self.vassal.started is None or
                                             (started == self.vassal.started) == self.same_app)
        self.last_answer = f"{content!r} of the {'same' if started == self.vassal.started else 'next'} app"
        return is_right

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None


class Soak:
    """The emperor, its vassals, and what is under way."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        self.vassals = [Vassal(number) for number in range(arguments.vassals)]
        self.trials = set()
        self.by_descriptor = {}
        self.poll = select.epoll()
        self.timers = []
        self.took = collections.defaultdict(list)
        self.injected = collections.Counter()
        self.absorbed = 0
        self.by_itself = 0
        self.emperor = None
        self.upgrading = None
        self.remote = None
        # While a directory hangs, the vassal in it whose file is changed meanwhile.
        self.hang = None
        self.hung_since = 0.0
        self.ask_status_at = 0.0
        self.to_hang = itertools.cycle(vassal for vassal in self.vassals if vassal.is_remote)
        self.injected_beside = 0
        self.slowest_status_s = 0.0
        self.order = self.choose()
        self.next_choice = None
        self.put_off = collections.deque()

    # What is there, and how it starts and ends.

    def prepare(self):
        for directory in (*DIRECTORIES[:LOCAL], REMOTE, f"{REAL}/vassals", f"{BASE}/sockets"):
            os.makedirs(directory, exist_ok=True)
        os.chmod(f"{BASE}/sockets", 0o777)
        # Of which the kernel remembers nothing: it is asked each time.
        forget = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        self.remote = subprocess.Popen(["bindfs", "-f", "-o", forget, REAL, REMOTE], stdin=subprocess.DEVNULL)
        recovery.poll_until(lambda: os.path.ismount(REMOTE),
                            "nothing is mounted for the directory that hangs")
        for vassal in self.vassals:
            vassal.write()

    def start_emperor(self):
        command = [f"{self.arguments.dist}/emperor", "--emperor-use-clone", "fs,pid", "--control", CONTROL,
                   "--emperor-required-heartbeat", str(HEARTBEAT_S), "--emperor-freq", str(SCAN_S)]
        for directory in DIRECTORIES:
            command += ["--emperor", directory]
        if self.arguments.cgroup:
            command += ["--emperor-cgroup", self.arguments.cgroup]
        with open(LOG, "ab") as log:
            self.emperor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask_all(self, kind, promise_s):
        """Every vassal is to serve by a new app; whatever is under way is forgotten."""
        began = time.monotonic()
        self.absorbed += len(self.trials) if kind else 0
        for trial in list(self.trials):
            self.end(trial)
        self.timers.clear()
        for vassal in self.vassals:
            self.begin(Trial(vassal, None, promise_s, False, began))
        self.run_until(lambda: not self.trials)
        if kind:
            self.injected[kind] += 1
            self.took[kind].append(time.monotonic() - began)

    # Events.

    def begin(self, trial):
        trial.vassal.trial = trial
        self.trials.add(trial)

    def end(self, trial):
        trial.close()
        trial.vassal.trial = None
        self.trials.discard(trial)

    def run_until(self, is_over, deadline=None):
        while not is_over() and (deadline is None or time.monotonic() < deadline):
            self.step()

    def step(self):
        """Deals with what has happened, or waits a moment for it."""
        now = time.monotonic()
        for timer in [timer for timer in self.timers if timer[0] <= now]:
            self.timers.remove(timer)
            timer[1]()
        for trial in list(self.trials):
            if now - trial.began > trial.promise_s + LOST_AFTER_S:
                kind = trial.kind or "start of all"
                raise Violation(f"{trial.vassal.name}: does not serve {now - trial.began:.0f} s after: "
                                f"{kind}; "
                                f"its last answer: {trial.last_answer}")
            if trial.connection is None and trial.ask_at <= now:
                self.ask(trial)
        if self.hang:
            self.hang_on(now)
        for descriptor, _ in self.poll.poll(RETRY_S):
            self.hear(self.by_descriptor[descriptor])
        if self.emperor.poll() is not None:
            raise Violation(f"the emperor has ended with status {self.emperor.returncode}")
        if self.upgrading and self.upgrading[0].poll() is not None:
            self.upgraded()

    def ask(self, trial):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(trial.vassal.socket)
        except OSError:
            # There is no emperor, or the queue is full.
            connection.close()
            trial.ask_at = time.monotonic() + RETRY_S
            return
        trial.connection = connection
        self.by_descriptor[connection.fileno()] = trial
        self.poll.register(connection, select.EPOLLIN)

    def hear(self, trial):
        try:
            words = trial.connection.recv(128).decode("ascii").split(None, 1)
        except OSError:
            words = []
        trial.close()
        now = time.monotonic()
        if len(words) == 2 and trial.is_answer(int(words[0]), words[1].strip()):
            vassal = trial.vassal
            if vassal.started != int(words[0]):
                vassal.started, vassal.serving_since = int(words[0]), now
            if trial.kind:
                self.took[trial.kind].append(now - trial.began)
            self.end(trial)
        else:
            trial.ask_at = now + RETRY_S

    # Faults.

    def choose(self):
        """Pairs of a fault and a vassal, for ever, in an order that only the seed decides. Every vassal has
        its turn
        before the first one has the next."""
        names = list(FAULTS)
        weights = [FAULTS[name].weight for name in names]
        while True:
            for vassal in self.random.sample(self.vassals, len(self.vassals)):
                kind = self.random.choices(names, weights)[0]
                yield "renamed" if kind == "moved" and vassal.is_remote else kind, vassal

    def inject_next(self, now):
        """The next fault, if it can be injected now."""
        if len(self.trials) >= IN_FLIGHT_MAX:
            return False
        if self.put_off and not self.hang:
            self.next_choice = self.next_choice or self.put_off.popleft()
        kind, vassal = self.next_choice or next(self.order)
        if self.hang and (vassal is self.hang or vassal.is_remote and FAULTS[kind].is_in_file):
            self.put_off.append((kind, vassal))
            self.next_choice = None
            return False
        self.next_choice = (kind, vassal)
        if vassal.trial or now < vassal.serving_since + SETTLE_S:
            return False
        if not self.is_as_known(vassal, now):
            return False
        fault = FAULTS[kind]
        began = time.monotonic()
        if not fault.inject(self, vassal):
            # Its instance has just ended by itself, or the emperor is being upgraded.
            return False
        self.next_choice = None
        self.injected[kind] += 1
        self.injected_beside += self.hang is not None
        self.begin(Trial(vassal, kind, fault.promise_s, fault.same_app, began))
        return True

    def is_as_known(self, vassal, now):
        """Whether the vassal still serves by the app that is known."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            with contextlib.suppress(OSError):
                connection.connect(vassal.socket)
                words = connection.recv(128).decode("ascii").split()
                if words[1:] == ["content"] and int(words[0]) == vassal.started:
                    return True
        say(f"{vassal.name}: another app than before, or no answer for 1 s, without a fault of ours; see the "
            "log")
        self.by_itself += 1
        vassal.started = None
        self.begin(Trial(vassal, None, ALL_AGAIN_S, False, now))
        return False

    def at(self, seconds, action):
        self.timers.append((time.monotonic() + seconds, action))

    def init_of(self, vassal):
        """PID 1 of a vassal; None while the emperor does not say."""
        answer = self.status(vassal.name, "--json")
        found = json.loads(answer.stdout)["vassals"] if answer.returncode == 0 else []
        return found[0]["pid"] if found else None

    def status(self, *words):
        command = [f"{self.arguments.dist}/emperor", "status", *words, "--control", CONTROL]
        began = time.monotonic()
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=STATUS_S, check=False)
        except subprocess.TimeoutExpired:
            raise Violation(f"emperor status: no answer for {STATUS_S:.0f} s") from None
        finally:
            self.slowest_status_s = max(self.slowest_status_s, time.monotonic() - began)

    def hang_directory(self, now):
        self.hang = next(vassal for vassal in self.to_hang if not vassal.trial)
        self.remote.send_signal(signal.SIGSTOP)
        self.hung_since = now
        self.ask_status_at = now + HUNG_S

    def hang_on(self, now):
        """Has the directory answer again once the emperor has told that it does not."""
        if now < self.ask_status_at:
            return
        self.ask_status_at = now + 0.2
        if f"directory {DIRECTORIES[ON_REMOTE]} does not answer since" not in self.status().stdout:
            if now > self.hung_since + TOLD_WITHIN_S:
                raise Violation("emperor status: not a word of a directory that hangs since "
                                f"{TOLD_WITHIN_S:.0f} s")
            return
        # Behind the back of the daemon, as it does not answer.
        os.utime(self.hang.path.replace(REMOTE, REAL))
        vassal = self.hang
        self.answer()
        now = time.monotonic()
        # Those that have to be started could not be.
        for trial in self.trials:
            if trial.vassal.is_remote:
                trial.began = now
        self.injected["directory hung"] += 1
        self.begin(Trial(vassal, "directory hung", HUNG_PROMISE_S, False, now))

    def answer(self):
        self.remote.send_signal(signal.SIGCONT)
        self.hang = None

    def upgrade(self, tries=UPGRADE_TRIES):
        command = [f"{self.arguments.dist}/emperor", "upgrade", "--control", CONTROL]
        self.upgrading = (subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           text=True),
                          time.monotonic(), tries)
        self.injected["emperor upgraded"] += 1

    def upgraded(self):
        command, began, tries = self.upgrading
        self.upgrading = None
        said = command.communicate()[0].strip()
        if command.returncode == 0:
            self.took["emperor upgraded"].append(time.monotonic() - began)
        elif tries > 1 and any(reason in said for reason in REFUSED):
            say(f"emperor upgrade: status {command.returncode}: {said}; once more")
            self.upgrade(tries - 1)
        else:
            raise Violation(f"emperor upgrade: status {command.returncode}: {said}")

    def kill_emperor(self):
        if self.upgrading:
            self.upgrading[0].kill()
            self.upgrading[0].communicate()
            self.upgrading = None
        self.emperor.kill()
        self.emperor.wait()
        self.answer()
        self.start_emperor()
        self.ask_all("emperor killed and started", ALL_AGAIN_S)

    # The whole of it.

    def run(self):
        self.prepare()
        self.start_emperor()
        self.ask_all(None, ALL_AGAIN_S)
        time.sleep(SETTLE_S)
        before = self.settled(None)
        say(f"{len(self.vassals)} vassals serve; {before.text()}")
        began = time.monotonic()
        length = self.arguments.minutes * 60
        # The last emperor lives for more than half of the time, so that what it loses adds up.
        kills = [at for at in frange(length / 5, length / 2, EMPEROR_KILLED_EVERY_S)]
        upgrades = list(frange(UPGRADE_EVERY_S / 2, length, UPGRADE_EVERY_S))
        hangs = list(frange(HUNG_EVERY_S / 2, length - HUNG_S, HUNG_EVERY_S))
        next_at = began
        while (now := time.monotonic()) < began + length:
            if kills and now >= began + kills[0]:
                kills.pop(0)
                self.kill_emperor()
            if upgrades and now >= began + upgrades[0] and not self.upgrading:
                upgrades.pop(0)
                self.upgrade()
            if hangs and now >= began + hangs[0] and not self.hang:
                hangs.pop(0)
                self.hang_directory(now)
            if now >= next_at and self.inject_next(now):
                next_at = max(next_at + 1 / PER_SECOND_MAX, now - 1)
            self.step()
        self.run_until(lambda: not self.trials and not self.upgrading and not self.timers and not self.hang)
        took = time.monotonic() - began
        self.all_serve()
        after = self.settled(before)
        say(f"afterwards: {after.text()}")
        self.report(took)
        self.stop()

    def all_serve(self):
        began = time.monotonic()
        for vassal in self.vassals:
            vassal.started = None
            self.begin(Trial(vassal, None, ALL_AGAIN_S, False, began))
        self.run_until(lambda: not self.trials)

    def settled(self, before):
        """What there is, once nothing changes any more that should not be there."""
        deadline = time.monotonic() + LOST_AFTER_S
        while True:
            found = Inventory(self.emperor.pid, self.arguments.cgroup)
            wrong = found.excess(before, len(self.vassals))
            if not wrong:
                return found
            if time.monotonic() > deadline:
                raise Violation(f"left over: {wrong}")
            self.run_until(lambda: False, time.monotonic() + 0.5)

    def report(self, took):
        rows = [["fault", "injected", "recovered", "in the promised time", "promised, s", "p50, s", "max, s"]]
        promises = {name: fault.promise_s for name, fault in FAULTS.items()}
        promises |= {"directory hung": HUNG_PROMISE_S, "emperor upgraded": RESTART_S,
                     "emperor killed and started": ALL_AGAIN_S}
        for kind, promise_s in promises.items():
            if not self.injected[kind]:
                continue
            times = sorted(self.took[kind])
            in_time = sum(seconds <= promise_s for seconds in times)
            p50, most = (f"{times[len(times) // 2]:.3f}", f"{times[-1]:.3f}") if times else ("", "")
            rows.append([kind, self.injected[kind], len(times), in_time, promise_s, p50, most])
        widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            rest = [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
            print("  ".join([str(row[0]).ljust(widths[0]), *rest]))
        total = sum(self.injected.values())
        print(f"{total} faults in {took:.0f} s, {total / took * 3600:.0f} an hour; {self.absorbed} were "
              "overtaken by "
              f"the end of the emperor; {self.by_itself} times a vassal had another app, or gave no answer, "
              f"without a fault of ours; {self.injected_beside} were injected while a directory hung; "
              "'emperor status' "
              f"took {self.slowest_status_s:.3f} s at most", flush=True)

    def stop(self):
        self.emperor.terminate()
        try:
            self.emperor.wait(LOST_AFTER_S)
        except subprocess.TimeoutExpired:
            raise Violation("the emperor does not stop") from None
        libc.umount2(REMOTE.encode(), MNT_DETACH)
        try:
            self.remote.wait(LOST_AFTER_S)
        except subprocess.TimeoutExpired:
            raise Violation("somebody keeps the mount of the directory that hung") from None
        recovery.poll_until(lambda: not Inventory.of_names(recovery.descendants(os.getpid())),
                            "processes are left")
        left = mounts_of("self") - self.arguments.mounts
        if left:
            raise Violation(f"mounts are left: {left}")


class Inventory:
    """What an emperor and its vassals consist of."""

    OF_VASSAL = ("vassal-init", "vassal-probe", "faulty-fuse", "soak-app")
    OF_DIRECTORY = "emperor-scout"

    def __init__(self, emperor, cgroup):
        below = recovery.descendants(emperor)
        self.processes = self.of_names(below)
        self.zombies = sum(recovery.read_proc(pid, "stat").rpartition(")")[2].split()[:1] == ["Z"]
                           for pid in below)
        self.descriptors = len(os.listdir(f"/proc/{emperor}/fd"))
        self.memory_kb = recovery.private_dirty_kb(emperor)
        inits = [pid for pid in below if recovery.name_of(pid) == "vassal-init"]
        self.init_kb = sorted(private_kb(pid) for pid in inits)
        self.init_descriptors = max((count_in(f"/proc/{pid}/fd") for pid in inits), default=0)
        self.mounts = max((len(mounts_of(pid)) for pid in inits), default=0)
        self.host_mounts = len(mounts_of("self"))
        self.readers = sum(recovery.name_of(pid) == "emperor-reader" for pid in below)
        self.sockets = recovery.read_proc("net", "unix").count("\n")
        self.cgroups = sum(1 for entry in os.scandir(cgroup) if entry.is_dir()) if cgroup else 0

    @classmethod
    def of_names(cls, pids):
        """How many processes there are of each program."""
        names = collections.Counter(map(recovery.name_of, pids))
        return {name: names[name] for name in sorted(names) if name in (*cls.OF_VASSAL, cls.OF_DIRECTORY)}

    def excess(self, before, vassals):
        """What there is too much of, or too little; None if there is nothing."""
        wanted = dict.fromkeys(self.OF_VASSAL, vassals) | {self.OF_DIRECTORY: len(DIRECTORIES)}
        if self.processes != wanted or self.zombies:
            return f"processes: {self.processes} and {self.zombies} dead ones, where there should be {wanted}"
        if before is None:
            return None
        limits = {
            # Clients of the control socket may just be leaving.
            "descriptors": before.descriptors + 2,
            # The heap keeps its pages, and the history of each vassal has become as long as it gets.
            "memory_kb": before.memory_kb + 4 * vassals + 256,
            "init_descriptors": before.init_descriptors,
            "mounts": before.mounts,
            "readers": max(before.readers, 1),
            "host_mounts": before.host_mounts,
            # A question of ours, and whoever asks on the machine.
            "sockets": before.sockets + 4,
            "cgroups": before.cgroups,
        }
        for name, limit in limits.items():
            if getattr(self, name) > limit:
                return (f"{name}: {getattr(self, name)}, before {getattr(before, name)}, "
                        f"at most {limit} allowed")
        # Those that have remounted have done more than one that has just started.
        if self.init_kb[-1] > before.init_kb[-1] + 128:
            return f"memory of a PID 1: {self.init_kb[-1]} kB, before {before.init_kb[-1]} kB"
        return None

    def text(self):
        return (f"the emperor has {self.descriptors} descriptors and {self.memory_kb} kB, PID 1 at most "
                f"{self.init_descriptors} descriptors and {self.init_kb[-1]} kB; {self.sockets} sockets, "
                f"{self.cgroups} cgroups, {self.host_mounts} mounts")


def private_kb(pid):
    found = re.search(r"^Private_Dirty:\s+(\d+) kB", recovery.read_proc(pid, "smaps_rollup"), re.M)
    return int(found.group(1)) if found else 0


def count_in(directory):
    try:
        return len(os.listdir(directory))
    except OSError:
        return 0


def mounts_of(pid):
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            return {line.split()[0] for line in file}
    except OSError:
        return set()


def frange(start, end, step):
    while start < end:
        yield start
        start += step


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


# The faults. Each gets the soak and a vassal, and tells whether it has happened.


def signals(name, number):
    """A signal to the process of this name in a vassal."""
    def inject(soak, vassal):
        init = soak.init_of(vassal)
        return bool(init) and send(process_in(init, name), number)
    return inject


def process_in(init, name):
    if name == "vassal-init":
        return init
    found = [pid for pid in below(init) if recovery.name_of(pid) == name]
    return found[0] if len(found) == 1 else None


def below(pid):
    """The processes below one; some may be left out that begin or end just now. Others are not looked at."""
    found, pending = [], [pid]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                pending += map(int, recovery.read_proc(parent, f"task/{thread}/children").split())
        found.append(parent)
    return found[1:]


def send(pid, number):
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def freeze_init(and_kill):
    """PID 1 stops for a moment, and its daemon may die in it."""
    def inject(soak, vassal):
        init = soak.init_of(vassal)
        if not init or not send(init, signal.SIGSTOP):
            return False
        handle = os.pidfd_open(init)

        def go_on():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            os.close(handle)

        soak.at(FROZEN_S, go_on)
        return not and_kill or send(process_in(init, "faulty-fuse"), signal.SIGKILL)
    return inject


def in_mounts(action):
    """A call in the mount namespace of a vassal, by a process of its own."""
    def inject(soak, vassal):
        init = soak.init_of(vassal)
        if not init:
            return False
        child = os.fork()
        if child == 0:
            try:
                with open(f"/proc/{init}/ns/mnt", "rb") as namespace:
                    os._exit(1 if libc.setns(namespace.fileno(), CLONE_NEWNS) or action() else 0)
            finally:
                os._exit(2)
        return os.waitpid(child, 0)[1] == 0
    return inject


def unmount():
    return libc.umount2(b"/app", MNT_DETACH)


def overmount():
    return libc.mount(b"soak", b"/app", b"tmpfs", 0, None)


def touch(_soak, vassal):
    os.utime(vassal.path)
    return True


def rename(_soak, vassal):
    before = vassal.path
    vassal.letter = "w" if vassal.letter == "v" else "v"
    os.rename(before, vassal.path)
    return True


def move(_soak, vassal):
    """To the other directory, with the same name."""
    before = vassal.path
    vassal.directory = 1 - vassal.directory
    os.rename(before, vassal.path)
    return True


SILENT_S = CHECK_INTERVAL_S + CHECK_TIMEOUT_S + RESTART_S
FAULTS = {
    "daemon killed": Fault(20, RESTART_S, signals("faulty-fuse", signal.SIGKILL)),
    "daemon stopped": Fault(8, SILENT_S, signals("faulty-fuse", signal.SIGSTOP)),
    "unmounted": Fault(12, RESTART_S, in_mounts(unmount)),
    "mounted over": Fault(12, RESTART_S, in_mounts(overmount)),
    "app killed": Fault(10, RESTART_S, signals("soak-app", signal.SIGKILL)),
    "app frozen": Fault(5, HEARTBEAT_S + RESTART_S, signals("soak-app", signal.SIGSTOP)),
    "PID 1 killed": Fault(10, RESTART_S, signals("vassal-init", signal.SIGKILL)),
    "PID 1 frozen": Fault(4, RESTART_S, freeze_init(False), same_app=True),
    "PID 1 frozen, daemon killed": Fault(6, FROZEN_S + RESTART_S, freeze_init(True)),
    "reloaded": Fault(15, RESTART_S, touch, is_in_file=True),
    "renamed": Fault(8, RESTART_S, rename, is_in_file=True),
    "moved": Fault(8, RESTART_S, move, is_in_file=True),
}
# The next look at a directory that answers again, and what it leads to.
HUNG_PROMISE_S = SCAN_S + RESTART_S


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dist", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--vassals", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--cgroup", default="")
    arguments = parser.parse_args()
    arguments.mounts = mounts_of("self")
    soak = Soak(arguments)
    try:
        soak.run()
    except (Violation, recovery.Failure) as violation:
        with contextlib.suppress(Exception):
            soak.report(1)
        print(f"soak: seed {arguments.seed}: {violation}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
