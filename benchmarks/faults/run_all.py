"""What happens to results when things go wrong: kills, full disks, two processes, malformed input, tokens.

    python benchmarks/faults/run_all.py [--kills 50] [--only train md ...] [--smoke]

Every command runs in children of a process that has imported everything, so that kills hit the work. Half of the kills
come at moments spread at random over the run, half before a randomly chosen operation on a file. After each, every
file must be readable, the command is resumed, and its results must equal those of a run that was never killed:
models, metrics, trajectories, logs, labels and measured values to the last digit, all but clocks and dates. The same
holds after a full disk, a limit on the size of files, a read-only directory, and a second process in the same
directory. Results are written down after every command; rows of what was not run stay.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

if __package__ in {None, ""}:
    import sys

    sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.disks import file_size_limit, full_disk, read_only, sync_order, two_at_once
from benchmarks.faults.suite.kills import kill_at_random, reference, workshop
from benchmarks.faults.suite.malformed import malformed_inputs
from benchmarks.faults.suite.outcomes import Outcome, table
from benchmarks.faults.suite.scenarios import SCENARIOS
from benchmarks.faults.suite.tokens import planted_token

OTHER_PARTS = ("malformed", "token")
RESULTS = Path(__file__).parents[1] / "results" / "faults.json"


def faults_of_commands(names: list[str], *, kills: int, others: int, seed: int) -> Iterator[list[Outcome]]:
    """All faults against the commands of these names, one command after the other."""
    with Nursery() as nursery, workshop(nursery) as work:
        chosen = [scenario for scenario in SCENARIOS if scenario.name in names]
        for scenario in sorted(chosen, key=lambda scenario: names.index(scenario.name)):
            rng = np.random.default_rng(seed)
            whole = reference(nursery, work, scenario)
            _say(f"{scenario.name}: {whole.seconds:.1f} s, {whole.operations} operations on files")
            arguments = (nursery, work, scenario, whole)
            outcomes = [sync_order(scenario, whole)]
            outcomes.append(kill_at_random(*arguments, count=kills, rng=rng, say=_say))
            if others:
                outcomes.append(file_size_limit(*arguments, count=others, rng=rng, say=_say))
                outcomes.append(full_disk(*arguments, count=others, rng=rng, say=_say))
                outcomes.append(read_only(*arguments))
                outcomes.append(two_at_once(*arguments))
            _say(table(outcomes))
            yield outcomes


def main() -> None:
    """Run what is asked for, print the table and write it down."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills of each command")
    parser.add_argument("--others", type=int, default=10, help="full disks and limits of each kind and command")
    parser.add_argument("--only", nargs="+", choices=[*names, *OTHER_PARTS], help="commands, or other parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two kills of qff md; nothing is written")
    chosen = parser.parse_args()
    if chosen.smoke:
        chosen.only, chosen.kills, chosen.others = ["md"], 2, 0
    wanted = chosen.only or [*names, *OTHER_PARTS]
    outcomes: list[Outcome] = []
    for found in _parts(wanted, kills=chosen.kills, others=chosen.others, seed=chosen.seed):
        outcomes += found
        if not chosen.smoke:
            record(found, seed=chosen.seed)
    print(table(outcomes))
    raise SystemExit(any(outcome.problems for outcome in outcomes))


def _parts(wanted: list[str], *, kills: int, others: int, seed: int) -> Iterator[list[Outcome]]:
    """Everything that was asked for."""
    names = [name for name in wanted if name not in OTHER_PARTS]
    if names:
        yield from faults_of_commands(names, kills=kills, others=others, seed=seed)
    if "malformed" in wanted:
        yield malformed_inputs(say=_say)
    if "token" in wanted:
        yield [planted_token(say=_say)]


def record(outcomes: list[Outcome], *, seed: int) -> None:
    """Write the table down; rows of parts that were not run stay."""
    old = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = [
        {"fault": o.fault, "command": o.command, "tried": o.tried, "survived": o.survived, "remark": o.remark}
        | {"problems": o.problems, "seed": seed}
        for o in outcomes
    ]
    new = {(row["fault"], row["command"]) for row in rows}
    rows = [row for row in old if (row["fault"], row["command"]) not in new] + rows
    content = {"rows": rows, "python": platform.python_version()}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
