"""The commands of deploy/kubernetes/README.md, word for word, on the cluster of cluster.py."""

import os
import shutil
import subprocess

from client import Failure, fetch, until
from documents import REPO, block, commands
from vassals_image import PAGE

README = "deploy/kubernetes/README.md"
# What the documents call the image.
IMAGES = ("docker.io/library/emperor:latest", "docker.io/library/vassal:latest", "registry.example/emperor:1",
          "registry.example/shop:1")
PORTS = {"shop": 8080, "blog": 8081}


def recipes(cluster):
    """Applied by kubectl and helm as they are released."""
    directory = make_directory(cluster.base)

    def run(line):
        result = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"], cwd=directory, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, env={
                "PATH": f"{cluster.tools}:/usr/bin:/bin", "HOME": str(directory),
                "KUBECONFIG": str(cluster.base / "kubeconfig"), "VASSAL_DIST": str(cluster.dist)})
        if result.returncode:
            raise Failure(f"{line}: status {result.returncode}: {result.stderr}")
        return result.stdout

    both_shapes(cluster, run)
    own_kustomization(cluster, run, directory)
    chart(cluster, run)
    pods_of_files(cluster, run)


def make_directory(base):
    """A copy of what the commands name, in the words that this Kubernetes knows."""
    directory = base / "readme"
    directory.mkdir()
    shutil.copytree(REPO / "deploy", directory / "deploy")
    deploy = directory / "deploy/kubernetes"
    replace(deploy / "vassal/poddisruptionbudget.yaml", "policy/v1", "policy/v1beta1")
    # These servers call themselves v0.0.0-master.
    replace(deploy / "chart/Chart.yaml", ">=1.21.0-0", ">=0.0.0-0")
    os.symlink(REPO / "scripts", directory / "scripts")
    hello = (deploy / "emperor/vassals/hello.ini").read_text()
    for name, port in PORTS.items():
        (directory / f"{name}.ini").write_text(hello.replace(":8080", f":{port}"))
    return directory


def replace(file, old, new):
    text = file.read_text()
    if old not in text:
        raise Failure(f"{file} has no {old}")
    file.write_text(text.replace(old, new))


def both_shapes(cluster, run):
    emperor, vassal = commands(block(README, "kubectl apply -k deploy/kubernetes/emperor\n"))
    run(emperor)
    until("an emperor serves on each node", lambda: serves(cluster, "emperor", 3, 8080))
    status = "kubectl exec daemonset/emperor -- emperor status"
    until("its vassal runs", lambda: "vassals/hello  running" in run(status))
    run(vassal)
    until("both replicas serve", lambda: serves(cluster, "hello", 2, 8080))
    for line in (vassal, emperor):
        run(line.replace(" apply ", " delete --ignore-not-found "))
    until_gone(cluster)


def own_kustomization(cluster, run, directory):
    """The file of one's own, but for where the base is."""
    text = block(README, "resources:\n")
    base = "https://example.org/vassal.git/deploy/kubernetes/emperor"
    if base not in text:
        raise Failure(f"{README} has no {base}")
    own = directory / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(text.replace(base, "../deploy/kubernetes/emperor"))
    for name in PORTS:
        shutil.copy(directory / f"{name}.ini", own)
    run("kubectl apply -k own")
    until("both vassals are served on each node",
          lambda: all(serves(cluster, "emperor", 3, port) for port in PORTS.values()))
    run("kubectl delete -k own")
    until_gone(cluster)


def chart(cluster, run):
    # The server-side apply of 1.20 wants each port to say its protocol.
    run(block(README, "helm install emperor ").replace("helm install ", "helm install --server-side=false "))
    until("an emperor serves on each node", lambda: serves(cluster, "emperor", 3, 8080))
    run("helm uninstall emperor")
    until_gone(cluster)


def pods_of_files(cluster, run):
    for line, count in zip(commands(block(README, "scripts/manifest --image ")), (1, 3)):
        run(line)
        until("all replicas serve", lambda expected=count: serves(cluster, "shop", expected, 8080))
        run(line.replace("apply -f", "delete -f"))
        until_gone(cluster)


def serves(cluster, name, count, port):
    addresses = [address for _, address in cluster.pods(name).values()]
    return len(addresses) == count and all(fetch(address, port) == PAGE for address in addresses)


def until_gone(cluster):
    until("all pods are gone", lambda: not cluster.list("pods"))
