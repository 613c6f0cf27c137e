"""Writing an episode anew: all of it as it is, but for how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from mcap.records import Attachment, Channel, Message, Metadata, Schema

from episodes.mcapfile import McapFile
from episodes.outcome import Outcome, Termination, ending, ending_facts
from episodes.scan import Scan, open_episode
from episodes.writer import sync_folder
from spec.errors import CadenzaError

ENDING = "outcome"
"""The metadata record that holds it."""
_UNKNOWN = Schema(id=0, name="", encoding="", data=b"")
"""Of a channel whose schema was damaged: what travels on it can be told from its topic."""


def relabel(path: Path, outcome: Outcome, reward: float | None = None) -> None:
    """Judge a closed episode anew. At every instant there is one whole file under its name: the old or the new one.

    Args:
        path: ``*.mcap``.
        outcome: the new verdict.
        reward: for the last step; None takes the rule of :func:`episodes.outcome.ending`.

    Raises:
        CadenzaError: not an episode, or not a whole one.
        OSError: disk full or not writable; the file is untouched.
    """

    def judged(found: Mapping[str, str] | None) -> Mapping[str, str]:
        if found is None:
            raise CadenzaError(f"{path}: has no end to relabel; cadenza episodes recover may help")
        kept = {key: value for key, value in found.items() if key != "reward"}
        termination = Termination(found.get("termination", Termination.DONE))
        facts = ending_facts(ending(outcome, termination, reward))
        return {**kept, "outcome": outcome, **facts, "relabelled_utc": datetime.now(UTC).isoformat()}

    scan = Scan(open_episode(path))
    staging = path.with_name(f".{path.name}.relabelling")
    try:
        rewrite(scan, staging, judged)
        if not scan.whole:
            raise CadenzaError(f"{path}: damaged ({scan.damage}); it is left as it is")
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
    sync_folder(path.parent)


def rewrite(scan: Scan, target: Path, end: Callable[[Mapping[str, str] | None], Mapping[str, str]]) -> int:
    """Copy every sound record to the new file ``target``, sync it, and return how many messages it has.

    Args:
        scan: of the old file.
        target: is overwritten.
        end: from how the old file says it ended (None: it does not) to what the new one says.
    """
    messages = 0
    ended: Mapping[str, str] | None = None
    with target.open("wb") as file:
        writer = McapFile(file, "cadenza")
        schemas: dict[int, Schema] = {}
        channels: dict[int, int] = {}
        for record in scan:
            match record:
                case Schema():
                    schemas[record.id] = record
                case Channel() if record.id not in channels:
                    schema = schemas.get(record.schema_id, _UNKNOWN)
                    channels[record.id] = writer.channel(record.topic, schema.name, schema.data)
                case Message() if record.channel_id in channels:  # no reader makes anything of another
                    messages += 1
                    writer.message(channels[record.channel_id], record.log_time, record.data, record.sequence)
                case Attachment():
                    writer.attachment(record.log_time, record.name, record.media_type, record.data)
                case Metadata() if record.name == ENDING:
                    ended = record.metadata
                case Metadata():
                    writer.metadata(record.name, record.metadata)
                case _:
                    pass
        writer.metadata(ENDING, end(ended))
        writer.finish()
        os.fsync(file.fileno())
    return messages
