#!/usr/bin/python3
"""Follows docs/operating.md in a guest, line by line, and then tries what real systemd and cgroups are about.

Started by scripts/vm --guide, as root, in a machine that is thrown away. Each check is a line, `ok` or
`failed` with what it is about and how long it took; the status is 1 if one has failed. Nothing here is about
how fast something is: the guest is ten times as slow as the machine around it.
"""

import os
import re
import signal
import subprocess
import sys
import time

from documents import block, commands_below
from guest import (Failed, all_pass, expect, pids, read, run, state, succeeds, until, vassal, with_line,
                   write)

OPERATING, GUIDE = "docs/operating.md", "docs/guide.md"
NOTIFY_RELOAD = "[Service]\nType=notify-reload\n"
EMPEROR_INI = "/etc/uwsgi/emperor.ini"
VASSALS = "/etc/uwsgi/vassals"
DROP_IN = "/etc/systemd/system/emperor.service.d/guide.conf"
CGROUPS = "/sys/fs/cgroup"
METRICS = "127.0.0.1:9191"
OWN_CGROUP = f"{CGROUPS}/system.slice/emperor.service"
# What a probe may take (mountpoint-check-timeout), and more.
FROZEN_S = 8
# WatchdogSec= and TimeoutAbortSec= of the unit are 35 s. A SIGABRT that is not heard, without the second,
# took 120 s.
WATCHDOG_S = 110
SLOW_STOP_S = 4
DEAF = "/run/deaf"
MEASURED_S = 5

CHECKS = []


def check(name, since_systemd=0):
    def add(function):
        CHECKS.append((name, since_systemd, function))
        return function

    return add


def main():
    version = int(re.search(r"systemd (\d+)", run("systemctl --version")).group(1))
    print(f"guide: Linux {os.uname().release}, systemd {version}", flush=True)
    checks = [(name, function) for name, since, function in guide_lines() + CHECKS if version >= since]
    return all_pass("guide", checks, lambda: run("journalctl -u emperor -o cat --no-pager | tail -n 150"))


def guide_lines():
    """Every command of the guide, as a check: what there is to install, and what there is to do from day to
    day."""
    lines = []
    for heading in ("To begin with", "From day to day"):
        for line in commands_below(OPERATING, heading):
            lines.append((line, 0, lambda line=line: follow(line)))
    if not lines:
        raise SystemExit(f"guide: no commands in {OPERATING}")
    return lines


def follow(line):
    names = {"FILE.ini": f"{VASSALS}/hello.ini", " emperor.ini": f" {EMPEROR_INI}", "NAME": "hello"}
    for name, real in names.items():
        line = line.replace(name, real)
    pid = main_pid()
    run_patiently(line)
    if line == "systemctl enable --now emperor":
        until("hello runs", lambda: state("hello") == "running")
    if line == "emperor stop hello":
        until("hello is stopped", lambda: state("hello") == "stopped")
        run("emperor start hello")
        until("hello runs again", lambda: state("hello") == "running")
    if line == "emperor upgrade":
        expect(main_pid() == pid, f"the emperor is process {main_pid()} instead of {pid}")
    if line == "emperor upgrade --roll":
        # A reload while instances are being replaced is part of that, and no line of the log of its own.
        until("hello is replaced", lambda: told("emperor: hello/2: takes over ") == 1)
        until("the one before is gone", lambda: len(pids("vassal-init")) == 1)


def run_patiently(line):
    """The guest may take longer to read a program than an emperor waits for it: 2 s. It says so itself, or has
    a new one say so, which it then refuses."""
    reasons = ("does its filesystem answer?", "exited with status 1; everything stays as it is")
    for is_last in (False, False, True):
        try:
            return run(line)
        except Failed as failure:
            if is_last or not any(reason in str(failure) for reason in reasons):
                raise


@check("systemd knows that it is ready, its status and its lines")
def unit_is_active():
    expect_property("ActiveState", "active")
    expect(shown("StatusText") != "", "no StatusText")
    until("a line of hello's in the journal", lambda: told("emperor: hello: running after ") > 0)


@check("systemctl reload reloads every vassal")
def reload():
    pid, before = main_pid(), told("emperor: hello: reloaded after ")
    run("systemctl reload emperor")
    until("hello is reloaded", lambda: told("emperor: hello: reloaded after ") > before)
    expect_same_emperor(pid)


@check("the tutorial's vassal serves its page by FUSE")
def tutorial():
    library = f". scripts/lib.sh; write_zip /var/www/app001.zip; write_vassal_ini {VASSALS}/app001.ini 9090"
    run(library)
    until("the page", has_page)


@check("kill -9 of its FUSE daemon")
def kill_daemon():
    lose("KILL")


@check("kill -STOP of its FUSE daemon")
def stop_daemon():
    lose("STOP")


def lose(name):
    before = told("emperor: app001: mountpoint /app lost: ")
    run(f"pkill -{name} -x fuse-zip")
    until("the loss is told", lambda: told("emperor: app001: mountpoint /app lost: ") > before)
    until("the page again", has_page)
    until("one FUSE daemon is left", lambda: len(pids("fuse-zip")) == 1)


@check("both programs installed anew, then an upgrade: no vassal notices")
def upgrade():
    pid, vassals = main_pid(), [pid_of("hello"), pid_of("app001")]
    run("install dist/emperor dist/vassal-init /usr/local/sbin/")
    run_patiently("emperor upgrade")
    expect_same_emperor(pid)
    now = [pid_of("hello"), pid_of("app001")]
    expect(now == vassals, f"the vassals were {vassals} and are {now}")


@check("systemctl restart")
def restart():
    run("systemctl restart emperor")
    until("the page", has_page)


@check("systemctl stop leaves no process and no mount")
def stop():
    run("systemctl stop emperor")
    left = [name for name in ("emperor", "vassal-init", "uwsgi", "fuse-zip", "sleep") if pids(name)]
    expect(not left, f"left: {left}")
    expect("fuse-zip" not in read("/proc/self/mounts"), "a FUSE mount is left")


@check("what is enabled starts with multi-user.target")
def start_with_target():
    run("systemctl start multi-user.target")
    until("the page", has_page)


@check("kill -9 of the emperor: systemd starts it, and all vassals are back")
def kill_emperor():
    is_started_anew(signal.SIGKILL)


@check("SIGABRT ends it at once, with a line")
def abort_emperor():
    before = told("ending at once")
    is_started_anew(signal.SIGABRT)
    until("its line", lambda: told("ending at once") > before)


@check("the watchdog ends an emperor that hangs, without the time that a stop may take")
def watchdog():
    took = is_started_anew(signal.SIGSTOP)
    expect(took < WATCHDOG_S, f"it took {took:.0f} s")


def is_started_anew(number):
    # systemd counts how often it starts a unit, and gives up.
    run("systemctl reset-failed emperor")
    pid, began = main_pid(), time.monotonic()
    os.kill(pid, number)
    until("another emperor", lambda: main_pid() not in (0, pid))
    took = time.monotonic() - began
    until("hello runs", lambda: state("hello") == "running")
    until("the page", has_page)
    return took


@check("a mistake in emperor.ini: status 78, and no restarts")
def mistake():
    text = read(EMPEROR_INI)
    write(EMPEROR_INI, text + "emperor-freq = abc\n")
    run("systemctl restart emperor", status=1)
    until("the unit has failed", lambda: shown("ActiveState") == "failed")
    expect_property("ExecMainStatus", "78")
    expect_property("NRestarts", "0")
    write(EMPEROR_INI, text)
    run("systemctl restart emperor")
    until("hello runs", lambda: state("hello") == "running")


@check("emperor-cgroup = /sys/fs/cgroup/vassals, in a unit without Delegate=")
def cgroups_of_the_root():
    configure(f"{CGROUPS}/vassals", "Delegate=no")
    expect_limits(f"{CGROUPS}/vassals")


@check("emperor-cgroup below the unit's own cgroup, which is delegated")
def cgroups_of_the_unit():
    configure(f"{OWN_CGROUP}/vassals", "Delegate=yes")
    expect_limits(f"{OWN_CGROUP}/vassals")
    cgroup = read(f"/proc/{main_pid()}/cgroup").strip()
    expect(cgroup.endswith("/emperor.service/emperor-main"), f"the emperor is in {cgroup}")
    # Started anew, it finds the cgroups of before.
    is_started_anew(signal.SIGKILL)
    expect_limits(f"{OWN_CGROUP}/vassals")


@check("the same with DelegateSubgroup=", since_systemd=254)
def cgroups_of_a_subgroup():
    configure(f"{OWN_CGROUP}/vassals", "Delegate=yes\nDelegateSubgroup=emperor-main")
    expect_limits(f"{OWN_CGROUP}/vassals")
    cgroup = read(f"/proc/{main_pid()}/cgroup").strip()
    expect(cgroup.endswith("/emperor.service/emperor-main"), f"the emperor is in {cgroup}")


@check("Type=notify-reload: systemctl reload waits until the last vassal is reloaded", since_systemd=253)
def notify_reload():
    add_vassal("slow", f"command = sh -c 'trap : TERM; touch {DEAF}; while :; do sleep 1; done'\n"
                       f"stop-timeout = {SLOW_STOP_S}s")
    until("slow hears no SIGTERM", lambda: os.path.exists(DEAF))
    os.unlink(DEAF)
    drop_in(*block(OPERATING, NOTIFY_RELOAD).splitlines()[1:])
    run("systemctl restart emperor")
    until("slow hears no SIGTERM", lambda: os.path.exists(DEAF))
    until("slow runs", lambda: state("slow") == "running")
    began = time.monotonic()
    run("systemctl reload emperor")
    took = time.monotonic() - began
    expect(took >= SLOW_STOP_S, f"it was back after {took:.1f} s")
    expect_property("ActiveState", "active")
    remove_vassal("slow")


@check("memory-max: an app that is killed, and one that goes on")
def out_of_memory():
    eats = 'push @x, "x" x 1_000_000 for 1..400'
    pid = main_pid()
    add_vassal("hungry", f"memory-max = 40M\ncommand = perl -e 'my @x; {eats}; sleep 1000'")
    until("the kill is told", lambda: told("emperor: hungry: app killed by SIGKILL: out of memory") > 0)
    remove_vassal("hungry")
    add_vassal("worker",
               f"memory-max = 40M\ncommand = perl -e 'my @x; if (!fork) {{ {eats}; exit }} sleep 1000'")
    until("the kill is told", lambda: told("that the kernel has killed: 1; the app goes on") > 0)
    until("it goes on", lambda: state("worker") == "running")
    remove_vassal("worker")
    # All of the cgroup at once, PID 1 with it.
    add_vassal("group",
               f"memory-max = 40M\ncgroup-opt = memory.oom.group=1\ncommand = perl -e 'my @x; {eats}'")
    until("the end is told", lambda: told("emperor: group: vassal-init killed by SIGKILL: out of memory") > 0)
    expect(metric('emperor_ends_total{reason="out-of-memory"}') >= 2, "it is not counted")
    remove_vassal("group")
    expect_property("ActiveState", "active")
    expect_same_emperor(pid)


@check("the metrics have the memory and the processor time of a vassal's cgroup")
def usage():
    add_vassal("fits", "command = perl -e 'my $x = q(x) x 24_000_000; 1 while times < 0.2; sleep 1000'")
    until("it has used that", lambda: metric('vassal_cpu_seconds_total{vassal="fits"}') > 0.2)
    # Perl takes time, too, before it has the memory.
    until("it has that", lambda: metric('vassal_memory_bytes{vassal="fits"}') > 24e6)
    memory = metric('vassal_memory_bytes{vassal="fits"}')
    expect(24e6 < memory < 100e6, f"it has {memory:.0f} bytes")
    remove_vassal("fits")


@check("cpu-max")
def processor_time():
    add_vassal("busy", "cpu-max = 20%\ncommand = sh -c 'while :; do :; done'")
    until("it runs", lambda: state("busy") == "running")
    before = used_s("busy")
    began = time.monotonic()

    def share():
        return (used_s("busy") - before) / (time.monotonic() - began)

    time.sleep(MEASURED_S)
    # A time in which the guest stands still counts as used, and is taken off what it may use afterwards.
    until("it has used its share", lambda: 0.01 < share() < 0.4)
    remove_vassal("busy")


@check("pids-max: under a fork bomb the emperor answers and stops it")
def processes():
    forks = "fork, select undef, undef, undef, 0.1 while 1"
    add_vassal("bomb", f"pids-max = 10\ncpu-max = 20%\ncommand = perl -e '{forks}'")
    until("it runs", lambda: state("bomb") == "running")
    until("its limit is told", lambda: told("the cgroup may have no more processes (pids.max)") > 0)
    run("emperor status && emperor stop bomb")
    until("it is stopped", lambda: state("bomb") == "stopped")
    until("its cgroup is gone", lambda: not os.path.exists(f"{OWN_CGROUP}/vassals/v-bomb"))
    remove_vassal("bomb")


@check("a frozen vassal is not lost, and goes on")
def frozen():
    before = told("mountpoint /app lost")
    freeze = f"{OWN_CGROUP}/vassals/v-app001/cgroup.freeze"
    write(freeze, "1")
    time.sleep(FROZEN_S)
    write(freeze, "0")
    until("the page", has_page)
    expect(told("mountpoint /app lost") == before, "it was taken for lost")


@check("a frozen vassal can be stopped")
def stopped_while_frozen():
    write(f"{OWN_CGROUP}/vassals/v-app001/cgroup.freeze", "1")
    run("emperor stop app001")
    until("it is stopped", lambda: state("app001") == "stopped")
    run("emperor start app001")
    until("the page", has_page)


@check("cgroups end with their instances, also without a pid namespace")
def left_in_a_cgroup():
    write(EMPEROR_INI, read(EMPEROR_INI).replace("fs,pid", "fs"))
    add_vassal("left", "exec-as-root = setsid sleep 12345 &\ncommand = sleep 1000")
    run("systemctl restart emperor")
    until("it runs", lambda: state("left") == "running")
    first = until("what it leaves runs", lambda: with_line("sleep 12345"))
    before = told("emperor: left: running after ")
    run(f"kill -9 {pid_of('left')}")
    until("it runs again", lambda: told("emperor: left: running after ") > before)
    until("what it had left is gone", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in first))


@check("an ordinary user's emperor is a unit of that user's, with cgroups of its own")
def ordinary_user():
    run("useradd -m joe")
    uid = run("id -u joe").strip()
    own = f"/run/user/{uid}"
    # pam_systemd does that where it is installed.
    run(f"install -d -o joe -g joe -m 700 {own}")
    os.makedirs("/etc/systemd/system/user@.service.d", exist_ok=True)
    write("/etc/systemd/system/user@.service.d/guide.conf", f"[Service]\nEnvironment=XDG_RUNTIME_DIR={own}\n")
    run(f"systemctl daemon-reload; systemctl start user@{uid}")
    as_joe = f"setpriv --reuid joe --regid joe --init-groups env HOME=/home/joe XDG_RUNTIME_DIR={own}"
    cgroup = f"{CGROUPS}/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/emperor.service"
    options = f"user,fs,pid --emperor-cgroup {cgroup}/vassals --pids-max 20"
    units = "/home/joe/.config/systemd/user"
    run(f"mkdir -p {units} /home/joe/vassals")
    unit = read("docs/example/emperor-user.service")
    write(f"{units}/emperor.service", unit.replace("user,fs,pid", options))
    write("/home/joe/vassals/own.ini", "[uwsgi]\nuid = root\ncommand = sleep 1000\n")
    run(f"chown -R joe: /home/joe; {as_joe} systemctl --user start emperor")
    status = f"{as_joe} emperor status own --is-up"
    run(f"{as_joe} emperor start --wait own; {status}")
    expect(read(f"{cgroup}/vassals/v-own/pids.max") == "20\n", "pids-max is not in its cgroup")
    run(f"{as_joe} systemctl --user reload emperor")
    run_patiently(f"{as_joe} emperor upgrade")
    until("own is up again", lambda: succeeds(status))
    switch = "/proc/sys/kernel/unprivileged_userns_clone"
    write(switch, "0\n")
    said = run(f"{as_joe} vassal-init --unshare user,fs,pid -- true", 71)
    write(switch, "1\n")
    expect("the sysctl kernel.unprivileged_userns_clone = 0 lets only root make them" in said, said)
    run(f"{as_joe} systemctl --user stop emperor; systemctl stop user@{uid}")


@check("in the end no process, mount or cgroup is left")
def the_end():
    stop()
    until("the unit's cgroup is gone", lambda: not os.path.exists(OWN_CGROUP))


def configure(cgroup, *unit):
    """An emperor with cgroups and limits there, in a unit with these lines of its own."""
    run("systemctl stop emperor && systemctl reset-failed emperor")
    drop_in(*unit)
    # Whatever an earlier unit has had enabled.
    run(f"rmdir {CGROUPS}/vassals || true")
    for directory in (f"{CGROUPS}/system.slice", CGROUPS):
        run(f"echo -cpu >{directory}/cgroup.subtree_control || true")
    before = read(f"{CGROUPS}/cgroup.subtree_control")
    expect("cpu " not in before, f"the outermost cgroup has: {before}")
    # docs/guide.md names the unit's own.
    limits = block(GUIDE, f"emperor-cgroup = {OWN_CGROUP}/vassals\n").replace(f"{OWN_CGROUP}/vassals", cgroup)
    metrics = f"metrics = {METRICS}\n"
    write(EMPEROR_INI, f"[uwsgi]\nemperor = {VASSALS}\nemperor-use-clone = fs,pid\n{metrics}{limits}")
    run("systemctl start emperor")
    until("hello runs", lambda: state("hello") == "running")


def expect_limits(cgroup):
    limit = read(f"{cgroup}/v-hello/cpu.max").strip()
    expect(limit == "50000 100000", f"cpu.max: {limit}")
    expect(read(f"{cgroup}/v-hello/pids.max").strip() == "200", "pids.max")
    expect(read(f"{cgroup}/v-hello/cgroup.procs") != "", "no process is in it")


def drop_in(*lines):
    text = "\n".join(("[Service]",) + lines)
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    write(DROP_IN, f"{text}\n")
    run("systemctl daemon-reload")


def add_vassal(name, lines):
    write(f"{VASSALS}/{name}.draft", f"[uwsgi]\n{lines}\n")
    os.rename(f"{VASSALS}/{name}.draft", f"{VASSALS}/{name}.ini")


def remove_vassal(name):
    os.unlink(f"{VASSALS}/{name}.ini")
    until(f"{name} is gone", lambda: vassal(name) is None)


def used_s(name):
    return int(read(f"{OWN_CGROUP}/vassals/v-{name}/cpu.stat").split()[1]) / 1e6


def metric(sample):
    """The value of a metric by now; 0 if there is none."""
    lines = run(f"curl -s -m 10 http://{METRICS}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{sample} "))


def has_page():
    page = subprocess.run(
        ["curl", "-s", "-m", "10", "http://127.0.0.1:9090/"], capture_output=True, text=True, check=False
    )
    return "Hello from inside app001.zip" in page.stdout


def pid_of(name):
    found = vassal(name)
    return found and found["pid"]


def main_pid():
    return int(shown("MainPID"))


def shown(name):
    return run(f"systemctl show -P {name} emperor").strip()


def told(text):
    """How many lines of the log have this text."""
    return run("journalctl -u emperor -o cat --no-pager").count(text)


def expect_property(name, value):
    expect(shown(name) == value, f"{name} is {shown(name)} instead of {value}")


def expect_same_emperor(pid):
    expect(main_pid() == pid, f"the emperor is process {main_pid()} instead of {pid}")


if __name__ == "__main__":
    sys.exit(main())
