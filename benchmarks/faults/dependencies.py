"""Everything that an installation brings: version, licence, and what is known against it.

    python benchmarks/faults/dependencies.py [--smoke]

Walks the dependencies of the installed package (its extras too, as far as they are installed), without a network.
Known vulnerabilities are looked up by `pip-audit` where that is installed and its database can be reached; else
the record says so.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "dependencies.json"
RUNTIME_EXTRAS = ("lammps", "label", "interfaces")
COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure():
    """Names of all packages that are needed, directly or through others, as far as they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [
        *project["dependencies"],
        *(text for name in RUNTIME_EXTRAS for text in project["optional-dependencies"][name]),
    ]
    found, missing = {}, set()
    while waiting:
        text = waiting.pop()
        if "extra ==" in text:
            continue
        name = normal(re.match(r"[\w.-]+", text)[0])
        if name in found or name in missing:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        waiting += found[name].requires or []
    return found, sorted(missing)


def licence(package):
    """As the package itself says it."""
    data = package.metadata
    classifiers = [c.split(" :: ")[-1] for c in data.get_all("Classifier", []) if c.startswith("License ::")]
    words = (
        data.get("License-Expression") or ", ".join(classifiers) or (data.get("License") or "").strip().split("\n")[0]
    )
    return words[:60] or "not stated"


def known_vulnerabilities():
    """What pip-audit says, or why it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        listed = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return {
            "looked_up": 0,
            "why_not": (done.stderr.strip().splitlines() or ["pip-audit is not installed"])[-1][:200],
        }
    looked_up = [entry for entry in listed if "skip_reason" not in entry]
    bad = {entry["name"]: [v["id"] for v in entry["vulns"]] for entry in looked_up if entry["vulns"]}
    return {"looked_up": len(looked_up), "skipped": len(listed) - len(looked_up), "found": bad}


def main():
    """Print the list and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="do not ask pip-audit, write nothing")
    chosen = parser.parse_args()
    found, missing = closure()
    rows = [
        {"name": name, "version": package.version, "licence": licence(package)}
        for name, package in sorted(found.items())
    ]
    for row in rows:
        print(f"{row['name']:32s} {row['version']:16s} {row['licence']}")
    strong = [row["name"] for row in rows if COPYLEFT.search(row["licence"]) and "Lesser" not in row["licence"]]
    strong = [name for name in strong if "LGPL" not in next(row["licence"] for row in rows if row["name"] == name)]
    print(
        f"{len(rows)} packages, not installed here: {', '.join(missing) or 'none'}; GPL: {', '.join(strong) or 'none'}"
    )
    if not chosen.smoke:
        content = {
            "packages": rows,
            "not_installed": missing,
            "gpl": strong,
            "vulnerabilities": known_vulnerabilities(),
        }
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
        print(content["vulnerabilities"])


if __name__ == "__main__":
    main()
