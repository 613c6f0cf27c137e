"""What was seen of a soak, a JSON line each, written at once: one that is killed can be judged for what it had."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spec.errors import SpecError

JOURNAL_FILE = "soak.jsonl"


class Journal:
    """Open from its making until :meth:`close`. Times count from then on [s]."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / JOURNAL_FILE).open("x", encoding="utf-8")
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Since the beginning [s]."""
        return time.monotonic() - self._began_s

    def note(self, kind: str, **facts: Any) -> None:
        """Put something on record."""
        self._file.write(json.dumps({"kind": kind, "s": round(self.now_s(), 3), **facts}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Everything on record, in order; what a kill left of a last line is passed over.

    Raises:
        SpecError: no soak was recorded there.
    """
    path = folder / JOURNAL_FILE
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            notes = list(_whole(lines))
    except OSError as error:
        raise SpecError(str(path), error.strerror, "not the folder of a soak") from None
    if not notes or notes[0].get("kind") != "begin":
        raise SpecError(str(path), len(notes), "does not begin as the record of a soak does")
    return notes


def _whole(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            note = json.loads(line)
        except ValueError:
            return
        if isinstance(note, dict):
            yield note
