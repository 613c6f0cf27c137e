"""Every topic between the processes of the robot PC: what travels, how often, how much may wait, how late it may be.

Code, tests and reports read this table; there is no other place where a rate or a depth is written.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from episodes.records import ChunkRecord, FrameHeader, OrderRecord, TeleopRecord, TickRecord
from spec.robot import Robot


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. Safe overflow: whoever reads too slowly loses the oldest, counts it, and holds nobody up."""

    name: str
    payload: type[ctypes.Structure] | None
    """Fixed-size record, or None for bytes of any length."""
    rate_hz: float
    """Usual rate; 0: now and then."""
    depth: int
    """Samples that may wait for one subscriber."""
    budget_ms: float
    """Sent to seen [ms]; more than that is worth an event."""
    first_bytes: int = 0
    """For bytes: length to make room for at first; what is longer has a port of its own that grows by powers of two."""
    publishers: int = 2
    """Ports. A restarted publisher overlaps its dead predecessor until that is cleaned up."""
    subscribers: int = 6


FRAME_BYTES = ctypes.sizeof(FrameHeader)

ORDERS = "orders"
TELEOP = "teleop"
TICKS = "ticks"
CHUNKS = "chunks"
EVENTS = "events"
FRAMES = "frames"
SIGHTS = "sights"
"""The headers of all cameras' frames without the pictures: for who only wants to know how old those are."""
STATES = "states"
"""Events as well: the state of the decision, long, and sent by who has no time to make room."""
_STATE_BYTES = 65536
"""Ample for 16 joints, 32 chunks in use and 400 things in the way; of six joints 6.5 kB were seen [bytes]."""


def topics(robot: Robot, policy_hz: float = 10.0) -> dict[str, Topic]:
    """The table for one robot, by topic name. Frame topics are called ``frames/<camera>``."""
    rate = robot.control.rate_hz
    table = [
        # Two seconds at 500 Hz: as long as a slow disk may stall the recorder before ticks are lost.
        Topic(TICKS, TickRecord, rate, depth=1024, budget_ms=2e3 / rate),
        Topic(CHUNKS, ChunkRecord, policy_hz, depth=32, budget_ms=2e3 / rate),
        Topic(ORDERS, OrderRecord, 0, depth=8, budget_ms=2e3 / rate),
        Topic(TELEOP, TeleopRecord, 0 if robot.teleop is None else robot.teleop.rate_hz, depth=8, budget_ms=2e3 / rate),
        Topic(
            SIGHTS,
            FrameHeader,
            sum(camera.fps for camera in robot.cameras.values()),
            depth=32,
            budget_ms=200.0,
            publishers=2 * max(1, len(robot.cameras)),
            subscribers=2,
        ),
        Topic(EVENTS, None, 0, depth=256, budget_ms=200.0, first_bytes=512, publishers=24),
        Topic(STATES, None, 0, depth=8, budget_ms=200.0, first_bytes=_STATE_BYTES, subscribers=2),
    ]
    for name, camera in robot.cameras.items():
        table.append(
            Topic(
                frames_topic(name),
                None,
                camera.fps,
                depth=max(8, round(camera.fps)),
                budget_ms=2e3 / camera.fps,
                # JPEG at quality 90 needs about 1 bit a pixel.
                first_bytes=FRAME_BYTES + camera.width * camera.height // 8,
                publishers=4,
                subscribers=4,
            )
        )
    return {topic.name: topic for topic in table}


def frames_topic(camera: str) -> str:
    """Topic of one camera's pictures."""
    return f"{FRAMES}/{camera}"
