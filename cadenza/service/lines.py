"""What a service says: to the journal with fields, or line by line where there is none."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from controller.journal import Journal, Priority
from controller.workers.playback import PACE
from episodes.schema.cadenza_pb2 import Event


class Lines:
    """Takes what a run says and what happens in it.

    Args:
        journal: None where standard error does not go there.
        facts: fields of every line.
    """

    def __init__(self, journal: Journal | None, facts: Mapping[str, str]) -> None:
        self._journal, self._facts = journal, dict(facts)

    def episode(self, number: int) -> None:
        """Lines from now on belong to this one."""
        self._facts["CADENZA_EPISODE"] = str(number)

    def say(self, line: str) -> None:
        """What a person watching would be told."""
        self._write(line, Priority.NOTICE, "supervisor", "said")

    def event(self, event: Event) -> None:
        """What some process of the run put on record."""
        if event.kind != PACE:  # for the record only: too many
            self._write(f"{event.source}: {event.text}", priority_of(event), event.source, event.kind)

    def _write(self, line: str, priority: Priority, source: str, kind: str) -> None:
        fields = {**self._facts, "CADENZA_SOURCE": source, "CADENZA_KIND": kind}
        if self._journal is not None and self._journal.write(line, priority, fields):
            return
        if priority <= Priority.NOTICE:
            print(line, file=sys.stderr, flush=True)


def priority_of(event: Event) -> Priority:
    """How much it matters. What the supervisor put on record itself it has said as well."""
    if event.kind == "control" and "FAULT" in event.text:
        return Priority.ERROR
    if event.source == "supervisor":
        return Priority.DEBUG
    ordinary = event.kind == "control" and "->" in event.text
    return Priority.INFO if ordinary else Priority.NOTICE
