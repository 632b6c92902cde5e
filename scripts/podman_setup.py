"""The files that Podman finds on a stage. Used by engine_drivers.py and play.py."""

import json
import os
import shutil


def write(base, dist, network, containers="[containers]\n"):
    """Below `base` and /etc, with our binary as the pause of pods, and this network by default. `containers`
    is how a section of containers.conf begins."""
    os.makedirs(f"{base}/helpers")
    shutil.copy(f"{dist}/vassal-init", f"{base}/helpers/catatonit")
    with open(f"{base}/containers.conf", "w", encoding="ascii") as file:
        file.write(f"""{containers}netns = "{network}"
cgroups = "enabled"
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
helper_binaries_dir = ["{base}/helpers", "/usr/lib/podman", "/usr/libexec/podman"]
""")
    os.makedirs("/etc/containers", exist_ok=True)
    with open("/etc/containers/policy.json", "w", encoding="ascii") as file:
        json.dump({"default": [{"type": "insecureAcceptAnything"}]}, file)


def environment(base):
    """What Podman finds them by. Checks of health are timers of systemd otherwise."""
    return {"CONTAINERS_CONF": f"{base}/containers.conf", "DISABLE_HC_SYSTEMD": "true"}
