"""What came of the faults that were tried, and the table of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Outcome:
    """Faults of one kind against one command."""

    fault: str
    """What was done to it."""
    command: str
    """The command, or what the faults have in common."""
    tried: int = 0
    """How often."""
    problems: list[str] = field(default_factory=list)
    """What was wrong, one entry for each fault that was not survived."""
    remark: str = ""
    """Where the faults struck, or why none was tried."""

    @property
    def survived(self) -> int:
        """Faults after which everything was as it should be."""
        return self.tried - len(self.problems)

    def add(self, problem: str | None) -> None:
        """Count one fault."""
        self.tried += 1
        if problem:
            self.problems.append(problem)


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as text, with every problem below."""
    outcomes = list(outcomes)
    rows = [("fault", "command", "tried", "survived", "")]
    rows += [(o.fault, o.command, str(o.tried), str(o.survived), o.remark) for o in outcomes]
    rows.append(("all", "", str(sum(o.tried for o in outcomes)), str(sum(o.survived for o in outcomes)), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["faults tried, survived"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  {o.fault}, {o.command}: {problem}" for o in outcomes for problem in o.problems]
    return "\n".join(lines)


def refusal_problem(code: int, stderr: str) -> str | None:
    """What is wrong with how a command refused: exit code 2, an error in one line, no traceback."""
    if TRACEBACK in stderr:
        return f"traceback: {stderr.strip().splitlines()[-1]}"
    if code != 2:
        return f"exit code {code}, not 2: {stderr[-200:]!r}"
    errors = [line for line in stderr.splitlines() if line.startswith("qff: error: ")]
    return None if len(errors) == 1 else f"expected one line of error, found {stderr[-300:]!r}"
