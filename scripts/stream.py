"""Requests at a constant rate, whatever becomes of the ones before, and what became of each. Used by
replicas.py.

A process of its own asks, so that what is measured does not wait for who measures. The time of a request
counts from when it was due: one that waits for a connection is late, as it is for a user.
"""

import collections
import http.client
import itertools
import json
import os
import signal
import threading
import time

RATE = 250
# A request that is not answered by then is lost.
PATIENCE_S = 10.0
# How many requests may be on their way at a time. With keep-alive each has a connection, for which uWSGI
# needs a process; it has one more, for those who look which version answers.
AT_A_TIME, CONNECTIONS = 64, 3

# What becomes of a request.
OUTCOMES = GOOD, WRONG, REFUSED, CUT_OFF, LATE = "good", "wrong", "refused", "cut_off", "late"

# `again`: the server closed a connection while another request was on its way over it. Clients send that
# again on a new one (RFC 9112, 9.3.1), and so does this one, once.
Answer = collections.namedtuple("Answer", "due sent ended what again")


class Stream:
    """The process that asks for `/` on a port, until `stop`."""

    def __init__(self, port, keeps_alive):
        self.result, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            run(port, keeps_alive, write_end)
        os.close(write_end)

    def stop(self):
        """All answers, in the order in which they were due."""
        os.kill(self.pid, signal.SIGTERM)
        with os.fdopen(self.result) as result:
            answers = json.load(result)
        os.waitpid(self.pid, 0)
        return sorted(Answer(*answer) for answer in answers)


def run(port, keeps_alive, write_end):
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    began = time.monotonic()
    numbers = itertools.count(1)
    answers = []
    count = CONNECTIONS if keeps_alive else AT_A_TIME

    def ask_all():
        # Where one is not kept, each request begins with a new one.
        connection = None
        while not over.is_set():
            # Its turn comes before the wait, so the threads take turns.
            due = began + next(numbers) / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            connection, *answer = ask(connection if keeps_alive else None, port)
            answers.append((due, *answer))

    threads = [threading.Thread(target=ask_all) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with os.fdopen(write_end, "w") as file:
        json.dump(answers, file)
    # Not sys.exit: this is a copy of the parent, whose clean-up is the parent's business.
    os._exit(0)


def ask(kept, port):
    """One request: a connection for the next one, and when it was sent, when it ended, how, and whether it
    was sent twice."""
    sent = time.monotonic()
    connection = kept or http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    what = outcome(connection)
    again = bool(kept) and what == CUT_OFF
    if again:
        connection.close()
        what = outcome(connection)
    if what != GOOD:
        connection.close()
    return connection, sent, time.monotonic(), what, again


def outcome(connection):
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return LATE
    except (OSError, http.client.HTTPException):
        return CUT_OFF
    return GOOD if answer.status == http.client.OK else WRONG
