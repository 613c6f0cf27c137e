"""Every kind of fault of the campaign: how it is drawn, how long the arm may take to stand, and what must name it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from rich.table import Table

from controller.authority import Bounds
from controller.wiring.child import ALONE_S
from controller.wiring.vigil import BOUNDS
from drivers.arm import BusFault
from episodes.records import Flag
from spec.robot import Robot

STEP_S = 0.1
"""Of the policy [s]."""
CHUNK = 16
LATENCY_S = 0.04
"""From an observation to the chunk made of it [s]."""

_Draw = Callable[[np.random.Generator], Mapping[str, Any]]


class Tempo(NamedTuple):
    """What the ladder's bounds are for one robot, in ticks."""

    period_s: float
    hold: int
    """Without a fresh joint until it brakes."""
    alert: int
    """With a servo's alert until it brakes."""
    blind: int
    """Without a new chunk until it brakes."""
    silent_person: int
    """Without the person's device until it brakes."""
    brake: int
    """Longest way from full speed to a stand."""
    outage: int
    """Without the bus until the servos must be engaged anew."""

    @classmethod
    def of(cls, robot: Robot) -> Self:
        bounds, limits = Bounds.of(robot.control, robot.follower), robot.limits()
        period_s = robot.control.period_ns * 1e-9
        brake_s = float(np.max(limits.velocity / limits.acceleration + limits.acceleration / limits.jerk))
        # Overdue two steps after the one before it came, which may have been a moment ago; then the tail.
        blind_s = 2 * STEP_S + robot.control.tail_ms * 1e-3
        stale_s = 0.0 if robot.teleop is None else robot.teleop.stale_ms * 1e-3
        return cls(
            period_s,
            bounds.hold_ticks,
            bounds.alert_ticks,
            math.ceil(blind_s / period_s),
            math.ceil(stale_s / period_s),
            math.ceil(brake_s / period_s),
            bounds.outage_ticks,
        )


class Signs(NamedTuple):
    """What names a fault on record: any one of these in a tick of its time. None at all: it is to have no effect."""

    flags: Flag = Flag.NONE
    bus: BusFault = BusFault.NONE
    """In ``read_fault`` or ``write_fault``."""
    notice: str = ""
    """In what the loop, or the daemon, says; a regular expression."""
    joints: bool = False
    """And the record shows the very joints of the fault as not heard."""

    @property
    def none(self) -> bool:
        return not (self.flags or self.bus or self.notice)

    def __str__(self) -> str:
        parts = [flag.name or "" for flag in self.flags] + [f"bus {fault.name}" for fault in self.bus]
        words = [f'"{words}"' for words in self.notice.split("|") if words]
        return ", ".join([*parts, *words]) + (", with the joint" if self.joints else "")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    what: str
    """For people."""
    signs: Signs
    lasts: tuple[float, float] = (0.05, 1.5)
    """[s]"""
    draw: _Draw = lambda _: {}
    """What else it needs to know; JSON-able."""
    stands: Callable[[Tempo], int] | None = None
    """Ticks until the arm must stand, where it lasts so long; None: it need not stop for this."""
    person: bool = False
    """Means something only while a person drives."""
    weight: float = 1.0
    """How often it is drawn, against the others."""


def _servo(rng: np.random.Generator) -> dict[str, Any]:
    return {"servo": int(rng.integers(1, 7))}


def _servos(rng: np.random.Generator) -> dict[str, Any]:
    return {"servos": sorted(int(k) for k in rng.choice(np.arange(1, 7), size=int(rng.integers(2, 6)), replace=False))}


def _share(low: float, high: float) -> _Draw:
    return lambda rng: {"share": round(float(rng.uniform(low, high)), 3)}


def _late(low: float, high: float) -> _Draw:
    return lambda rng: {"ms": round(float(rng.uniform(low, high)), 1)}


def _bus_late(rng: np.random.Generator) -> dict[str, Any]:
    return {"ms": round(float(rng.uniform(0.5, 25.0)), 1), "jitter_ms": round(float(rng.uniform(0.0, 10.0)), 1)}


def _joint_and(name: str, *choices: str) -> _Draw:
    return lambda rng: {"joint": int(rng.integers(6)), name: str(rng.choice(choices))}


def _beside(rng: np.random.Generator) -> dict[str, Any]:
    of = str(rng.choice(["velocity", "effort"]))
    return {"of": of, **_joint_and("value", "nan", "inf", "-inf")(rng)}


def _seeded(rng: np.random.Generator) -> dict[str, Any]:
    return {"seed": int(rng.integers(1 << 31))}


def _unheard(tempo: Tempo) -> int:
    return tempo.hold + tempo.brake + 2


def _alerted(tempo: Tempo) -> int:
    return tempo.alert + tempo.brake + 2


def _blind(tempo: Tempo) -> int:
    return tempo.blind + tempo.brake + 2


def _deserted(tempo: Tempo) -> int:
    return tempo.silent_person + tempo.brake + 2


_HARM = Signs(bus=BusFault.TIMEOUT | BusFault.CORRUPT)
_UNHEARD = Signs(Flag.STALE_JOINT)
_SILENCE = Signs(Flag.STALE_JOINT, joints=True)
_GONE = Signs(bus=BusFault.DISCONNECTED)


def _alert(error: str) -> Signs:
    return Signs(bus=BusFault.SERVO, notice=error)


_REFUSED = Signs(Flag.CHUNK_REFUSED)
_NO_POLICY = Signs(Flag.TAIL | Flag.NO_CHUNK)
_LIMITED = Signs(Flag.LIMITED)

KINDS: dict[str, Kind] = {
    "loss": Kind("packets lost, either way", _HARM, draw=_share(0.02, 0.7), weight=2),
    "corruption": Kind("packets with a flipped bit", _HARM, draw=_share(0.02, 0.7), weight=2),
    "burst": Kind("a burst in which nearly nothing gets through", _HARM, (0.01, 0.12), _share(0.8, 1.0)),
    "late_packets": Kind(
        "answers come late, and late by chance",
        Signs(bus=BusFault.TIMEOUT | BusFault.SKIPPED),
        draw=_bus_late,
        weight=2,
    ),
    "noise": Kind("bytes that nobody sent", _UNHEARD, draw=_share(0.05, 0.9)),
    "repeat": Kind("answers that come twice", _UNHEARD, draw=_share(0.1, 0.9)),
    "one_silent": Kind("one servo says nothing", _SILENCE, (0.03, 2.0), _servo, _unheard, weight=2),
    "some_silent": Kind("several servos say nothing", _SILENCE, (0.03, 2.0), _servos, _unheard),
    "all_silent": Kind("no servo says anything", _SILENCE, (0.03, 2.0), stands=_unheard),
    "unplug": Kind("the cable is pulled and put back", _GONE, (0.03, 2.0), stands=_unheard, weight=2),
    "unplug_power": Kind("the same, with the servos' power", _GONE, (0.3, 2.0), stands=_unheard),
    "swapped": Kind(
        "and another model comes back in one servo's place", Signs(notice="not recovered"), (0.9, 2.4), _servo, _unheard
    ),
    "overload": Kind("a servo shuts down: overload", _alert("overload"), (0.2, 1.0), _servo, _alerted),
    "over_temperature": Kind("a servo shuts down: overheating", _alert("overheating"), (0.2, 1.0), _servo, _alerted),
    "under_voltage": Kind(
        "the supply sags below what servos bear", _alert("input voltage"), (0.2, 1.0), stands=_alerted
    ),
    "over_current": Kind("a servo shuts down: over-current", _alert("electrical shock"), (0.2, 1.0), _servo, _alerted),
    "late_chunk": Kind("chunks come late", _NO_POLICY, (0.3, 2.0), _late(30.0, 900.0)),
    "no_chunk": Kind("no chunk comes", _NO_POLICY, (0.2, 2.5), stands=_blind, weight=2),
    "chunk_shape": Kind("chunks without an action, or of wrong dimensions", _REFUSED, (0.1, 2.0), _seeded, _blind),
    "chunk_step": Kind("chunks whose step is no time", _REFUSED, (0.1, 2.0), stands=_blind),
    "chunk_joints": Kind("chunks for an arm of other joints", _REFUSED, (0.1, 2.0), _seeded, _blind),
    "chunk_nonfinite": Kind(
        "chunks with a NaN or an infinity",
        Signs(Flag.NONFINITE),
        (0.1, 2.0),
        _joint_and("value", "nan", "inf", "-inf"),
        _blind,
    ),
    "chunk_future": Kind("chunks observed in the future", _REFUSED, (0.1, 2.0), stands=_blind),
    "chunk_stale": Kind("chunks observed long ago, or repeated", _REFUSED, (0.1, 2.0), _seeded, _blind),
    "chunk_range": Kind("goals beyond a joint's limits", _LIMITED, (0.1, 2.0), _joint_and("side", "+", "-")),
    "chunk_far": Kind("goals that leap from chunk to chunk", _LIMITED, (0.1, 2.0), _seeded, weight=2),
    "nonfinite_reading": Kind(
        "a joint is read to be at no number",
        Signs(Flag.NONFINITE),
        (0.02, 1.5),
        _joint_and("value", "nan", "inf", "-inf"),
        _unheard,
    ),
    "nonfinite_beside": Kind("a joint's speed or current reads as no number", Signs(), (0.02, 1.5), _beside),
    "stall": Kind("the loop is kept from running", Signs(Flag.LATE), (0.0, 0.0), _late(12.0, 1500.0), weight=2),
    "lost_device": Kind(
        "the person's device falls silent", Signs(Flag.STALE_TELEOP), (0.05, 1.6), stands=_deserted, person=True
    ),
    "device_garbage": Kind("the person's device says what no device can", _LIMITED, (0.05, 1.0), _seeded, person=True),
    "odd_orders": Kind("orders in an order that makes no sense", Signs(Flag.ORDERED), (0.1, 1.5), _seeded, weight=2),
}
"""Those of lock-step."""

_NAMED_STALE = Signs(Flag.STALE_CAMERA, notice="no new picture|camera lost|camera frozen")


def _killed(name: str) -> Signs:
    return Signs(notice=f"{name}: killed by SIGKILL")


def _hangs(what: str, name: str) -> Kind:
    """Stopped for longer than a process of this name may be busy with one thing."""
    seconds = BOUNDS[name].seconds
    return Kind(what, Signs(notice=f"{name}.*: no sign of life"), (seconds + 1.0, seconds + 1.5), weight=0.7)


LIVE_KINDS: dict[str, Kind] = {
    "kill_control": Kind("the control process is killed", _killed("control"), (0.0, 0.0), weight=2),
    "stop_control": Kind(
        "and is stopped (SIGSTOP)", Signs(Flag.LATE, notice="control: no tick for"), (0.05, 2.5), weight=2
    ),
    "kill_inference": Kind("the inference process is killed", _killed("inference"), (0.0, 0.0)),
    "stop_inference": Kind("and is stopped", _NO_POLICY, (0.7, 1.5)),
    "kill_camera": Kind("a camera process is killed", _killed("camera .*"), (0.0, 0.0)),
    "stop_camera": Kind("and is stopped", Signs(Flag.STALE_CAMERA, notice="no new picture"), (0.8, 1.5)),
    "hang_camera": _hangs("and is stopped for good", "camera"),
    "freeze_camera": Kind("a camera shows the same picture for ever", _NAMED_STALE, (1.0, 1.5)),
    "drop_camera": Kind("a camera is gone", _NAMED_STALE, (1.0, 1.5)),
    "kill_recorder": Kind("the recorder is killed", _killed("recorder"), (0.0, 0.0), weight=2),
    "stop_recorder": Kind("and is stopped", Signs(), (0.1, 1.0)),
    "hang_recorder": _hangs("and is stopped for good", "recorder"),
    "kill_teleop": Kind("the process of the person's device is killed", _killed("teleop"), (0.0, 0.0)),
    "stop_teleop": Kind("and is stopped", Signs(), (0.1, 1.0)),
    "hang_teleop": _hangs("and is stopped for good", "teleop"),
    "stop_supervisor": Kind("the supervisor is stopped", Signs(), (0.3, 1.5)),
    "hang_supervisor": Kind(
        "and for so long that the others see it", Signs(notice="supervisor silent"), (ALONE_S + 1.0, ALONE_S + 2.0)
    ),
    "unplug": Kind("the cable is pulled and put back", Signs(notice="PORT_GONE"), (0.1, 1.0), weight=2),
    "loss": Kind("packets lost, either way", _HARM, (0.3, 1.0), _share(0.2, 0.6)),
    "disk_full": Kind("the disk is full", Signs(notice="disk low|MB free|No space left"), (1.5, 2.0)),
    "disk_read_only": Kind("the disk is read-only", Signs(notice="[Rr]ead-only"), (1.5, 2.0)),
    "shared_memory_full": Kind("no shared memory is left", Signs(), (0.5, 1.0)),
}
"""Those of the whole daemon."""
ON_DISK = {"disk_full", "disk_read_only"}
IN_MEMORY = {"shared_memory_full"}


def kinds_table() -> Table:
    """Every kind, with what must name it."""
    table = Table("fault", "what happens", "named by any of", box=None)
    for title, kinds in (("in lock-step", KINDS), ("live", LIVE_KINDS)):
        table.add_row(f"[bold]{title}[/]", "", "")
        for name, kind in kinds.items():
            table.add_row(name, kind.what, str(kind.signs) or "nothing: it is to have no effect")
    return table
