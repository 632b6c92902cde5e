#!/usr/bin/python3
"""usage: sbom.py VERSION COMMIT SECONDS [NAME=VERSION=LICENCE=PURL]...

Prints what is linked into the two programs, as CycloneDX 1.5: the crates that cargo links (not those of
tests), by Cargo.lock with their checksums, and further components as named, such as the C library. The same
bytes for the same input: SECONDS since 1970 is its time, and its number is made from its content.
"""

import json
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    if {"-h", "--help"} & set(sys.argv[1:]) or len(sys.argv) < 4:
        print(__doc__.strip())
        sys.exit(len(sys.argv) < 4)
    version, commit, seconds, *others = sys.argv[1:]
    licences, needs = linked_crates()
    others = [other(words) for words in others]
    product = {
        "type": "application",
        "bom-ref": f"vassal@{version}",
        "name": "vassal",
        "version": version,
        "description": f"emperor and vassal-init, commit {commit}",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }
    its_own = needs.pop("pkg:cargo/vassal@" + version)
    needs[product["bom-ref"]] = its_own | {component["bom-ref"] for component in others}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": product,
        },
        "components": [*crates(licences), *others],
        "dependencies": [{"ref": name, "dependsOn": sorted(needed)}
                         for name, needed in sorted(needs.items())],
    }
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bom)).urn
    print(json.dumps(bom, indent=1))


def linked_crates():
    """The licence of each crate in the programs, and which needs which, by their purls."""
    command = ["cargo", "tree", "--locked", "--target", "x86_64-unknown-linux-musl", "--edges", "normal",
               "--no-dedupe"]
    command += ["--prefix", "depth", "--format", " {p} |{l}"]
    tree = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    licences, needs, above = {}, {}, []
    # "1 rustix v1.1.6 |MIT", below the crate of depth 0 that needs it.
    for line in tree.splitlines():
        words, _, licence = line.partition("|")
        depth, name, version, *_ = words.split()
        found = f"pkg:cargo/{name}@{version.removeprefix('v')}"
        above[int(depth) :] = [found]
        needs.setdefault(found, set())
        if len(above) > 1:
            needs[above[-2]].add(found)
            licences[found] = licence
    return licences, needs


def crates(licences):
    for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]:
        name, version = package["name"], package["version"]
        purl = f"pkg:cargo/{name}@{version}"
        if purl in licences:
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": package["checksum"]}],
                "licenses": [{"expression": licences[purl]}],
                "purl": purl,
            }


def other(words):
    name, version, licence, address = words.split("=", 3)
    return {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "licenses": [{"expression": licence}],
        "purl": address,
    }


main()
