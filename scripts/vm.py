#!/usr/bin/python3
"""Boots a guest under qemu and passes on what its command says. Used by scripts/vm, whose usage says the
rest.

The guest has two disks (the image, of which it changes nothing, and the payload with /vm/run) and two ports,
which are pipes here: the output of the command, and one for us: `begun`, then the status.
"""

import argparse
import os
import selectors
import subprocess
import sys
import time

# What the status of a command cannot be taken for, as with timeout(1).
GUEST_FAILED = 125
MEMORY_MB = 1024
# An idle machine takes 15 s, and one that is far too busy has been seen to take 100 s.
BOOT_S = 300
CONSOLE_LINES = 25

KERNEL_OPTIONS = (
    "console=ttyS0 quiet root=/dev/vda rw panic=-1 mitigations=off tsc=reliable random.trust_cpu=on"
    " systemd.show_status=0"
)


class GuestFailed(Exception):
    """The guest has not run the command to its end."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--limit", type=float, required=True)
    options = parser.parse_args()
    output, status = os.pipe(), os.pipe()
    qemu = start(options, output[1], status[1])
    os.close(output[1])
    os.close(status[1])
    try:
        return follow(output[0], status[0], options.limit)
    except GuestFailed as failure:
        print(f"vm: {failure}; the end of its console:", file=sys.stderr)
        print(end_of(f"{options.work}/console") + end_of(f"{options.work}/qemu"), file=sys.stderr)
        return GUEST_FAILED
    finally:
        qemu.kill()
        qemu.wait()


def start(options, output, status):
    # One processor: with two, the emulation was seen to run an instruction while the kernel changed it, and
    # crash.
    command = [
        # It ends with us, whatever ends us.
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
        "-m", str(MEMORY_MB), "-smp", "1",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", f"{options.kernel}/vmlinuz", "-initrd", f"{options.kernel}/initrd", "-append",
        KERNEL_OPTIONS, "-serial", f"file:{options.work}/console",
        "-drive", f"file={options.image},format=raw,if=virtio,snapshot=on,cache=unsafe",
        "-drive", f"file={options.work}/payload.tar,format=raw,if=virtio,readonly=on",
        "-device", "virtio-serial-pci",
    ]  # fmt: skip
    for number, pipe in ((1, output), (2, status)):
        command += ["-chardev", f"file,id=port{number},path=/dev/fd/{pipe}"]
        command += ["-device", f"virtserialport,chardev=port{number},nr={number}"]
    with open(f"{options.work}/qemu", "wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(output, status)
        )


def follow(output, status, limit):
    """Writes what comes from the command, and returns its status."""
    began = time.monotonic()
    deadline, waits_for = began + BOOT_S, "booted"
    told = b""
    selector = selectors.DefaultSelector()
    selector.register(output, selectors.EVENT_READ)
    selector.register(status, selectors.EVENT_READ)
    while True:
        ready = selector.select(max(0, deadline - time.monotonic()))
        if not ready:
            raise GuestFailed(f"the guest has not {waits_for} within {deadline - began:.0f} s")
        # The output first: it was written first.
        for key, _ in sorted(ready, key=lambda each: each[0].fd != output):
            data = os.read(key.fd, 65536)
            if not data:
                raise GuestFailed("the guest has ended")
            if key.fd == output:
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
                continue
            told += data
        lines = told.split(b"\n")
        if waits_for == "booted" and len(lines) > 1:
            print(f"==> vm: up after {time.monotonic() - began:.1f} s", file=sys.stderr)
            deadline, waits_for = began + limit, "run the command to its end"
        if len(lines) > 2:
            write_rest(output)
            return int(lines[1])


def write_rest(output):
    """What has come and was not read yet."""
    os.set_blocking(output, False)
    while True:
        try:
            data = os.read(output, 65536)
        except BlockingIOError:
            return
        if not data:
            return
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def end_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-CONSOLE_LINES:])
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
