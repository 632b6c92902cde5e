#!/usr/bin/python3
"""Runs one table of checks with each container engine.

Used by scripts/engines, whose usage says what there is to say.
"""

import argparse
import collections
import dataclasses
import os
import subprocess
import sys
import time

from documents import block
from engine_drivers import BASE, CONTAINERS, ENGINES, INIT, TINI, Failure, Spec, until
from engine_images import (DOCUMENTS, PAGE, RELEASE, make_image_of_machine, make_images,
                           make_images_of_documents, make_release, name_of_release)
from engine_schedulers import SCHEDULERS

OURS = INIT[0]
# It takes a terminal's or a stop signal's time to be seen: the loop of a shell between two traps.
WAITS = "echo ready; while :; do sleep 0.05; done"
ENDS_WITH_3 = "trap 'exit 3' TERM; " + WAITS
STUBBORN = "sh -c 'trap \"\" TERM; echo stubborn; while :; do sleep 1; done' & "
SIGNALS = (1, 2, 3, 10, 12, 15, 28)
REAL_TIME = (37, 64)
FUSE = Spec((), image="fuse", has_fuse=True, add=("SYS_ADMIN",))
NOBODY = "0000000000000000"


def shell(script, **fields):
    """A container with a shell in it."""
    return Spec(("sh", "-c", script), **fields)


def fuse(file, script, *options, **fields):
    """One where vassal-init mounts a filesystem first."""
    return dataclasses.replace(FUSE, command=("sh", "-c", script),
                               init=(OURS, "--ini", f"/etc/vassal/{file}.ini", *options, "--"), **fields)


def expect(what, seen, expected):
    if seen != expected:
        raise Failure(f"{what}: {seen!r}, and not {expected!r}")


def expect_run(engine, spec, status, out):
    """What a container comes to, run in the foreground."""
    result = engine.run(spec)
    if (result.status, result.out) != (status, out):
        raise Failure(f"{' '.join((*spec.init, *spec.command))}: {result}; and not status {status}, output "
                      f"{out!r}")


def expect_same(engine, commands):
    """Statuses, which tini's have to be, too."""
    for command, status in commands:
        ours, theirs = engine.run(Spec(command)), engine.run(Spec(command, init=TINI))
        if not ours.status == theirs.status == status:
            raise Failure(f"{command}: {ours}; tini: {theirs}; and not status {status}")


# The checks. Each is a row of the table.


def own_status(engine):
    expect_same(engine, [(("true",), 0), (("sh", "-c", "exit 7"), 7)])


def killed(engine):
    expect_same(engine, [(("sh", "-c", f"kill -{name} $$"), status)
                         for name, status in (("KILL", 137), ("TERM", 143))])


def cannot_start(engine):
    expect_same(engine, [(("/etc/passwd",), 126), (("/nonexistent",), 127)])


def signals(engine, numbers=SIGNALS):
    traps = "; ".join(f"trap 'echo heard {number}.' {number}" for number in numbers)
    container = engine.spawn(shell(f"{traps}; {WAITS}"))
    container.until_said("ready")
    for number in numbers:
        container.signal(number)
        container.until_said(f"heard {number}.")


def real_time_signals(engine):
    signals(engine, REAL_TIME)


def stop(engine):
    container = engine.spawn(shell(ENDS_WITH_3))
    container.until_said("ready")
    expect("status after the stop", container.stop(), 3)


def stop_beside_a_stubborn_orphan(engine, **fields):
    # Where it waits for the orphan as long as the engine does, the engine kills it, and the status is 137.
    container = engine.spawn(shell(STUBBORN + ENDS_WITH_3, **fields))
    container.until_said("stubborn")
    container.until_said("ready")
    expect("status after the stop", container.stop(), 3)


def stop_of_what_ignores_it(engine):
    container = engine.spawn(shell("trap '' TERM; " + WAITS))
    container.until_said("ready")
    expect("status after the stop", container.stop(1), 137)


def terminal(engine):
    script = f"test -t 0 && test -t 1 || exit 1; trap 'exit 9' INT; {WAITS}"
    status, said = engine.at_terminal(shell(script, has_terminal=True), b"ready", b"\x03")
    if status != 9:
        raise Failure(f"status {status} after Ctrl-C, and not 9; it has said {said!r}")


def read_only(engine):
    expect_run(engine, shell("touch /x 2>&- || exit 7", read_only=True), 7, "")


def user_of_engine(engine):
    expect_run(engine, shell("id -u; id -g", user="1000:1000"), 0, "1000\n1000\n")


def user_of_ours(engine):
    expect_run(engine, shell("id -u; id -g", init=(OURS, "--user", "1000:1000", "--")), 0, "1000\n1000\n")


def capabilities(engine):
    script = "grep -E '^Cap(Eff|Bnd)' /proc/self/status | cut -f2"
    expect_run(engine, shell(script, drop_all=True), 0, f"{NOBODY}\n{NOBODY}\n")
    expect_run(engine, shell(script, init=(OURS, "--cap-drop", "all", "--")), 0, f"{NOBODY}\n{NOBODY}\n")


def restricted(engine):
    # What Kubernetes calls so, with our own options on top; and root without capabilities. (gVisor's /proc
    # does not tell of no_new_privs.)
    script = "grep '^CapBnd' /proc/self/status | cut -f2; grep '^NoNewPrivs:.0' /proc/self/status; exit 7"
    options = ("--no-new-privs", "--cap-drop", "all", "--")
    for user in ("1000:1000", "0:0"):
        spec = shell(script, user=user, drop_all=True, no_new_privileges=True, read_only=True,
                     init=(OURS, "--user", user, *options))
        expect_run(engine, spec, 7, f"{NOBODY}\n")


def pause(engine):
    container = engine.spawn(shell(ENDS_WITH_3))
    container.until_said("ready")
    container.pause()
    container.resume()
    container.demand("true")
    expect("status after the stop", container.stop(), 3)


EATER = "dd if=/dev/zero of=/dev/null bs=256M count=1 2>&-"


def out_of_memory(engine):
    expect_run(engine, shell(f"exec {EATER}", memory_mb=32), 137, "")


def child_out_of_memory(engine):
    expect_run(engine, shell(f"{EATER}; echo child $?; exit 5", memory_mb=32), 5, "child 137\n")


def exec_leftovers(engine):
    container = engine.spawn(shell(ENDS_WITH_3))
    container.until_said("ready")
    expect_reaped(container)


def expect_reaped(container):
    """Reaped is what an exec leaves behind."""
    container.demand("sh", "-c", "for i in 1 2 3; do usleep 200000 >/dev/null 2>&1 & done")
    until("what an exec has left is reaped", lambda: "(usleep)" not in stats(container))


def stats(container):
    return container.execute("sh", "-c", "cat /proc/[0-9]*/stat").out


def health(engine):
    container = engine.spawn(shell(ENDS_WITH_3, health="test ! -e /sick"))
    container.until_said("ready")
    engine.until_health_is(container, True)
    container.demand("touch", "/sick")
    engine.until_health_is(container, False)
    expect("status after the stop", container.stop(), 3)


def shared_pids(engine):
    script = "test $PPID -ne 1 || exit 1; setsid sleep 1000 >/dev/null 2>&1 & exit 5"
    expect_run(engine, shell(script, host_pids=True), 5, "")


def engine_init(engine):
    check = f"cmp {engine.INIT_AT} {OURS} && exit 7"
    expect_run(engine, shell(check, init=(), engine_init=True), 7, "")
    stop_beside_a_stubborn_orphan(engine, init=(), engine_init=True)


def fuse_by_root(engine):
    expect_run(engine, fuse("by-root", "cat /app/page.txt; exit 7"), 7, PAGE)


def fuse_by_user(engine):
    expect_run(engine, fuse("by-user", "id -u; cat /app/page.txt; exit 7"), 7, f"1000\n{PAGE}")


def fuse_without_new_privileges(engine):
    expect("status of a fusermount3 without its set-user-id bit",
           engine.run(fuse("by-user", "true", no_new_privileges=True)).status, 71)
    expect_run(engine, fuse("by-pid-1", "id -u; cat /app/page.txt; exit 7", no_new_privileges=True), 7,
               f"1000\n{PAGE}")


def fuse_on_a_read_only_root(engine):
    spec = fuse("by-user", "cat /app/page.txt; exit 7", read_only=True, tmpfs=("/app",))
    expect_run(engine, spec, 7, PAGE)


def fuse_without_the_device(engine):
    for fields in ({"has_fuse": False}, {"has_fuse": False, "has_fuse_node": True}, {"add": ()}):
        expect(f"status with {fields}", engine.run(fuse("by-root", "true", **fields)).status, 71)


def kill_daemon(container):
    """The filesystem's, which is gone at once; its number."""
    number = container.demand("pidof", "squashfuse")
    # Not its status: the container may end sooner than the exec.
    container.execute("kill", "-9", number)
    return number


def fuse_lost(engine):
    container = engine.spawn(fuse("by-root", WAITS))
    container.until_said("ready")
    kill_daemon(container)
    expect("status after the daemon's death", container.wait(), 75)


def fuse_mounted_again(engine):
    container = engine.spawn(fuse("by-root", ENDS_WITH_3, "--mountpoint-lost", "remount"))
    container.until_said("ready")
    expect("what is served", container.demand("cat", "/app/page.txt") + "\n", PAGE)
    kill_daemon(container)
    # The next one has set its trap once it says so.
    container.until_said("ready", 2)
    expect("what is served", container.demand("cat", "/app/page.txt") + "\n", PAGE)
    expect("status after the stop", container.stop(), 3)


def fuse_restarted(engine):
    container = engine.spawn(fuse("by-root", ENDS_WITH_3, restarts=True))
    container.until_said("ready")
    kill_daemon(container)
    container.until_said("ready", 2)
    expect("what is served", container.demand("cat", "/app/page.txt") + "\n", PAGE)


def fuse_paused(engine):
    # A pause that is longer than a probe may go unanswered is no loss.
    options = ("--mountpoint-check-interval", "100ms", "--mountpoint-check-timeout", "3s")
    container = engine.spawn(fuse("by-root", ENDS_WITH_3, *options))
    container.until_said("ready")
    container.pause()
    time.sleep(4.5)
    container.resume()
    expect("what is served", container.demand("cat", "/app/page.txt") + "\n", PAGE)
    expect("status after the stop", container.stop(), 3)


def emperor(engine):
    spec = dataclasses.replace(FUSE, init=("/sbin/emperor",), command=("/etc/uwsgi/emperor.ini",))
    container = engine.spawn(spec)
    until_served(container, 8080)
    first = kill_daemon(container)
    until("another daemon is there",
          lambda: container.execute("pidof", "squashfuse").out.strip() not in ("", first))
    until_served(container, 8080)
    expect_reaped(container)
    add = "sed s/8080/8081/ page.ini >.second && mv .second second.ini"
    container.demand("sh", "-c", f"cd /etc/uwsgi/vassals && {add}")
    until_served(container, 8081)
    expect("status after the stop", container.stop(), 0)


def until_served(container, port):
    url = f"http://127.0.0.1:{port}/page.txt"
    try:
        until(f"{url} is served", lambda: container.execute("wget", "-q", "-O", "-", url).out == PAGE)
    except Failure as failure:
        raise Failure(f"{failure}; the container has said {container.said()!r}") from None


def release(engine):
    """The image of a release, whose index has one of another architecture, too."""
    engine.load(RELEASE)
    name = name_of_release()
    run = ("run", "--rm", "--init=false", "--network=none", name)
    version = name.rpartition(":")[2]
    for program, *words in (("vassal-init", "--version"), ("emperor", "--", "/sbin/emperor", "--version")):
        said = engine.demand(*run, *words)
        if not said.startswith(f"{program} {version} "):
            raise Failure(f"{name} {' '.join(words)}: {said!r}")
    # As others take a program out of it.
    engine.build_image("vassal-of-release", f"{DOCUMENTS}/of-release")
    expect_run(engine, Spec(("true",), image="of-release"), 0, "")


def documents(engine):
    """The lines for a Dockerfile in README.md and docs/containers.md."""
    for image, user in (("readme", 0), ("containers", 0), ("options", 1000)):
        engine.build_image(f"vassal-{image}", f"{DOCUMENTS}/{image}")
        container = engine.spawn(Spec((), image=image))
        container.until_said(f"the app runs as {user}")
        expect("status after the stop", container.stop(), 3)


MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: vassals
data:
  first.ini: |
    [uwsgi]
    command = sh -c 'echo first runs; exec sleep 1000'
---
apiVersion: v1
kind: Pod
metadata:
  name: pod
spec:
  shareProcessNamespace: SHARED
  restartPolicy: Never
  containers:
    - name: emperor
      image: localhost/vassal-plain:latest
      imagePullPolicy: Never
      command: [/sbin/emperor, --emperor, /etc/uwsgi/vassals, --emperor-use-clone, "fs,pid"]
      securityContext:
        capabilities:
          add: [SYS_ADMIN]
      volumeMounts:
        - name: vassals
          mountPath: /etc/uwsgi/vassals
    - name: app
      image: localhost/vassal-plain:latest
      imagePullPolicy: Never
      command: [/sbin/vassal-init, "--"]
      args: [sh, -c, SCRIPT]
  volumes:
    - name: vassals
      configMap:
        name: vassals
"""


def pod_of_documents(engine):
    """The pod of docs/containers.md, with both values of shareProcessNamespace."""
    engine.build_image("vassal-containers", f"{DOCUMENTS}/containers")
    image = "localhost/vassal-containers:latest\n      imagePullPolicy: Never"
    spec = block(CONTAINERS, "spec:\n  shareProcessNamespace: false ").replace("image: app\n",
                                                                             f"image: {image}\n")
    for shared in ("false", "true"):
        own = spec.replace("shareProcessNamespace: false ", f"shareProcessNamespace: {shared} ")
        engine.play(f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod\n{own}")
        app = engine.container("pod-app")
        app.until_said("the app runs as 0")
        expect(f"status after the stop, shareProcessNamespace: {shared}", app.stop(), 3)
        engine.demand("pod", "rm", "-f", "pod")


def kube_play(engine):
    for shared in ("false", "true"):
        script = (STUBBORN + ENDS_WITH_3).replace("\\", "\\\\").replace('"', '\\"')
        engine.play(MANIFEST.replace("SHARED", shared).replace("SCRIPT", f'"{script}"'))
        vassals, app = engine.container("pod-emperor"), engine.container("pod-app")
        app.until_said("stubborn")
        app.until_said("ready")
        vassals.until_said("first runs")
        # A key that is added.
        with open(f"{engine.directory_of_volume('vassals')}/second.ini", "w", encoding="ascii") as file:
            file.write("[uwsgi]\ncommand = sh -c 'echo second runs; exec sleep 1000'\n")
        vassals.until_said("second runs")
        # As kubelet does it: `pod stop` ends the pod's own init together with them.
        expect(f"statuses of the emperor and the app, shareProcessNamespace: {shared}",
               (vassals.stop(), app.stop()), (0, 3))
        engine.demand("pod", "rm", "-f", "pod")
        engine.demand("volume", "rm", "-f", "vassals")


CHECKS = (
    ("the app's status: 0, 7", own_status),
    ("killed by a signal: 137, 143", killed),
    ("cannot be executed, not found: 126, 127", cannot_start),
    (f"signals {' '.join(map(str, SIGNALS))}", signals),
    (f"real-time signals {' '.join(map(str, REAL_TIME))}", real_time_signals),
    ("stop: the app's status", stop),
    ("stop beside an orphan that ignores it", stop_beside_a_stubborn_orphan),
    ("stop of an app that ignores it: 137", stop_of_what_ignores_it),
    ("terminal, Ctrl-C", terminal),
    ("read-only root", read_only),
    ("user: the engine's", user_of_engine),
    ("user: --user", user_of_ours),
    ("capabilities: the engine's, --cap-drop all", capabilities),
    ("restricted profile", restricted),
    ("host's pid namespace", shared_pids),
    ("pause", pause),
    ("out of memory: the app", out_of_memory),
    ("out of memory: a child of it", child_out_of_memory),
    ("what an exec leaves is reaped", exec_leftovers),
    ("health check", health),
    ("--init with vassal-init", engine_init),
    ("FUSE: mounted by root", fuse_by_root),
    ("FUSE: mounted by the user", fuse_by_user),
    ("FUSE: no-new-privileges, fuse:", fuse_without_new_privileges),
    ("FUSE: read-only root", fuse_on_a_read_only_root),
    ("FUSE: no device or capability: 71", fuse_without_the_device),
    ("FUSE: lost: 75", fuse_lost),
    ("FUSE: lost, remount", fuse_mounted_again),
    ("FUSE: lost, restarted by the engine", fuse_restarted),
    ("FUSE: pause", fuse_paused),
    ("emperor as the main process", emperor),
    ("pod with a ConfigMap (kube play)", kube_play),
    ("the image of a release", release),
    ("a Dockerfile of the documents", documents),
    ("a pod of the documents (kube play)", pod_of_documents),
)

# What an engine cannot do by its nature. All else is run.
OF_IMAGES = dict.fromkeys((release, documents), "a runtime has no images")
OF_PODMAN = dict.fromkeys((kube_play, pod_of_documents), "of Podman only")
RUNTIME_HAS_NONE = OF_IMAGES | OF_PODMAN | {
    health: "a runtime looks at no health", engine_init: "a runtime brings no init",
    fuse_restarted: "a runtime restarts nothing"}
FUSE_CHECKS = (fuse_by_root, fuse_by_user, fuse_without_new_privileges, fuse_on_a_read_only_root,
               fuse_without_the_device, fuse_lost, fuse_mounted_again, fuse_restarted, fuse_paused)
NOT_HERE = {
    "docker": OF_PODMAN,
    "podman": {},
    "runc": RUNTIME_HAS_NONE,
    "crun": RUNTIME_HAS_NONE,
    "runsc": RUNTIME_HAS_NONE | {
        **dict.fromkeys(FUSE_CHECKS, "gVisor tells no process which mount a file is on"),
        real_time_signals: "runsc does not know them", terminal: "Ctrl-C reaches nobody, neither under tini",
        shared_pids: "a sandbox sees no processes of the host",
        child_out_of_memory: "the limit ends the sandbox as a whole", emperor: "gVisor has no pidfds"},
    "nspawn": RUNTIME_HAS_NONE | {
        stop_of_what_ignores_it: "nspawn ends with 1 when its container is killed",
        user_of_engine: "its --user is looked up by the image's own getent", restricted: "needs its --user",
        shared_pids: "nspawn always makes a pid namespace", out_of_memory: "limits are those of its unit",
        child_out_of_memory: "limits are those of its unit",
        pause: "nspawn has none", fuse_paused: "nspawn has none"},
    "swarm": OF_PODMAN | dict.fromkeys((release, documents), "as with Docker") | dict.fromkeys(
        FUSE_CHECKS, "a service has no devices") | {
        terminal: "nobody is at the terminal of a service", restricted: "a service has no no-new-privileges",
        shared_pids: "a service has no such option", emperor: "a service has no devices"},
    "slurm": dict.fromkeys(
        (read_only, user_of_engine, capabilities, restricted, shared_pids, pause, out_of_memory,
         child_out_of_memory, exec_leftovers, health, engine_init, *FUSE_CHECKS, emperor,
         kube_play, release, documents, pod_of_documents), "a job is no container"),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dist", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--image", default="")
    parser.add_argument("engines", nargs="+", choices=sorted(NOT_HERE))
    parser.add_argument("--bench", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    os.makedirs(f"{BASE}/home")
    if arguments.bench is not None:
        sys.exit(bench(arguments.dist, arguments.bench))
    checks = [(name, check) for name, check in CHECKS if arguments.only in name]
    if not checks:
        sys.exit(f"engines: no check has {arguments.only!r} in its name")
    make_images(arguments.dist)
    make_release(arguments.dist, arguments.image)
    make_images_of_documents(arguments.dist)
    kinds = ENGINES | SCHEDULERS
    columns = {name: run_engine(kinds[name](arguments.dist), checks)
               for name in dict.fromkeys(arguments.engines)}
    print_table(columns, [name for name, _ in checks])
    sys.exit(any(cell.why and not cell.is_not_here for column in columns.values() for cell in column))


def bench(dist, words):
    """scripts/bench in a container of Docker's; its status."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    make_image_of_machine()
    engine = ENGINES["docker"](dist)
    try:
        engine.start()
        # Of processes of another user it is asked, too, which namespaces they are in.
        options = ["--init=false", "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--device=/dev/fuse",
                   "--network=none", "--volume=/usr:/usr:ro", f"--volume={checkout}:{checkout}:ro"]
        command = [*engine.client(), "run", "--rm", *options, "vassal-machine", f"{checkout}/scripts/bench",
                   "--on-stage", *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, env=engine.environment(),
                              check=False).returncode
    finally:
        engine.stop()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One check with one engine."""

    why: str = ""
    is_not_here: bool = False

    def __str__(self):
        return "not here" if self.is_not_here else "FAILED" if self.why else "ok"


def run_engine(engine, checks):
    """A column of the table."""
    began = time.monotonic()
    column = []
    try:
        engine.start()
    except (Failure, OSError) as error:
        column = [Cell(f"did not start: {error}")] * len(checks)
    else:
        column = [run_check(engine, name, check) for name, check in checks]
    try:
        engine.stop()
    except Failure as failure:
        say(f"{engine.name}: {failure}")
    say(f"{engine.name}: done in {time.monotonic() - began:.0f} s")
    return column


def run_check(engine, name, check):
    if check in NOT_HERE[engine.name]:
        return Cell(NOT_HERE[engine.name][check], is_not_here=True)
    began = time.monotonic()
    why = ""
    for step in (lambda: check(engine), engine.clean):
        try:
            step()
        except (Failure, OSError, ValueError, IndexError) as error:
            why = why or str(error) or repr(error)
    say(f"{engine.name}: {name}: {why or 'ok'} ({time.monotonic() - began:.1f} s)")
    if why and engine.log():
        say(f"{engine.name}: its own log ends with:\n{engine.log()}")
    return Cell(why)


def say(text):
    print(f"==> engines: {text}", file=sys.stderr, flush=True)


def print_table(columns, names):
    width = max(map(len, names))
    print(f"\n{'':{width}}  " + "  ".join(f"{engine:8}" for engine in columns))
    for name, *cells in zip(names, *columns.values()):
        print(f"{name:{width}}  " + "  ".join(f"{cell!s:8}" for cell in cells))
    for engine, column in columns.items():
        lacks = collections.defaultdict(list)
        for name, cell in zip(names, column):
            if cell.is_not_here:
                lacks[cell.why].append(name)
        for why, those in lacks.items():
            print(f"not here: {engine}: {'; '.join(those)}: {why}")
    for engine, column in columns.items():
        for name, cell in zip(names, column):
            if cell.why and not cell.is_not_here:
                print(f"FAILED: {engine}: {name}: {cell.why}")


if __name__ == "__main__":
    main()
