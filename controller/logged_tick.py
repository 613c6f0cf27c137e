"""One tick on record: what ``decide`` was told in it, and whether it answers the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.authority import Engagement
from controller.state import Command, Inputs
from drivers.arm import BusFault
from episodes.records import Driver, Flag, Mode, Order
from spec.arrays import Float
from spec.chunk import Chunk
from spec.teleop import TeleopSample

# What the loop adds to the flags of a decision.
_NOT_DECIDED = int(Flag.LATE | Flag.WRITE_FAILED | Flag.STALE_CAMERA)
_CAME = int(Flag.NEW_CHUNK | Flag.CHUNK_REFUSED)
_ENGAGEMENT = int(Flag.ENGAGED | Flag.ENGAGE_FAILED)
_VECTORS = ("asked", "limited", "limited_velocity", "limited_acceleration", "policy")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that came out otherwise."""

    tick: int
    field: str
    """Of the tick record, with the joint's name where it has one; ``engage``: whether the servos were to be engaged
    after it; ``state``: the whole state behind it."""
    logged: str
    recomputed: str

    def __str__(self) -> str:
        return f"tick {self.tick}: {self.field}: logged {self.logged}, recomputed {self.recomputed}"


def arrival(tick: Any) -> int | None:
    """Sequence of the chunk that came in this tick; None where none did."""
    return int(tick["arrived"]) if int(tick["flags"]) & _CAME else None


def engaged_before(tick: Any) -> bool:
    """Whether the servos were engaged, or refused to be, just before this tick."""
    return bool(int(tick["flags"]) & _ENGAGEMENT)


def inputs_of(tick: Any, chunk: Chunk | None) -> Inputs:
    """What ``decide`` was told.

    Args:
        tick: entry of ``Episode.ticks``.
        chunk: the one that came.
    """
    flags = int(tick["flags"])
    engagement = Engagement.NONE
    if engaged_before(tick):
        engagement = Engagement.DONE if flags & Flag.ENGAGED else Engagement.FAILED
    return Inputs(
        tick["position"],
        tick["velocity"],
        tick["effort"],
        tick["fresh"].astype(np.bool_),
        BusFault(int(tick["read_fault"])),
        chunk,
        Order(int(tick["order"])) if flags & Flag.ORDERED else None,
        engagement,
        bool(flags & Flag.UNSENT),
        _sample(tick) if flags & Flag.NEW_TELEOP else None,
    )


def _sample(tick: Any) -> TeleopSample:
    return TeleopSample(
        int(tick["teleop"]),
        int(tick["teleop_ns"]),
        tuple(tick["human"].tolist()),
        tuple(tick["human_velocity"].tolist()),
        tuple(tick["human_effort"].tolist()),
        tuple(tick["human_goal"].tolist()),
        int(tick["buttons"]),
    )


def compare(tick: Any, command: Command, engaged_next: bool, joints: tuple[str, ...]) -> Difference | None:
    """The first field of a tick that came out otherwise; None where all is bit-equal.

    Args:
        tick: entry of ``Episode.ticks``.
        command: answered now.
        engaged_next: whether the servos were engaged after it.
        joints: names.
    """
    number = int(tick["tick"])
    flags = int(tick["flags"]) & ~_NOT_DECIDED
    if int(tick["mode"]) != command.mode:
        return Difference(number, "mode", Mode(int(tick["mode"])).name, command.mode.name)
    if flags != command.flags:
        return Difference(number, "flags", _flags(flags), _flags(command.flags))
    if int(tick["driver"]) != command.driver:
        return Difference(number, "driver", Driver(int(tick["driver"])).name, command.driver.name)
    for name, logged, again in (
        ("chunk", int(tick["chunk"]), command.chunk),
        ("weights", int(tick["weights"]), command.weights),
        ("alpha", float(tick["alpha"]), command.alpha),
        ("engage", engaged_next, command.engage),
    ):
        if logged != again:
            return Difference(number, name, repr(logged), repr(again))
    for name, vector in _vectors(command).items():
        values = np.full(len(joints), np.nan) if vector is None else np.array(vector)
        if (joint := _first_other(tick[name], values)) is not None:
            logged_value, value = float(tick[name][joint]), float(values[joint])
            return Difference(number, f"{name} of {joints[joint]}", repr(logged_value), repr(value))
    return None


def _vectors(command: Command) -> Mapping[str, tuple[float, ...] | None]:
    commanded = command.commanded
    if commanded is None:
        return dict.fromkeys(_VECTORS) | {"policy": command.policy}
    motion = (command.asked, commanded.position, commanded.velocity, commanded.acceleration, command.policy)
    return dict(zip(_VECTORS, motion, strict=True))


def _first_other(logged: Float, again: Float) -> int | None:
    """The first joint whose bits differ. One NaN is as good as another."""
    same = (logged.view(np.int64) == again.view(np.int64)) | (np.isnan(logged) & np.isnan(again))
    return None if same.all() else int(np.argmin(same))


def _flags(flags: int) -> str:
    return " ".join(str(flag.name) for flag in Flag if flags & flag) or "none"
