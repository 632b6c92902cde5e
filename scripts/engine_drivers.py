"""Container engines, each with the few calls that a check needs: run, signal, stop, pause, exec.

Used by scripts/engines.py, on a stage where /var, /run and /etc are nobody else's.
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import termios
import time

import podman_setup
from documents import block

# Far more than anything takes, on a machine that is far too busy.
LIMIT_S = 60.0
POLL_S = 0.05
BASE = "/var/lib/engines"
IMAGES = f"{BASE}/images"
# What an image has as its ENTRYPOINT, and what it is compared with.
INIT = ("/sbin/vassal-init", "--")
TINI = ("/sbin/tini", "--")
# The programs of Debian, and no client of another version.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": f"{BASE}/home",
    "TMPDIR": "/var/tmp",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
# What Docker and Podman leave to a container.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
                "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")
FUSE_MAJOR, FUSE_MINOR = 10, 229
CONTAINERS = "docs/containers.md"


class Failure(Exception):
    """Something is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A container, as a check wants it: without network, and with nothing but this."""

    command: tuple
    # What stands in front of the command; empty where the engine's --init does.
    init: tuple = INIT
    engine_init: bool = False
    image: str = "plain"
    # Numbers, as in 1000:1000.
    user: str = ""
    read_only: bool = False
    drop_all: bool = False
    add: tuple = ()
    no_new_privileges: bool = False
    # Directories, each writable for all.
    tmpfs: tuple = ()
    has_fuse: bool = False
    # Its node only, as a volume: no right to the device.
    has_fuse_node: bool = False
    memory_mb: int = 0
    health: str = ""
    restarts: bool = False
    host_pids: bool = False
    has_terminal: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command came to."""

    status: int
    out: str
    err: str

    def __str__(self):
        return f"status {self.status}, output {self.out.strip()!r}, errors {self.err.strip()!r}"


def call(*command, environment=None):
    """Runs a command to its end."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", env={**ENVIRONMENT, **(environment or {})}, cwd="/",
                              timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: not done after {LIMIT_S:.0f} s") from None
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Result(status, done.stdout, done.stderr)


def demand(*command, environment=None):
    """What a command prints that must succeed."""
    result = call(*command, environment=environment)
    if result.status != 0:
        raise Failure(f"{' '.join(command)}: {result}")
    return result.out.strip()


def until(what, condition):
    """Waits for something that has to come true."""
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not so after {LIMIT_S:.0f} s")
        time.sleep(POLL_S)
    return value


class Container:
    """One that runs, or has run."""

    def until_said(self, words, times=1):
        """Waits until its command has written this, or once more."""
        def has_said():
            is_over = self.is_over()
            if self.said().count(words) >= times:
                return True
            if is_over:
                raise Failure(f"the container ends before its command says {words!r}")
            return False

        try:
            until(f"the command says {words!r}", has_said)
        except Failure as failure:
            raise Failure(f"{failure}; it has said {self.said()!r}") from None

    def is_over(self):
        """Whether it has ended for good; False where that is not known."""
        return False

    def demand(self, *command):
        """What a command in it prints that must succeed."""
        result = self.execute(*command)
        if result.status != 0:
            raise Failure(f"exec {' '.join(command)}: {result}; the container has said {self.said()!r}")
        return result.out.strip()


class Engine:
    """What all have in common."""

    name = ""

    def __init__(self, dist):
        self.dist = dist
        self.numbers = itertools.count()

    def start(self):
        """Has it ready to run containers."""

    def stop(self):
        """Ends what start() has begun."""

    def clean(self):
        """Removes all containers."""

    def log(self):
        """The last of what it says by itself."""
        return ""

    def at_terminal(self, spec, awaited, typed):
        """Runs one at a terminal where somebody types once something is read there: its status, and all it
        wrote."""
        outer, inner = pty.openpty()
        process = subprocess.Popen(self.foreground(spec), stdin=inner, stdout=inner, stderr=inner, cwd="/",
                                   env=self.environment(), start_new_session=True, preexec_fn=own_terminal)
        os.close(inner)
        said, is_typed = b"", False
        deadline = time.monotonic() + LIMIT_S
        with contextlib.closing(os.fdopen(outer, "r+b", buffering=0)) as terminal:
            while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                try:
                    piece = terminal.read(4096)
                except OSError:
                    piece = b""
                if not piece:
                    break
                said += piece
                if awaited in said and not is_typed:
                    terminal.write(typed)
                    is_typed = True
            else:
                process.kill()
        return process.wait(LIMIT_S), said.decode(errors="replace")

    def environment(self):
        """What its programs are started with."""
        return ENVIRONMENT


class ClientContainer(Container):
    """One of Docker's or Podman's."""

    def __init__(self, engine, name):
        self.engine = engine
        self.name = name

    def said(self):
        result = self.engine.call("logs", self.name)
        return result.out + result.err

    def wait(self):
        return int(self.engine.demand("wait", self.name))

    def stop(self, timeout_s=None):
        """Its status, after the engine's own way to stop it. Its own timeout is 10 s."""
        self.engine.demand("stop", *([] if timeout_s is None else ["-t", str(timeout_s)]), self.name)
        return self.wait()

    def signal(self, number):
        self.engine.demand("kill", "-s", str(number), self.name)

    def pause(self):
        self.engine.demand("pause", self.name)

    def resume(self):
        self.engine.demand("unpause", self.name)

    def execute(self, *command):
        return self.engine.call("exec", self.name, *command)

    def inspect(self, template):
        return self.engine.demand("inspect", "-f", template, self.name)


class Client(Engine):
    """Docker or Podman, by its command line."""

    def call(self, *arguments):
        return call(*self.client(), *arguments, environment=self.environment())

    def demand(self, *arguments):
        return demand(*self.client(), *arguments, environment=self.environment())

    def build(self):
        """Both images, from Dockerfiles that need no registry."""
        for image in os.listdir(IMAGES):
            self.build_image(f"vassal-{image}", f"{IMAGES}/{image}")

    def build_image(self, name, directory):
        self.demand("build", "-q", "--network", "none", "-t", name, directory)

    def load(self, archive):
        """Images, from a file."""
        self.demand("load", "-i", archive)

    def clean(self):
        names = self.demand("ps", "-aq").split()
        if names:
            self.demand("rm", "-f", *names)

    def arguments(self, spec):
        """Of `run`, but for whether it goes to the background."""
        words = ["--pull=never", "--network=none", *self.health_options(spec.health)]
        words += self.INIT_OPTIONS if spec.engine_init else ["--init=false"]
        words += ["-it"] * spec.has_terminal
        words += ["--read-only"] * spec.read_only
        words += [f"--user={spec.user}"] * bool(spec.user) + ["--cap-drop=all"] * spec.drop_all
        words += [f"--cap-add={capability}" for capability in spec.add]
        words += ["--security-opt=no-new-privileges"] * spec.no_new_privileges
        words += [f"--tmpfs={directory}:mode=777" for directory in spec.tmpfs]
        words += ["--device=/dev/fuse"] * spec.has_fuse
        words += ["--volume=/dev/fuse:/dev/fuse"] * spec.has_fuse_node
        words += ["--pid=host"] * spec.host_pids
        words += [f"--memory={spec.memory_mb}m"] * bool(spec.memory_mb)
        words += ["--restart=on-failure"] * spec.restarts
        # What is the image's own is not said again.
        program = () if spec.init == INIT else (*spec.init, *spec.command)[:1]
        words += [f"--entrypoint={program[0]}"] if program else []
        rest = spec.command if spec.init == INIT else (*spec.init, *spec.command)[1:]
        return [*words, f"vassal-{spec.image}", *rest]

    def run(self, spec):
        """In the foreground."""
        return self.call("run", *self.arguments(spec))

    def spawn(self, spec):
        """In the background."""
        return ClientContainer(self, self.demand("run", "-d", *self.arguments(spec)))

    def foreground(self, spec):
        return [*self.client(), "run", *self.arguments(spec)]


class Docker(Client):
    """dockerd 20.10 and its client, with our binary for --init."""

    name = "docker"
    INIT_AT = "/sbin/docker-init"
    # Its daemon.json has it for each container.
    INIT_OPTIONS = ()
    SOCKET = f"unix://{BASE}/docker.sock"
    daemon = None

    def client(self):
        return ["docker", "-H", self.SOCKET]

    def environment(self):
        return {**ENVIRONMENT, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": f"{BASE}/home"}

    def start(self):
        with open(f"{BASE}/daemon.json", "w", encoding="ascii") as file:
            file.write(block(CONTAINERS, '{ "init": true, '))
        with open(f"{BASE}/dockerd.log", "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", f"--config-file={BASE}/daemon.json", f"--host={self.SOCKET}",
                 "--storage-driver=overlay2", "--bridge=none", "--iptables=false", "--ip6tables=false",
                 "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
                 "--exec-opt=native.cgroupdriver=cgroupfs"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT, cwd="/")
        until("dockerd answers", self.is_up)
        self.build()

    def is_up(self):
        if self.daemon.poll() is not None:
            raise Failure(f"dockerd has ended with status {self.daemon.returncode}: {self.log()}")
        return self.call("version").status == 0

    def stop(self):
        if self.daemon is None:
            return
        self.daemon.terminate()
        try:
            self.daemon.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            raise Failure(f"dockerd does not end: {self.log()}") from None

    def log(self):
        return last_lines(f"{BASE}/dockerd.log")

    def health_options(self, command):
        if not command:
            return []
        return [f"--health-cmd={command}", "--health-interval=1s", "--health-timeout=60s",
                "--health-retries=1"]

    def until_health_is(self, container, is_healthy):
        word = "healthy" if is_healthy else "unhealthy"
        until(f"the container is {word}", lambda: container.inspect("{{.State.Health.Status}}") == word)


class Podman(Client):
    """Podman 4.3, with our binary for --init and as the init of its pods."""

    name = "podman"
    INIT_AT = "/run/podman-init"
    INIT_OPTIONS = ("--init",)

    def client(self):
        return ["podman"]

    def environment(self):
        return {**ENVIRONMENT, **podman_setup.environment(BASE)}

    def start(self):
        podman_setup.write(BASE, self.dist, "none", block(CONTAINERS, "[containers]\n"))
        self.build()

    def clean(self):
        self.demand("pod", "rm", "-fa")
        super().clean()

    def health_options(self, command):
        return [f"--health-cmd={command}", "--health-interval=disable"] if command else []

    def until_health_is(self, container, is_healthy):
        result = self.call("healthcheck", "run", container.name)
        if (result.status == 0) != is_healthy:
            raise Failure(f"healthcheck run: {result}")

    def play(self, manifest):
        """Pods and ConfigMaps, from a file in Kubernetes' words."""
        path = f"{BASE}/manifest.yaml"
        with open(path, "w", encoding="ascii") as file:
            file.write(manifest)
        self.demand("kube", "play", "--network", "none", path)

    def container(self, name):
        """One that `play` has made: POD-CONTAINER."""
        return ClientContainer(self, name)

    def directory_of_volume(self, name):
        return self.demand("volume", "inspect", "-f", "{{.Mountpoint}}", name)


def own_terminal():
    """Makes the standard input of a new session its terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class RuntimeContainer(Container):
    """One whose runtime waits for its end, as the shim of an engine does."""

    def __init__(self, engine, name, command, bundle):
        self.engine = engine
        self.name = name
        self.bundle = bundle
        with open(f"{bundle}/out", "wb") as out, open(f"{bundle}/err", "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env=ENVIRONMENT, cwd="/")

    def is_over(self):
        return self.process.poll() is not None

    def result(self):
        status = self.wait()
        return Result(status, contents(f"{self.bundle}/out"), contents(f"{self.bundle}/err"))

    def said(self):
        return contents(f"{self.bundle}/out") + contents(f"{self.bundle}/err")

    def wait(self, limit_s=LIMIT_S):
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"the container has not ended; it has said {self.said()!r}") from None
        return status if status >= 0 else 128 - status

    def stop(self, timeout_s=10):
        """As Docker and Podman do it: SIGTERM, and SIGKILL after 10 s."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except Failure:
            self.signal(signal.SIGKILL)
            return self.wait()

    def signal(self, number):
        self.engine.demand("kill", self.name, str(int(number)))

    def pause(self):
        self.engine.demand("pause", self.name)

    def resume(self):
        self.engine.demand("resume", self.name)

    def execute(self, *command):
        return self.engine.call("exec", self.name, *command)


class Runtime(Engine):
    """An OCI runtime, told what to do by a bundle."""

    def __init__(self, dist, name, options=(), has_cgroups=True):
        super().__init__(dist)
        self.name = name
        self.options = options
        self.has_cgroups = has_cgroups
        self.containers = []

    def client(self):
        return [self.name, f"--root={BASE}/{self.name}", *self.options]

    def call(self, *arguments):
        return call(*self.client(), *arguments)

    def demand(self, *arguments):
        return demand(*self.client(), *arguments)

    def bundle(self, spec):
        """A name, and a directory with a root of its own and what the runtime has to know."""
        name = f"{self.name}-{next(self.numbers)}"
        bundle = f"{BASE}/bundles/{name}"
        os.makedirs(bundle)
        demand("cp", "-a", f"{IMAGES}/{spec.image}/tree", f"{bundle}/rootfs")
        with open(f"{bundle}/config.json", "w", encoding="ascii") as file:
            json.dump(self.config(spec, name), file)
        return name, bundle

    def config(self, spec, name):
        user, _, group = (spec.user or "0:0").partition(":")
        bounding = [f"CAP_{name}" for name in (*(() if spec.drop_all else CAPABILITIES), *spec.add)]
        effective = bounding if user == "0" else []
        fuse = {"type": "c", "major": FUSE_MAJOR, "minor": FUSE_MINOR}
        namespaces = ["mount", "uts", "ipc", "network"] + ["pid"] * (not spec.host_pids)
        resources = {"devices": [{"allow": False, "access": "rwm"}]}
        if spec.has_fuse:
            resources["devices"].append({"allow": True, "access": "rwm", **fuse})
        if spec.memory_mb:
            resources["memory"] = {"limit": spec.memory_mb << 20}
        mounts = [mount(directory, "tmpfs", "nosuid", "nodev", "mode=777") for directory in spec.tmpfs]
        mounts += [{**mount("/dev/fuse", "bind", "bind"), "source": "/dev/fuse"}] * spec.has_fuse_node
        linux = {
            "namespaces": [{"type": namespace} for namespace in namespaces],
            "devices": [{"path": "/dev/fuse", "fileMode": 0o666, "uid": 0, "gid": 0, **fuse}] * spec.has_fuse,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        }
        if self.has_cgroups:
            linux |= {"cgroupsPath": f"/{name}", "resources": resources}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": spec.has_terminal,
                "user": {"uid": int(user), "gid": int(group)},
                "cwd": "/",
                "args": [*spec.init, *spec.command],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"],
                "noNewPrivileges": spec.no_new_privileges,
                "capabilities": {"bounding": bounding, "effective": effective, "permitted": effective},
            },
            "root": {"path": "rootfs", "readonly": spec.read_only},
            "hostname": "inner",
            "mounts": [
                mount("/proc", "proc", "nosuid", "noexec", "nodev"),
                mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64k"),
                mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
                *mounts,
            ],
            "linux": linux,
        }

    def spawn(self, spec):
        name, bundle = self.bundle(spec)
        container = RuntimeContainer(self, name, [*self.client(), "run", f"--bundle={bundle}", name], bundle)
        self.containers.append(container)
        return container

    def run(self, spec):
        return self.spawn(spec).result()

    def foreground(self, spec):
        name, bundle = self.bundle(spec)
        return [*self.client(), "run", f"--bundle={bundle}", name]

    def clean(self):
        for container in self.containers:
            if container.process.poll() is None:
                self.call("kill", container.name, "KILL")
                container.wait()
        self.containers.clear()
        shutil.rmtree(f"{BASE}/bundles", ignore_errors=True)


class NspawnContainer(RuntimeContainer):
    """One of systemd-nspawn's, which has no other calls: what machined would do is done by its PID 1's
    number."""

    def leader(self):
        """Its PID 1, a child of nspawn's."""
        number = self.process.pid
        children = f"/proc/{number}/task/{number}/children"
        return int(until("nspawn has a child", lambda: contents(children).split())[-1])

    def signal(self, number):
        os.kill(self.leader(), number)

    def execute(self, *command):
        return call("nsenter", f"--target={self.leader()}", "--all", "--", *command)


class Nspawn(Runtime):
    """systemd-nspawn, without machined."""

    def __init__(self, dist):
        super().__init__(dist, "nspawn")

    def words(self, spec, directory, console):
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
                 "--timezone=off", "--resolv-conf=off", f"--console={console}", f"--directory={directory}"]
        words += ["--read-only"] * spec.read_only + ["--drop-capability=all"] * spec.drop_all
        # What the others do not give, it does.
        words += ["--drop-capability=CAP_SYS_ADMIN"] * ("SYS_ADMIN" not in spec.add)
        words += ["--no-new-privileges=yes"] * spec.no_new_privileges + ["--bind=/dev/fuse"] * spec.has_fuse
        words += [f"--tmpfs={directory}:mode=777" for directory in spec.tmpfs]
        return [*words, "--", *spec.init, *spec.command]

    def spawn(self, spec):
        name, bundle = self.bundle(spec)
        container = NspawnContainer(self, name, self.words(spec, f"{bundle}/rootfs", "pipe"), bundle)
        self.containers.append(container)
        return container

    def foreground(self, spec):
        _, bundle = self.bundle(spec)
        return self.words(spec, f"{bundle}/rootfs", "interactive")

    def clean(self):
        for container in self.containers:
            if container.process.poll() is None:
                container.process.terminate()
                container.wait()
        self.containers.clear()
        shutil.rmtree(f"{BASE}/bundles", ignore_errors=True)


def mount(where, kind, *options):
    return {"destination": where, "type": kind, "source": kind, "options": list(options)}


def contents(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def last_lines(path):
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(contents(path).splitlines()[-20:])
    return ""


ENGINES = {
    "docker": Docker,
    "podman": Podman,
    "runc": lambda dist: Runtime(dist, "runc"),
    "crun": lambda dist: Runtime(dist, "crun"),
    "runsc": lambda dist: Runtime(dist, "runsc", ("--platform=ptrace", "--network=none")),
    "nspawn": Nspawn,
}
