"""What has been done, one JSON object a line, forced to disk before anything else is begun.

An entry is written after the files that it speaks of: what is in the journal is there, and what is not is done again.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from qiskit_qff.durable import sync_directory
from qiskit_qff.errors import ConfigError, DataError

Key = tuple[str, int, str]
"""Event, round and, for dynamics, the name of the run."""


class RunJournal:
    """The file, open for appending; locked while it is."""

    def __init__(self, path: Path) -> None:
        """Open or make it; a line that a kill cut short is taken off.

        Raises:
            ConfigError: if another process is writing it.
            DataError: if a line is no entry.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise ConfigError(f"{path}: another process is at work in this directory. Wait for it to end.") from None
        sync_directory(path.parent)
        self._entries: dict[Key, dict[str, Any]] = {}
        self._read()

    def get(self, event: str, round_: int = -1, name: str = "") -> dict[str, Any] | None:
        """The entry of an event, None if it has not happened."""
        return self._entries.get((event, round_, name))

    def add(self, event: str, round_: int = -1, name: str = "", **content: Any) -> dict[str, Any]:
        """Write an entry and force it to disk.

        Args:
            event: what happened.
            round_: in which round; -1 for before the first.
            name: of a run of the round.
            **content: numbers and words that say what came out.

        Returns:
            The entry as it will be read back.
        """
        line = json.dumps({"event": event, "round": round_, "name": name, **content}, allow_nan=False)
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        entry: dict[str, Any] = json.loads(line)
        self._entries[event, round_, name] = entry
        return entry

    def close(self) -> None:
        """Close the file, which ends the lock; an empty one is removed."""
        if not self._entries:
            self.path.unlink(missing_ok=True)
        self._stream.close()

    def _read(self) -> None:
        """Take in what is there.

        Raises:
            DataError: if a line is no entry.
        """
        self._stream.seek(0)
        whole = 0
        for number, line in enumerate(self._stream, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                self._entries[entry["event"], entry["round"], entry["name"]] = entry
            except (ValueError, KeyError, TypeError) as error:
                self._stream.close()
                raise DataError(f"{self.path}, line {number}: no entry of an active learning run ({error}).") from None
            whole += len(line)
        self._stream.truncate(whole)
        self._stream.seek(0, os.SEEK_END)
