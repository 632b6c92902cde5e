"""What scripts/vm-guide.py and scripts/vm-recipes.py do in a guest: run lines of shell, wait, look."""

import json
import subprocess
import time

# Far more than anything takes that works.
PATIENCE_S = 120
PAUSE_S = 0.2


class Failed(Exception):
    """Something is not as it should be."""


def all_pass(what, checks, log):
    """Makes the checks, pairs of a name and a function, and returns the exit status. What `log` returns is printed
    below a failure. Which have failed is said once more at the end: of a long output, that is what is kept."""
    failed = []
    for name, function in checks:
        began = time.monotonic()
        try:
            function()
            print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Failed as failure:
            failed.append(f"failed  {name}: {failure}")
            print(failed[-1], log(), sep="\n", flush=True)
    print(f"{what}: {len(failed)} failed", *failed, sep="\n", flush=True)
    return 1 if failed else 0


def run(command, status=0):
    """Runs a line of shell to its end, and returns what it has printed."""
    try:
        ended = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S * 2,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{command}: not done after {late.timeout} s") from late
    if ended.returncode != status:
        raise Failed(f"{command}: status {ended.returncode} instead of {status}: {ended.stdout}")
    return ended.stdout


def succeeds(command):
    """Whether a line of shell ends with status 0."""
    try:
        run(command)
    except Failed:
        return False
    return True


def until(what, look):
    """Waits until there is something to see, and returns it."""
    began = time.monotonic()
    while not (seen := look()):
        if time.monotonic() - began > PATIENCE_S:
            raise Failed(f"waited {PATIENCE_S} s in vain: {what}")
        time.sleep(PAUSE_S)
    return seen


def expect(holds, why):
    if not holds:
        raise Failed(why)


def vassal(name):
    """What the emperor tells of a vassal, if there is one."""
    asked = subprocess.run(["emperor", "status", "--json"], capture_output=True, text=True, check=False)
    if asked.returncode:
        return None
    return next((each for each in json.loads(asked.stdout)["vassals"] if each["name"] == name), None)


def state(name):
    found = vassal(name)
    return found and found["state"]


def pids(name):
    return pgrep("-x", name)


def with_line(command_line):
    """The processes with this command line."""
    return pgrep("-xf", command_line)


def pgrep(option, what):
    return subprocess.run(["pgrep", option, what], capture_output=True, text=True, check=False).stdout.split()


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Failed(f"read {path}: {error}") from error


def write(path, text):
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failed(f"write {path}: {error}") from error
