"""Runs both shapes of deploy/kubernetes on a cluster of three nodes. Used by scripts/kubernetes cluster, on
its stage.

The control plane is on the stage itself, which is the router between the nodes' networks, too. There is no
kube-proxy: who asks a Service takes its endpoints in turn, as kube-proxy would.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import cluster_recipes
from client import METRICS, Client, Failure, fetch, lose_daemons, until, until_settled
from vassals_image import PAGE, make_tree

REPO = Path(__file__).resolve().parent.parent
NODES = (1, 2, 3)
NAMESPACE = "default"
TOKEN = "operator"
# How long a node may be silent before its pods are given up. It renews its lease every 10 s.
SILENT_S = 15
IMAGE, PAUSE = "localhost/vassals:1", "localhost/pause:1"
CROWD = 200
CONTAINERD = f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("base", "dist", "servers", "tools"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    checks = [check for check in CHECKS if arguments.only in (None, check.__name__)]
    if not checks:
        sys.exit(f"cluster: {arguments.only}: there are {', '.join(check.__name__ for check in CHECKS)}")
    cluster = Cluster(arguments)
    try:
        cluster.start()
        for check in checks:
            began = time.monotonic()
            check(cluster)
            say(f"{check.__name__}: done in {time.monotonic() - began:.0f} s")
    except Failure as failure:
        sys.exit(f"cluster: {failure}\n{cluster.state()}")
    finally:
        cluster.stop()


def say(text):
    print(f"==> cluster: {text}", flush=True)


def run(*words, **options):
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    if result.returncode:
        raise Failure(f"{' '.join(map(str, words))}: status {result.returncode}: {result.stderr.strip()}")
    return result.stdout


class Cluster:
    """The control plane and the nodes."""

    def __init__(self, arguments):
        self.base, self.dist, self.servers = arguments.base, arguments.dist, arguments.servers
        self.tools = arguments.tools
        self.processes = []
        self.nodes = {}
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def start(self):
        make_images(self.base, self.dist)
        self.start_control_plane()
        for number in NODES:
            self.start_node(number)
        took = until("all nodes are ready", self.are_nodes_ready)
        say(f"{len(NODES)} nodes ready after {took:.0f} s")

    def start_control_plane(self):
        base = self.base
        (base / "containerd.toml").write_text(CONTAINERD)
        (base / "tokens").write_text(f'{TOKEN},operator,1,"system:masters"\n')
        # Nobody else is on the stage.
        run("openssl", "genrsa", "-out", base / "accounts.key", "2048")
        for number in NODES:
            run("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", f"eth{number}")
            run("ip", "address", "add", f"10.99.{number}.1/24", "dev", f"node{number}")
            run("ip", "link", "set", f"node{number}", "up")
        (base / "kubeconfig").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": {"token": TOKEN}}],
            "clusters": [{"name": "it", "cluster": {"server": "https://10.99.1.1:6443",
                                                    "insecure-skip-tls-verify": True}}],
        }))
        self.daemon("etcd", f"--data-dir={base}/etcd")
        self.daemon(
            "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--cert-dir={base}/certificates",
            "--bind-address=0.0.0.0", "--advertise-address=10.99.1.1", f"--token-auth-file={base}/tokens",
            "--authorization-mode=AlwaysAllow", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={base}/accounts.key",
            f"--service-account-signing-key-file={base}/accounts.key",
            "--service-cluster-ip-range=10.98.0.0/16",
            "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            "--default-not-ready-toleration-seconds=1", "--default-unreachable-toleration-seconds=1")
        until("the API server answers", lambda: self.get("/readyz", is_json=False) == "ok")
        self.daemon(
            "kube-controller-manager", f"--kubeconfig={base}/kubeconfig", "--leader-elect=false",
            f"--service-account-private-key-file={base}/accounts.key", "--node-monitor-period=1s",
            f"--node-monitor-grace-period={SILENT_S}s", "--kube-api-qps=100", "--kube-api-burst=200",
            # One each 10 s is what it has otherwise, of a queue where a node can be many times (1.20).
            "--node-eviction-rate=10")
        self.daemon("kube-scheduler", f"--kubeconfig={base}/kubeconfig", "--leader-elect=false",
                    "--kube-api-qps=100", "--kube-api-burst=200")

    def daemon(self, name, *options):
        with open(self.base / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen([self.servers / name, *options], stdin=subprocess.DEVNULL,
                                                   stdout=log, stderr=log, cwd="/"))

    def start_node(self, number):
        # In its cgroups first: they are the roots that it sees.
        enter = ('for cgroup in /sys/fs/cgroup/*/node$1; do echo $$ >"$cgroup/cgroup.procs"; done; '
                 'exec unshare --cgroup --mount --propagation private --net --uts --ipc --pid --fork '
                 '--kill-child=KILL "$0" --node "$1"')
        with open(self.base / f"node{number}.log", "wb") as log:
            node = subprocess.Popen(["bash", "-c", enter, REPO / "scripts/kubernetes", str(number)],
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        self.nodes[number] = node
        here = os.readlink("/proc/self/ns/net")
        until(f"node {number} has a network", lambda: os.readlink(f"/proc/{node.pid}/ns/net") != here)
        run("ip", "link", "set", f"eth{number}", "netns", node.pid, "name", "eth0")
        run("ip", "route", "add", f"10.97.{number}.0/24", "via", f"10.99.{number}.2")

    def lose_node(self, number):
        self.nodes[number].kill()
        self.nodes[number].wait()

    def stop(self):
        for process in [*self.nodes.values(), *reversed(self.processes)]:
            process.kill()
            process.wait()
        # The last of a node is gone a moment later.
        with contextlib.suppress(Failure):
            until("the nodes are gone", lambda: subprocess.run(["pgrep", "-x", "kubelet"]).returncode)

    def state(self):
        """What there is to see when something does not hold."""
        parts = []
        with contextlib.suppress(Failure):
            for node in json.loads(self.request("GET", "/api/v1/nodes"))["items"]:
                parts.append(f"{node['metadata']['name']}: {json.dumps(node['spec'])}")
            for pod in self.list("pods"):
                end = pod["metadata"].get("deletionTimestamp", "stays")
                parts.append(f"{pod['metadata']['name']}: {end}, {json.dumps(pod['status'])[:1500]}")
            parts += [f"event: {event['message']}" for event in self.list("events")[-20:]]
        for log in sorted(self.base.glob("*.log")):
            parts.append(f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        return "\n".join(parts)

    # The API

    def request(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:6443{path}", data, method=method, headers={
            "Authorization": f"Bearer {TOKEN}", "Content-Type": kind})
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Failure(f"{method} {path}: {error.code}: {error.read().decode()[:500]}") from error

    def get(self, path, is_json=True):
        try:
            text = self.request("GET", path)
        except (OSError, Failure):
            return None
        return json.loads(text) if is_json else text

    def list(self, what):
        return json.loads(self.request("GET", f"/api/v1/namespaces/{NAMESPACE}/{what}"))["items"]

    def are_nodes_ready(self):
        for number, node in self.nodes.items():
            if node.poll() is not None:
                raise Failure(f"node {number} has ended")
        return self.ready_nodes() == len(NODES)

    def ready_nodes(self):
        nodes = (self.get("/api/v1/nodes") or {}).get("items", [])
        return sum(condition_of(node, "Ready") for node in nodes)

    def pods(self, name):
        """Those that run and are ready: name to node and address."""
        pods = [pod for pod in self.list("pods")
                if pod["metadata"]["labels"].get("app.kubernetes.io/name") == name]
        return {pod["metadata"]["name"]: (pod["spec"]["nodeName"], pod["status"]["podIP"]) for pod in pods
                if condition_of(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]}

    def endpoints(self, service):
        endpoints = self.get(f"/api/v1/namespaces/{NAMESPACE}/endpoints/{service}") or {}
        return [(address["ip"], subset["ports"][0]["port"]) for subset in endpoints.get("subsets", [])
                for address in subset.get("addresses", [])]

    def apply(self, directory, change=lambda document: None):
        """What Kustomize makes of a directory, in the words that this Kubernetes knows."""
        import yaml

        rendered = run(self.tools / "kubectl", "kustomize", REPO / "deploy/kubernetes" / directory)
        for document in yaml.safe_load_all(rendered):
            if document["kind"] == "PodDisruptionBudget":
                document["apiVersion"] = "policy/v1beta1"
            for container in document["spec"]["template"]["spec"]["containers"] if "template" in document.get(
                    "spec", {}) else []:
                container["image"] = IMAGE
            change(document)
            self.put(document)

    def put(self, document):
        group, plural = document["apiVersion"], document["kind"].lower() + "s"
        root = "/api/v1" if group == "v1" else f"/apis/{group}"
        plural = plural.replace("policys", "policies")
        path = f"{root}/namespaces/{NAMESPACE}/{plural}"
        name = document["metadata"]["name"]
        if self.get(f"{path}/{name}"):
            self.request("PATCH", f"{path}/{name}", document, "application/merge-patch+json")
        else:
            self.request("POST", path, document)

    def delete(self, path):
        self.request("DELETE", f"{path}?propagationPolicy=Foreground")


def condition_of(thing, name):
    conditions = thing["status"].get("conditions", [])
    return any(condition["type"] == name and condition["status"] == "True" for condition in conditions)


# The checks, in this order.


def emperors(cluster):
    """The shape 'emperor': one on each node, and no request is refused when a FUSE daemon is killed."""
    cluster.apply("emperor")
    took = until("an emperor is ready on each node", lambda: len(cluster.pods("emperor")) == len(NODES))
    if len({node for node, _ in cluster.pods("emperor").values()}) != len(NODES):
        raise Failure(f"not one emperor on each node: {cluster.pods('emperor')}")
    say(f"emperor: ready on {len(NODES)} nodes after {took:.1f} s")
    for _, address in cluster.pods("emperor").values():
        expect_page(address, 8080)
    _, address = list(cluster.pods("emperor").values())[0]
    with Client(lambda: [(address, 8080)]) as client:
        for _ in range(3):
            until_settled(address, "vassals/hello")
            lose_daemons(address)
            client.until_answered()
    say(f"emperor: 3 FUSE daemons killed: {client}")
    client.expect_none_refused()


def expect_page(address, port):
    page = fetch(address, port)
    if page != PAGE:
        raise Failure(f"{address}:{port} serves {page!r}")


def config_map(cluster):
    """A key that is added to the ConfigMap is a vassal on each node, without anything that is started
    anew."""
    pods = cluster.pods("emperor")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/emperor-vassals"
    second = cluster.get(path)["data"]["hello.ini"].replace(":8080", ":8081")
    with Client(lambda: [(address, 8080) for _, address in pods.values()]) as client:
        cluster.request("PATCH", path, {"data": {"second.ini": second}}, "application/merge-patch+json")
        took = until("the new vassal serves on each node",
                     lambda: all(fetch(address, 8081) == PAGE for _, address in pods.values()))
    if cluster.pods("emperor") != pods:
        raise Failure(f"other pods: {pods}, then {cluster.pods('emperor')}")
    say(f"ConfigMap: the new vassal serves on all nodes {took:.1f} s after the change; of the old one: "
        f"{client}")
    client.expect_all_served()


def crowd(cluster):
    """Many vassals in each emperor."""
    ini = "[uwsgi]\nuid = nobody\ngid = nogroup\ncommand = /bin/busybox httpd -f -p {} -h /srv/hello\n"
    data = {f"crowd{number}.ini": ini.format(20000 + number) for number in range(CROWD)}
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/emperor-vassals"
    pods = cluster.pods("emperor")
    cluster.request("PATCH", path, {"data": data}, "application/merge-patch+json")
    took = until(f"{CROWD} vassals run on each node",
                 lambda: all(up(address) >= CROWD for _, address in pods.values()))
    say(f"{CROWD} vassals: up on each of {len(pods)} nodes {took:.1f} s after the change")
    for _, address in pods.values():
        for number in range(CROWD):
            page = fetch(address, 20000 + number, "/page.txt")
            if page != PAGE:
                raise Failure(f"vassal {number} of {address} serves {page!r}")
    cluster.request("PATCH", path, {"data": dict.fromkeys(data)}, "application/merge-patch+json")
    took = until("they are gone", lambda: all(up(address) == 2 for _, address in pods.values()))
    say(f"{CROWD} vassals: gone {took:.1f} s after that")
    cluster.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/emperor")
    cluster.delete(f"/api/v1/namespaces/{NAMESPACE}/services/hello")
    until("the emperors are gone", lambda: not [pod for pod in cluster.list("pods")])


def up(address):
    return len(re.findall(r"^vassal_up\{.*\} 1$", fetch(address, METRICS), re.MULTILINE))


def six(document):
    if document["kind"] == "Deployment":
        document["spec"]["replicas"] = 6


def vassals(cluster):
    """The shape 'vassal': replicas are spread over the nodes, and a lost mount is made again in the
    container."""
    cluster.apply("vassal", six)
    took = until("six replicas are ready", lambda: len(cluster.pods("hello")) == 6)
    nodes = sorted(node for node, _ in cluster.pods("hello").values())
    say(f"vassal: 6 replicas ready after {took:.1f} s, on {', '.join(nodes)}")
    if len(set(nodes)) != len(NODES):
        raise Failure(f"replicas are not spread: {nodes}")
    until("the Service has them", lambda: len(cluster.endpoints("hello")) == 6)
    _, address = list(cluster.pods("hello").values())[0]
    with Client(lambda: [(address, 8080)]) as client:
        lose_daemons(address)
        until("the page is there again", lambda: fetch(address, 8080) == PAGE)
    restarts = [status["restartCount"] for pod in cluster.list("pods")
                for status in pod["status"]["containerStatuses"]]
    say(f"vassal: a FUSE daemon killed: {client}; restarts of containers: {sum(restarts)}")
    if any(restarts):
        raise Failure(f"containers were started anew: {restarts}")


def update(cluster):
    """Another file is a rolling update that costs no request."""
    before = set(cluster.pods("hello"))

    def change(document):
        six(document)
        if document["kind"] == "ConfigMap":
            document["data"]["hello.ini"] += "env = RELEASE=2\n"
            document["metadata"]["name"] = "hello-2"
        elif document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "hello-2"

    with Client(lambda: cluster.endpoints("hello")) as client:
        cluster.apply("vassal", change)
        took = until("all replicas are others", lambda: len(set(cluster.pods("hello")) - before) == 6
                     and len(cluster.list("pods")) == 6)
    say(f"rolling update: 6 replicas in {took:.1f} s: {client}")
    client.expect_all_served()


def lost_node(cluster):
    """The replicas of a node that is gone are served by the others."""
    until("replicas on the third node",
          lambda: "node3" in {node for node, _ in cluster.pods("hello").values()})
    began = time.monotonic()
    with Client(lambda: cluster.endpoints("hello")) as client:
        cluster.lose_node(3)
        until("its endpoints are taken away",
              lambda: not any(address.startswith("10.97.3.") for address, _ in cluster.endpoints("hello")))
        forgotten = time.monotonic() - began
        failed = len(client.failures)
        until("six replicas are ready on the others",
              lambda: sum(node != "node3" for node, _ in cluster.pods("hello").values()) == 6)
        replaced = time.monotonic() - began
    say(f"node lost: its endpoints gone after {forgotten:.1f} s, six replicas elsewhere after {replaced:.1f} "
        "s; "
        f"{client}")
    if len(client.failures) > failed:
        raise Failure(f"failed when the endpoints were gone: {client.failures[failed:][:5]}")


CHECKS = (cluster_recipes.recipes, emperors, config_map, crowd, vassals, update, lost_node)


# The images


def make_images(base, dist):
    """As archives that containerd imports."""
    (base / "images").mkdir()
    tree = base / "tree"
    make_tree(tree, dist)
    write_image(base / "images/vassals.tar", (IMAGE, *cluster_recipes.IMAGES), tree, ["/bin/sh"])
    shutil.rmtree(tree)
    tree.mkdir()
    # As the pause of a pod, it is told to be one.
    shutil.copy(dist / "vassal-init", tree / "catatonit")
    write_image(base / "images/pause.tar", (PAUSE,), tree, ["/catatonit", "-P"])
    shutil.rmtree(tree)


def write_image(file, names, tree, command):
    """As `docker save` writes it: a layer, the configuration, and a manifest of both."""
    layer = file.with_suffix(".layer")
    run("tar", "-C", tree, "--numeric-owner", "-cf", layer, ".")
    digest = run("sha256sum", layer).split()[0]
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "config": {"Entrypoint": command, "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(file, "w") as archive:
        archive.add(layer, "layer.tar")
        for part, content in (("config.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(part)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    layer.unlink()


if __name__ == "__main__":
    main()
