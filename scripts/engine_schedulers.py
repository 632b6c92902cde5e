"""Schedulers, as far as they run containers or commands: Docker's swarm and Slurm. Used by
scripts/engines.py."""

import os
import shutil
import socket
import subprocess

from engine_drivers import (BASE, ENVIRONMENT, INIT, LIMIT_S, TINI, ClientContainer, Container, Docker,
                            Engine, Failure, Result, call, contents, demand, last_lines, until)


class SwarmContainer(ClientContainer):
    """The one of a service with one task."""

    def __init__(self, engine, name, service):
        super().__init__(engine, name)
        self.service = service

    def stop(self, timeout_s=None):
        """By a rolling update: another one takes its place. How long it has is said when the service is
        made."""
        del timeout_s
        self.engine.demand("service", "update", "--force", "--detach", "--quiet", self.service)
        return self.wait()


class Swarm(Docker):
    """Docker as a swarm of one node."""

    name = "swarm"

    def start(self):
        super().start()
        self.demand("swarm", "init", "--advertise-addr", "127.0.0.1")

    def arguments(self, spec):
        words = ["--network=host", "--restart-condition=none", *self.health_options(spec.health)]
        # What daemon.json says is not for services.
        words += ["--init"] * spec.engine_init + ["--read-only"] * spec.read_only
        words += [f"--user={spec.user}"] * bool(spec.user) + ["--cap-drop=all"] * spec.drop_all
        words += [f"--cap-add=CAP_{capability}" for capability in spec.add]
        words += [f"--limit-memory={spec.memory_mb}m"] * bool(spec.memory_mb)
        program = () if spec.init == INIT else (*spec.init, *spec.command)[:1]
        words += [f"--entrypoint={program[0]}"] if program else []
        rest = spec.command if spec.init == INIT else (*spec.init, *spec.command)[1:]
        return [*words, f"vassal-{spec.image}", *rest]

    def spawn(self, spec):
        service = f"service-{next(self.numbers)}"
        self.demand("service", "create", "--detach", "--quiet", "--no-resolve-image", f"--name={service}",
                    *self.arguments(spec))
        label = f"label=com.docker.swarm.service.name={service}"
        name = until("the service has a container", lambda: self.demand("ps", "-aq", "--filter", label))
        container = SwarmContainer(self, name, service)
        until("the container was started", lambda: container.inspect("{{.State.Status}}") != "created")
        return container

    def run(self, spec):
        container = self.spawn(spec)
        status = container.wait()
        result = self.call("logs", container.name)
        return Result(status, result.out, result.err)

    def clean(self):
        names = self.demand("service", "ls", "-q").split()
        if names:
            self.demand("service", "rm", *names)
        until("all services have ended", lambda: not self.demand("ps", "-q"))
        super().clean()


class Job(Container):
    """A step of Slurm's: srun, which waits for it."""

    def __init__(self, engine, name, command):
        self.engine = engine
        self.name = name
        self.base = f"{BASE}/jobs/{name}"
        with open(f"{self.base}.out", "wb") as out, open(f"{self.base}.err", "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env=ENVIRONMENT, cwd="/")

    def said(self):
        return contents(f"{self.base}.out") + contents(f"{self.base}.err")

    def is_over(self):
        return self.process.poll() is not None

    def result(self):
        status = self.wait()
        return Result(status, contents(f"{self.base}.out"), contents(f"{self.base}.err"))

    def wait(self):
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"the job has not ended; it has said {self.said()!r}") from None
        return status if status >= 0 else 128 - status

    def signal(self, number):
        demand("scancel", f"--name={self.name}", f"--signal={int(number)}")

    def stop(self, timeout_s=None):
        """SIGTERM, and SIGKILL after KillWait."""
        del timeout_s
        demand("scancel", f"--name={self.name}")
        return self.wait()


CONFIGURATION = """
ClusterName=stage
SlurmctldHost={host}({address})
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=10
StateSaveLocation={base}/slurmctld
SlurmdSpoolDir={base}/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
NodeName={host} NodeAddr={address} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Slurm(Engine):
    """Slurm on one node: no containers, but vassal-init in front of a command."""

    name = "slurm"
    ADDRESS = "10.77.0.1"

    def __init__(self, dist):
        super().__init__(dist)
        self.daemons = []
        self.jobs = []

    def start(self):
        for directory in ("jobs", "slurmctld", "slurmd"):
            os.makedirs(f"{BASE}/{directory}", exist_ok=True)
        for directory in ("/var/lib/munge", "/var/log/munge", "/run/munge"):
            os.makedirs(directory, exist_ok=True)
            shutil.chown(directory, "munge", "munge")
        # It takes no address of the loopback interface.
        demand("ip", "link", "add", "slurm0", "type", "veth", "peer", "name", "slurm1")
        demand("ip", "addr", "add", f"{self.ADDRESS}/24", "dev", "slurm0")
        for interface in ("slurm0", "slurm1"):
            demand("ip", "link", "set", interface, "up")
        os.makedirs("/etc/slurm", exist_ok=True)
        host = socket.gethostname().partition(".")[0]
        with open("/etc/slurm/slurm.conf", "w", encoding="ascii") as file:
            file.write(CONFIGURATION.format(host=host, address=self.ADDRESS, base=BASE, cpus=os.cpu_count()))
        self.spawn_daemon("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged",
                          "--foreground")
        until("munged answers", lambda: call("munge", "--no-input").status == 0)
        self.spawn_daemon("slurmctld", "-D")
        self.spawn_daemon("slurmd", "-D")
        until("the node is idle", lambda: call("sinfo", "--noheader", "--format=%T").out.strip() == "idle")

    def spawn_daemon(self, *command):
        with open(f"{BASE}/slurm.log", "ab") as log:
            self.daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                 env=ENVIRONMENT, cwd="/"))

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(LIMIT_S)

    def log(self):
        return last_lines(f"{BASE}/slurm.log")

    def words(self, spec, *options):
        """A name, and srun with our programs, as there is no image."""
        programs = {INIT[0]: f"{self.dist}/vassal-init", TINI[0]: "/usr/bin/tini-static"}
        name = f"job-{next(self.numbers)}"
        command = [programs.get(word, word) for word in (*spec.init, *spec.command)]
        return name, ["srun", "--quiet", "--ntasks=1", f"--job-name={name}", *options, *command]

    def spawn(self, spec):
        job = Job(self, *self.words(spec))
        self.jobs.append(job)
        return job

    def foreground(self, spec):
        return self.words(spec, "--pty")[1]

    def run(self, spec):
        return self.spawn(spec).result()

    def clean(self):
        for job in self.jobs:
            if job.process.poll() is None:
                call("scancel", f"--name={job.name}")
                job.wait()
        self.jobs.clear()


SCHEDULERS = {"swarm": Swarm, "slurm": Slurm}
