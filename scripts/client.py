"""A client that asks all the time, and the FUSE daemons that are killed meanwhile. Used by play.py and
cluster.py."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import threading
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path

from vassals_image import PAGE

# What a request may take that waits for a new instance.
PATIENCE_S = 10.0
PAUSE_S = 0.01
METRICS = 9191
SETTLED_S = 1.2
# An app that has no filesystem any more had taken the request: it says so, its page ends where it could not
# read on, or it is gone before it has written the whole answer.
LOST = "taken by an app that lost its filesystem"


class Failure(Exception):
    """What does not hold."""


def until(what, condition, limit_s=180.0):
    """Waits for something that has to come true; returns how long that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            raise Failure(f"{what}: not so after {limit_s:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def fetch(address, port, path="/"):
    """The page, or what is wrong."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        status = getattr(error, "code", 0)
        is_cut_off = isinstance(error, (ConnectionResetError, http.client.HTTPException))
        is_lost = is_cut_off or status == HTTPStatus.INTERNAL_SERVER_ERROR
        return LOST if is_lost else f"{address}:{port}: {error}"


class Client(threading.Thread):
    """Asks for the page of each of what `addresses` returns in turn, and keeps what else it gets."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.addresses, self.is_over = addresses, False
        self.count, self.lost, self.failures, self.slowest = 0, 0, [], 0.0

    def run(self):
        for turn in itertools.count():
            if self.is_over:
                return
            addresses = self.addresses()
            if addresses:
                self.ask(*addresses[turn % len(addresses)])
            time.sleep(PAUSE_S)

    def ask(self, address, port):
        began = time.monotonic()
        page = fetch(address, port)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.count += 1
        if page == LOST or page != PAGE and PAGE.startswith(page):
            self.lost += 1
        elif page != PAGE:
            self.failures.append(page)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.join()

    def __str__(self):
        return (f"{self.count} requests, {len(self.failures)} refused or unanswered, {self.lost} {LOST}, the "
                "slowest "
                f"{self.slowest:.2f} s")

    def expect_all_served(self):
        """By whatever app."""
        if self.failures or self.lost or not self.count:
            raise Failure(f"{self}: {self.failures[:5]}")

    def expect_none_refused(self):
        """What an app had taken may be lost with it."""
        if self.failures or not self.count:
            raise Failure(f"{self}: {self.failures[:5]}")

    def until_answered(self):
        """Until what is asked from now on has an answer."""
        before = self.count
        until("answers", lambda: self.count > before + 1)


def until_settled(address, vassal):
    """Until a vassal is up for long enough that its next instance need not wait, by its emperor's metrics."""
    uptime = re.compile(rf'^vassal_uptime_seconds{{vassal="{vassal}"}} ([0-9.]+)$', re.MULTILINE)

    def is_settled():
        found = uptime.search(fetch(address, METRICS))
        return found and float(found[1]) > SETTLED_S

    until(f"{vassal} is settled", is_settled)


def lose_daemons(address="127.0.0.1"):
    """Kills the FUSE daemons of the pod that has the address, and waits for others."""
    killed = daemons(address)
    if not killed:
        raise Failure(f"no FUSE daemon in the pod {address}")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until("other FUSE daemons", lambda: daemons(address) - killed)


def daemons(address):
    """The FUSE daemons in the network that has the address."""
    found, is_its_own = set(), re.compile(rf"\b{re.escape(address)}\b").search
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == "squashfuse\n" and is_its_own((comm.parent / "net/fib_trie").read_text()):
                found.add(int(comm.parent.name))
    return found
