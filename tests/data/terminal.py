"""Drives a program on a terminal of its own: terminal.py SECONDS COMMAND... -- STEP...

The command becomes the leader of a session with that terminal. A step is `text` to type (with \\r and \\x03 as in Python), or `?regex` that
must be shown next. `!` hangs up. At the end, the exit status of the command is printed, 128+n for signal n.
"""

import os
import pty
import re
import select
import signal
import sys
import time

arguments = sys.argv[2:]
deadline = time.monotonic() + float(sys.argv[1])
command, steps = arguments[: arguments.index("--steps")], arguments[arguments.index("--steps") + 1 :]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
shown = ""
for step in steps:
    if step == "!":
        os.close(terminal)
        break
    if not step.startswith("?"):
        os.write(terminal, step.encode().decode("unicode_escape").encode())
        continue
    while not (found := re.search(step[1:], shown)):
        left = deadline - time.monotonic()
        ready = select.select([terminal], [], [], max(left, 0))[0]
        try:
            more = os.read(terminal, 4096) if ready else b""
        except OSError:
            more = b""
        if not more:
            os.kill(pid, signal.SIGKILL)
            sys.exit(f"not shown: {step[1:]!r}; but: {shown!r}")
        shown += more.decode(errors="replace")
    shown = shown[found.end() :]
while time.monotonic() < deadline:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        print(os.waitstatus_to_exitcode(status) % 256 if not os.WIFSIGNALED(status) else 128 + os.WTERMSIG(status))
        sys.exit(0)
    time.sleep(0.003)
os.kill(pid, signal.SIGKILL)
sys.exit(f"it does not end; shown: {shown!r}")
