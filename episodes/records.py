"""Fixed-size records: what the control loop publishes into shared memory and the recorder writes to the log.

They are ctypes structures so that a tick fills one in place without allocating, and another process reads it without
parsing. ``episodes/schema`` holds the same fields as protobuf for the log; a test keeps the two alike.
All times are CLOCK_MONOTONIC [ns]; arrays are in joint order, entries past ``joints`` are unused.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag

from spec.robot import MAX_JOINTS

MAX_CHUNK = 64
"""Longest action chunk a record can hold."""
MAX_CAMERAS = 8

_PerJoint = ctypes.c_double * MAX_JOINTS
_TicksPerJoint = ctypes.c_int32 * MAX_JOINTS


class Mode(IntEnum):
    """What the arm is doing; the states of controller.authority."""

    IDLE = 0
    """Torque as it was found, nothing sent."""
    EASE_IN = 1
    """Moving to the start pose."""
    POLICY = 2
    HOLD = 3
    """Stopped and holding; continues by itself when a fresh chunk comes."""
    FAULT = 4
    """Stopped and holding, latched until the operator clears it."""
    BLEND = 5
    """The arm is changing hands: the new driver is followed, and what is left of the old motion fades."""
    HUMAN = 6
    """A person drives."""


class Driver(IntEnum):
    """Whose wish the arm follows."""

    NONE = 0
    """Nobody's: it stands, brakes, or is on its way to the start pose."""
    POLICY = 1
    HUMAN = 2


class Flag(IntFlag):
    """What was noteworthy about one tick."""

    NONE = 0
    LATE = 1
    """Woke after the period was over; whole periods were skipped."""
    STALE_JOINT = 2
    """A joint's value is not from this tick."""
    NO_CHUNK = 4
    """No chunk reaches this instant."""
    TAIL = 8
    """Following the tail of the last chunk past its successor's time."""
    NONFINITE = 16
    """A non-finite number was refused."""
    LIMITED = 32
    """The envelope moved the command away from what was asked."""
    WORKSPACE = 64
    """The workspace box stopped the command."""
    STALE_CAMERA = 128
    """A camera's newest picture is too old: it is lost, frozen, or its process is gone."""
    FAULT_LATCHED = 256
    READ_FAILED = 512
    WRITE_FAILED = 1024
    NEW_CHUNK = 2048
    """A chunk was taken over in this tick."""
    CHUNK_REFUSED = 4096
    """A chunk came that cannot be used (wrong shape, non-finite, stale, from the future) and was dropped."""
    ENGAGED = 8192
    """The servos were made to hold where they stand just before this tick."""
    ENGAGE_FAILED = 16384
    """The servos refused to."""
    TAKEN_OVER = 1 << 15
    """A person took the arm in this tick."""
    RELEASED = 1 << 16
    """A person gave it back in this tick."""
    TAKEOVER_REFUSED = 1 << 17
    """A person wanted it and did not get it: the device is stale, or too far from where the arm is."""
    STALE_TELEOP = 1 << 18
    """A person has the arm, but the device has not been heard for too long."""
    NEW_TELEOP = 1 << 19
    """A sample of the teleoperation device came in this tick."""
    ORDERED = 1 << 20
    """An order came in this tick."""
    UNSENT = 1 << 21
    """The command of the tick before never left."""
    FORCE = 1 << 22
    """Somebody pulls at the leader arm: the residual is above its threshold."""
    COLLISION = 1 << 23
    """Two links, or a link and the table, would have come too near: that stopped the command."""


class TickRecord(ctypes.Structure):
    """One control tick, whole: what was read, asked, limited and sent, when, and why."""

    _fields_ = (
        ("tick", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_int64),
        ("woke_ns", ctypes.c_int64),
        ("read_ns", ctypes.c_int64),
        ("decided_ns", ctypes.c_int64),
        ("written_ns", ctypes.c_int64),
        ("now_ns", ctypes.c_int64),  # the instant decide was told; replay tells it the same
        ("joints", ctypes.c_uint32),
        ("skipped", ctypes.c_uint32),  # whole periods skipped before this tick
        ("position", _PerJoint),  # [rad]
        ("velocity", _PerJoint),  # [rad/s]
        ("effort", _PerJoint),  # [A] or load fraction
        ("raw", ctypes.c_int32 * (3 * MAX_JOINTS)),  # registers: position, velocity, effort of joint 0, of joint 1, ...
        ("fresh", ctypes.c_uint8 * MAX_JOINTS),
        ("asked", _PerJoint),  # [rad] what the schedule wanted
        ("limited", _PerJoint),  # [rad] what the envelope allowed
        ("limited_velocity", _PerJoint),  # [rad/s]
        ("limited_acceleration", _PerJoint),  # [rad/s²]
        ("sent", _PerJoint),  # [rad] after quantisation
        ("sent_ticks", _TicksPerJoint),
        ("mode", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("chunk", ctypes.c_int64),  # sequence of the newest chunk in use, whoever drives; -1 for none
        ("weights", ctypes.c_uint32),  # weight version of the chunks in use, all of one; 0 where there is none
        ("read_fault", ctypes.c_uint32),
        ("write_fault", ctypes.c_uint32),
        ("bus_errors", ctypes.c_uint32),  # failed exchanges since the start
        ("order", ctypes.c_uint32),  # with Flag.ORDERED
        ("arrived", ctypes.c_int64),  # sequence of the chunk that came; with Flag.NEW_CHUNK or CHUNK_REFUSED
        ("driver", ctypes.c_uint32),
        ("buttons", ctypes.c_uint32),  # spec.teleop.Button, of the newest sample, as the next four fields
        ("alpha", ctypes.c_double),  # weight of the person against the policy, 0 to 1
        ("policy", _PerJoint),  # [rad] what the policy wanted, whoever drove
        ("teleop", ctypes.c_int64),  # sequence of the newest sample of the teleoperation device
        ("teleop_ns", ctypes.c_int64),  # when it was read
        ("human", _PerJoint),  # [rad] what the person wanted: joint angles of the leader arm, in follower order
        ("human_velocity", _PerJoint),  # [rad/s]
        ("human_effort", _PerJoint),  # [A] current of the leader's servos
        ("human_goal", _PerJoint),  # [rad] what the leader was told to mirror; NaN while it gives way
    )

    @staticmethod
    def type_name() -> str:
        return "cadenza.TickRecord"


class ChunkRecord(ctypes.Structure):
    """One decoded action chunk and the observation it came from."""

    _fields_ = (
        ("sequence", ctypes.c_int64),
        ("observed_ns", ctypes.c_int64),
        ("step_ns", ctypes.c_int64),
        ("started_ns", ctypes.c_int64),  # inference began
        ("finished_ns", ctypes.c_int64),
        ("length", ctypes.c_uint32),
        ("joints", ctypes.c_uint32),
        ("weights", ctypes.c_uint32),
        ("cameras", ctypes.c_uint32),
        ("tick", ctypes.c_uint64),  # tick whose reading is the newest state of the history
        ("frames", ctypes.c_int64 * MAX_CAMERAS),  # sequence of each camera's newest frame, in manifest order
        ("targets", ctypes.c_double * (MAX_CHUNK * MAX_JOINTS)),  # [rad] row-major (length, joints), densely packed
    )

    @staticmethod
    def type_name() -> str:
        return "cadenza.ChunkRecord"


class FrameHeader(ctypes.Structure):
    """Travels before the JPEG bytes of one frame."""

    _fields_ = (
        ("camera", ctypes.c_uint32),  # index in robot-file order
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("sequence", ctypes.c_int64),
        ("captured_ns", ctypes.c_int64),
        ("published_ns", ctypes.c_int64),
    )

    @staticmethod
    def type_name() -> str:
        return "cadenza.FrameHeader"


class Order(IntEnum):
    """What the supervisor may ask of the control loop."""

    START = 0
    """Torque on where the arm stands, ease in to the start pose, then follow the policy."""
    HOLD = 1
    CLEAR_FAULT = 2
    STOP = 3
    """Stop and hold, then leave the loop."""
    HOME = 4
    """As START, but hold at the start pose until START."""
    TAKE_OVER = 5
    """A person drives from now on."""
    RELEASE = 6
    """The person gives the arm back to the policy; without one it holds."""
    MARK = 7
    """Put the whole state on record, so that a replay can start behind this tick. Changes nothing."""


class TeleopRecord(ctypes.Structure):
    """One sample of the teleoperation device. See :class:`spec.teleop.TeleopSample`."""

    _fields_ = (
        ("sequence", ctypes.c_int64),
        ("read_ns", ctypes.c_int64),
        ("joints", ctypes.c_uint32),
        ("buttons", ctypes.c_uint32),
        ("position", _PerJoint),  # [rad]
        ("velocity", _PerJoint),  # [rad/s]
        ("effort", _PerJoint),  # [A]
        ("goal", _PerJoint),  # [rad]; NaN while the device gives way
    )

    @staticmethod
    def type_name() -> str:
        return "cadenza.TeleopRecord"


class OrderRecord(ctypes.Structure):
    _fields_ = (("sequence", ctypes.c_int64), ("sent_ns", ctypes.c_int64), ("order", ctypes.c_uint32))

    @staticmethod
    def type_name() -> str:
        return "cadenza.OrderRecord"
