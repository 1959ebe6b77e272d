"""The packaging part of the results: time and size of an installation."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def lines():
    """One line, with its script."""
    path = RESULTS / "install.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    largest = ", ".join(f"{name} {size:.0f}" for name, size in list(found["largest_mib"].items())[:3])
    time = f"{found['seconds']:.0f} s ({found['processor_seconds']:.0f} s of the processor)"
    again = f"{found['seconds_again']:.0f} s when that is cached, at a load of {found['load_average']:.0f}"
    size = f"{found['n_distributions']} packages, {found['size_mib']:.0f} MiB on disk (the largest: {largest} MiB)"
    return [
        (
            f"- Installation by pip: {time} with a download of {found['download_mib']:.0f} MiB, {again} on "
            f"{found['cores']} cores; {size}, of which this one {found['package_mib']:.1f} MiB. "
            "`benchmarks/packaging/install.py`"
        )
    ]
