"""Make every figure of RESULTS.md anew: train one model a data set, measure it, render the page.

    python benchmarks/run.py [--only PART ...] [--list] [--smoke]

Parts run one after the other, each in a process of its own, and a part that is done is not run again by the same
version: kill it when you like and call it again. Models, trajectories and times are kept in `benchmark-runs/` (or
$QFF_BENCHMARKS); data sets are read from $QFF_DATA, and those that are absent are skipped by name. Timings want an idle
machine. With --smoke each part does a minute's work and nothing is recorded.
"""

import argparse
import json
import subprocess
import sys
import time

from models import HERE, WORK

from qiskit_qff import __version__

PARTS = {
    "default_model": 25,
    "md_step": 5,
    "scaling": 10,
    "peers": 60,
    "parameters": 10,
    "uncertainty": 5,
    "stresses": 15,
    "fake_device": 40,
    "standard_errors": 30,
    "register_size": 15,
    "gradient_cost": 5,
    "estimator_training": 45,
    "stability": 240,
    "lips83_order": 2,
    "transport": 90,
    "active_learning": 65,
    "malformed": 5,
    "kills": 60,
    "install": 5,
}
"""Parts in their order, with the minutes that they took on two cores."""


def log():
    """Seconds of the parts that are done, by version and name."""
    path = WORK / "done.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and end")
    parser.add_argument("--smoke", action="store_true", help="a minute's work a part; nothing is recorded")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    done = {} if given.smoke else log().get(__version__, {})
    failed = []
    for name in given.only:
        if name in done:
            print(f"{name}: done in {done[name] / 60:.1f} min", flush=True)
            continue
        print(f"{name}: to do, about {PARTS[name]} min", flush=True)
        if given.list:
            continue
        begin = time.monotonic()
        ended = subprocess.run(
            [sys.executable, HERE / f"{name}.py", *(["--smoke"] if given.smoke else [])], check=False
        ).returncode
        if ended:
            failed.append(name)
        elif not given.smoke:
            everything = log()
            everything.setdefault(__version__, {})[name] = time.monotonic() - begin
            (WORK / "done.json").write_text(json.dumps(everything, indent=1) + "\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if not given.smoke and not given.list:
        subprocess.run([sys.executable, HERE / "render.py"], check=True)


if __name__ == "__main__":
    main()
