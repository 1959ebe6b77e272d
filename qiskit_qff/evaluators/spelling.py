"""What a wrong name may have meant: near matches, and all that is known where that is little."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def suggest(name: str, known: Sequence[str]) -> str:
    """A remark for an error message: names that look similar, and all of them if there are few.

    Args:
        name: What was given.
        known: What could have been meant.
    """
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    shown = known if len(known) <= 12 else [*known[:10], f"... ({len(known)} in all)"]
    remarks = [f"Did you mean {', '.join(near)}?"] if near else []
    if not near or len(known) <= 12:
        remarks.append(f"Known: {', '.join(shown)}.")
    return " ".join(remarks)
