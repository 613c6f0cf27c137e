"""The state of the decision on record, so that a replay can start behind any tick: exact text, and back.

Numbers are written so that they are read back to the bit. The curve of a chunk is not written: it follows from the
chunk, which is on record itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from controller.authority import Authority, Fault
from controller.commanded import Commanded
from controller.curve import Cubic, Motion, curve_through
from controller.schedule import Mix, Schedule, Track
from controller.state import State
from controller.takeover import Person
from episodes.records import Mode
from spec.chunk import Chunk
from spec.errors import SpecError
from spec.robot import Control

STATE = "state"
"""Kind of the event that carries it."""

VERSION = 2

_TRACK = ("sequence", "weights", "observed_ns", "step_ns", "ends_ns", "arrived_ns")


def written(tick: int, state: State) -> str:
    """The state that ``tick`` left behind, as one line of JSON."""
    schedule, authority, person = state.schedule, state.authority, state.person
    mixed = () if schedule.mix is None else schedule.mix.tracks
    tracks = {track.sequence: track for track in (*mixed, *schedule.alive)}
    document = {
        **state._asdict(),
        "version": VERSION,
        "tick": tick,
        "commanded": _named(state.commanded),
        "sent": _named(state.sent),
        "authority": {
            **{name: getattr(authority, name) for name in Authority.__dataclass_fields__},
            "mode": authority.mode.name,
            "fault": authority.fault.name,
        },
        "schedule": {
            **schedule._asdict(),
            "tracks": [[getattr(track, name) for name in _TRACK] for track in tracks.values()],
            "alive": [track.sequence for track in schedule.alive],
            "mix": None if schedule.mix is None else [track.sequence for track in mixed],
            "splice": _named(schedule.splice),
            "piece": _named(schedule.piece),
        },
        "person": {**person._asdict(), "hand": _named(person.hand), "fade": _named(person.fade)},
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _named(value: Cubic | Commanded | Motion | None) -> dict[str, Any] | None:
    return None if value is None else value._asdict()


def restored(text: str, chunks: Mapping[int, Chunk], control: Control) -> tuple[int, State]:
    """What :func:`written` wrote: the tick, and the state it left behind.

    Args:
        text: of the event.
        chunks: those on record, by sequence.
        control: settings of the robot file the state was reached with.

    Raises:
        SpecError: the text is none of ours, or a chunk it needs is not on record.
    """
    try:
        document = json.loads(text)
        version = document.pop("version")
        if version != VERSION:
            raise SpecError("state on record", version, f"written by another version; this one reads {VERSION}")
        tick = document.pop("tick")
        _whole(document, State._fields)
        authority = _whole(document.pop("authority"), Authority.__dataclass_fields__)
        mode, fault = Mode[authority.pop("mode")], Fault[authority.pop("fault")]
        schedule = _schedule(document.pop("schedule"), chunks, control)
        person, commanded, sent = (document.pop(name) for name in ("person", "commanded", "sent"))
        state = State(
            stale=tuple(document.pop("stale")),
            authority=Authority(mode=mode, fault=fault, **authority),
            schedule=schedule,
            commanded=None if commanded is None else Commanded(**_tuples(commanded)),
            sent=None if sent is None else Commanded(**_tuples(sent)),
            person=_person(person),
            **document,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError("state on record", text[:60], f"cannot be read: {error}") from None
    return int(tick), state


def _schedule(document: dict[str, Any], chunks: Mapping[int, Chunk], control: Control) -> Schedule:
    tracks, listed = {}, document.pop("tracks")
    _whole(document, Schedule._fields)
    for values in listed:
        known = dict(zip(_TRACK, values, strict=True))
        chunk = chunks.get(known["sequence"])
        if chunk is None:
            raise SpecError("state on record", known["sequence"], "needs this chunk, which is not on record")
        curve = curve_through(chunk.targets, chunk.step_ns * 1e-9)
        tracks[known["sequence"]] = Track(first=tuple(chunk.targets[0].tolist()), curve=curve, **known)
    mix, splice, piece = (document.pop(name) for name in ("mix", "splice", "piece"))
    alive = tuple([tracks[sequence] for sequence in document.pop("alive")])
    return Schedule(
        alive=alive,
        mix=None if mix is None else Mix.of(tuple([tracks[sequence] for sequence in mix]), control),
        splice=_cubic(splice),
        piece=_cubic(piece),
        **document,
    )


def _person(document: dict[str, Any]) -> Person:
    _whole(document, Person._fields)
    hand, fade = document.pop("hand"), document.pop("fade")
    return Person(
        hand=None if hand is None else Motion(**_tuples(hand)),
        fade=_cubic(fade),
        **_tuples(document),
    )


def _whole(document: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Nothing missing, which a default would fill in."""
    missing = set(fields) - set(document)
    if missing:
        raise KeyError(", ".join(sorted(missing)))
    return document


def _cubic(document: dict[str, Any] | None) -> Cubic | None:
    if document is None:
        return None
    return Cubic(document["since_ns"], document["ends_ns"], tuple([tuple(terms) for terms in document["terms"]]))


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
