"""Requests at a constant rate to a vassal that is reloaded, deployed with a mistake, or loses its filesystem.
Used by scripts/bench as a module.

The app is real uWSGI with processes of its own, which reads its page from fuse-zip for each request and takes
a few milliseconds for that, so that some are always in its hands. With our emperor there are two instances of
it; uWSGI's emperor reloads it by a touched file, or process by process (`touch-chain-reload`).
"""

import contextlib
import http.client
import os
import select
import signal
import subprocess
import time

import recovery
import stream

INSTANCES = 2
# A deploy that is a mistake is one for so long.
MISTAKE_S = 2.0
# Nothing is done for so long before each time, so that there is something to compare with.
PAUSE_S = 1.0
# What is asked so long after something counts as asked during it.
AROUND_S = 0.25
# So many answers in a row by the new app, and the old one is gone: more than there are processes.
IN_A_ROW = 16

APP = """use Time::HiRes;
my $word = do { open(my $file, '<', '%(directory)s/word') or die "word: $!\\n"; <$file> };
die "deployed by mistake\\n" if $word =~ /mistake/;
sub {
    Time::HiRes::sleep(0.005);
    open(my $page, '<', '/app/page.html') or return [500, [], ["page.html: $!\\n"]];
    my $text = join('', $word, <$page>);
    return [200, ['Content-Type' => 'text/html', 'Content-Length' => length($text)], [$text]];
}
"""
VASSAL = """[uwsgi]
uid = user001
gid = user001
if-not-reload =
exec-as-user = fuse-zip -r /var/www/app001.zip /app
endif =
%(socket)s = :%(port)d
plugin = psgi
psgi = %(directory)s/app.pl
need-app = true
master = true
processes = 4
mountpoint-check = /app
disable-logging = true
%(lines)s
"""
LINES = {
    "vassal": f"replicas = {INSTANCES}",
    "uWSGI": "",
    "uWSGI, chain": "lazy-apps = true\ntouch-chain-reload = %(directory)s/chain",
}


class Service:
    """An emperor that runs the app."""

    def __init__(self, name, directory, port, dist):
        self.name, self.directory, self.port = name, directory, port
        self.vassals = os.path.join(directory, "vassals")
        self.file = os.path.join(self.vassals, "app.ini")
        self.log = os.path.join(directory, "log")
        self.emperor, self.control = os.path.join(dist, "emperor"), os.path.join(directory, "control")
        self.supervisor = None
        self.count = 0

    @property
    def is_ours(self):
        return self.name == "vassal"

    def command(self, private):
        """The emperor, and what it is told."""
        options = ["--emperor", self.vassals, "--emperor-use-clone", "fs,pid"]
        if self.is_ours:
            # A mount that is lost again and again would be waited for.
            return [self.emperor, "--control", self.control, "--emperor-max-throttle", "1", *options]
        return [*private, "uwsgi", "--emperor-freq", "1", *options]

    def write(self, socket):
        os.makedirs(self.vassals)
        values = {"socket": socket, "port": self.port, "directory": self.directory}
        values["lines"] = LINES[self.name] % values
        self.put("app.pl", APP % values)
        self.put("chain", "")
        self.put("word", "deploy 0\n")
        self.put("vassals/app.ini", VASSAL % values)

    def put(self, name, text):
        with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
            file.write(text)

    def start(self, process):
        self.supervisor = recovery.Supervisor(process.pid, self.port, self.log, recovery.Daemon("fuse-zip"))
        self.supervisor.wait_until_serving()
        self.wait_until_complete(set())

    def daemons(self):
        supervisor = self.supervisor
        return [pid for pid in recovery.descendants(supervisor.pid) if supervisor.kind.is_it(pid)]

    def wait_until_complete(self, gone):
        """Until all instances have a filesystem that is none of these."""
        wanted = INSTANCES if self.is_ours else 1
        until(lambda: len(set(self.daemons()) - gone) == wanted, "not all instances are back")
        time.sleep(recovery.SETTLE_S)

    def deploy(self):
        """A new version of the app, until it alone answers."""
        self.count += 1
        word = f"deploy {self.count}"
        self.put("word", f"{word}\n")
        self.touch(0)
        in_a_row = 0

        def is_deployed():
            nonlocal in_a_row
            in_a_row = in_a_row + 1 if page(self.port).startswith(word) else 0
            return in_a_row >= IN_A_ROW and not self.is_chain_reloading()

        until(is_deployed, f"no `{word}`")

    def is_chain_reloading(self):
        """Whether uWSGI has not replaced all processes yet: it is deaf to another version until then."""
        with open(self.log, encoding="utf-8", errors="replace") as text:
            log = text.read().rpartition("Starting uWSGI")[2]
        return log.count("chain reload !!!") > log.count("chain reloading complete")

    def deploy_mistake(self):
        """A version that cannot be loaded, and the next one."""
        over = time.monotonic() + MISTAKE_S
        self.put("word", "a mistake\n")
        self.touch(1)
        time.sleep(max(0.0, over - time.monotonic()))
        self.deploy()

    def touch(self, status):
        """Says that there is another version. Ours tells how that went."""
        if not self.is_ours:
            return os.utime(os.path.join(self.directory, "chain") if "chain" in self.name else self.file)
        command = [self.emperor, "reload", "--control", self.control, "--wait", "app"]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False)
        if result.returncode != status:
            raise recovery.Failure(f"reload: status {result.returncode}: {result.stdout}")
        return None

    def kill_daemon(self):
        """Kills one filesystem. Returns when that was, and when its instance was gone."""
        before = self.daemons()
        victim = before[0]
        gone = select.poll()
        handle = os.pidfd_open(recovery.pid_one_of(victim))
        gone.register(handle, select.POLLIN)
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        gone.poll(recovery.DEADLINE_S * 1000)
        gone_at = time.monotonic()
        os.close(handle)
        self.wait_until_complete({victim} if self.is_ours else set(before))
        self.supervisor.wait_until_serving()
        return killed_at, gone_at


@contextlib.contextmanager
def serving(service, socket, private, running):
    service.write(socket)
    with running(service.command(private), service.log) as process:
        try:
            service.start(process)
            yield
        except recovery.Failure as failure:
            with open(service.log, encoding="utf-8", errors="replace") as text:
                raise recovery.Failure(f"{service.name}: {failure}\n{text.read()[-4000:]}") from failure


def until(condition, otherwise):
    """As `poll_until`, less often: that costs processor time, and requests."""
    recovery.poll_until(lambda: time.sleep(0.02) or condition(), otherwise)


def page(port):
    """The page, or an empty text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


class Course:
    """Requests before, while and after something is done, time after time."""

    def __init__(self, service, keeps_alive):
        self.stream = stream.Stream(service.port, keeps_alive)
        self.spans = []
        self.answers = self.gaps = None

    def do(self, act):
        """Does it once, after a pause. Returns what that returns."""
        time.sleep(PAUSE_S)
        began = time.monotonic()
        result = act()
        self.spans.append((began, time.monotonic() + AROUND_S))
        return result

    def end(self):
        time.sleep(PAUSE_S)
        self.answers = self.stream.stop()
        ended = sorted(answer.ended for answer in self.answers if answer.what == stream.GOOD)
        self.gaps = list(zip(ended, ended[1:]))

    def meanwhile(self):
        """What became of the requests that were on their way while it was done, or soon after."""
        return self.those(lambda began, ended: overlaps(began, ended, self.spans))

    def in_pauses(self):
        """The same of all others."""
        return self.those(lambda began, ended: not overlaps(began, ended, self.spans))

    def overlapping(self, spans):
        """The same of those that were on their way in one of these times."""
        return self.those(lambda began, ended: overlaps(began, ended, spans))

    def those(self, is_meant):
        """The figures of the answers, and of the gaps between them, that are meant by their times."""
        return figures([answer for answer in self.answers if is_meant(answer.due, answer.ended)],
                       [gap for gap in self.gaps if is_meant(*gap)])


def overlaps(began, ended, spans):
    return any(began <= span_ended and ended >= span_began for span_began, span_ended in spans)


def figures(answers, gaps):
    """Counts, and times of good answers in ms. A gap is the time between two good ones."""
    counts = {what: 0 for what in stream.OUTCOMES}
    for answer in answers:
        counts[answer.what] += 1
    return {
        "asked": len(answers),
        **counts,
        "failed": sum(counts[what] for what in (stream.WRONG, stream.CUT_OFF, stream.LATE)),
        "sent_again": sum(answer.again for answer in answers),
        "ms": sorted((answer.ended - answer.due) * 1000 for answer in answers if answer.what == stream.GOOD),
        "longest_gap_ms": max(((later - earlier) * 1000 for earlier, later in gaps), default=0.0),
    }
