from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Tick(_message.Message):
    __slots__ = ("tick", "deadline_ns", "woke_ns", "read_ns", "decided_ns", "written_ns", "now_ns", "joints", "skipped", "position", "velocity", "effort", "raw", "fresh", "asked", "limited", "limited_velocity", "limited_acceleration", "sent", "sent_ticks", "mode", "flags", "chunk", "weights", "read_fault", "write_fault", "bus_errors", "order", "arrived", "driver", "buttons", "alpha", "policy", "teleop", "teleop_ns", "human", "human_velocity", "human_effort", "human_goal")
    TICK_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    WOKE_NS_FIELD_NUMBER: _ClassVar[int]
    READ_NS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_NS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_NS_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    JOINTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    VELOCITY_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    LIMITED_FIELD_NUMBER: _ClassVar[int]
    LIMITED_VELOCITY_FIELD_NUMBER: _ClassVar[int]
    LIMITED_ACCELERATION_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    SENT_TICKS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    READ_FAULT_FIELD_NUMBER: _ClassVar[int]
    WRITE_FAULT_FIELD_NUMBER: _ClassVar[int]
    BUS_ERRORS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    BUTTONS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TELEOP_FIELD_NUMBER: _ClassVar[int]
    TELEOP_NS_FIELD_NUMBER: _ClassVar[int]
    HUMAN_FIELD_NUMBER: _ClassVar[int]
    HUMAN_VELOCITY_FIELD_NUMBER: _ClassVar[int]
    HUMAN_EFFORT_FIELD_NUMBER: _ClassVar[int]
    HUMAN_GOAL_FIELD_NUMBER: _ClassVar[int]
    tick: int
    deadline_ns: int
    woke_ns: int
    read_ns: int
    decided_ns: int
    written_ns: int
    now_ns: int
    joints: int
    skipped: int
    position: _containers.RepeatedScalarFieldContainer[float]
    velocity: _containers.RepeatedScalarFieldContainer[float]
    effort: _containers.RepeatedScalarFieldContainer[float]
    raw: _containers.RepeatedScalarFieldContainer[int]
    fresh: _containers.RepeatedScalarFieldContainer[int]
    asked: _containers.RepeatedScalarFieldContainer[float]
    limited: _containers.RepeatedScalarFieldContainer[float]
    limited_velocity: _containers.RepeatedScalarFieldContainer[float]
    limited_acceleration: _containers.RepeatedScalarFieldContainer[float]
    sent: _containers.RepeatedScalarFieldContainer[float]
    sent_ticks: _containers.RepeatedScalarFieldContainer[int]
    mode: int
    flags: int
    chunk: int
    weights: int
    read_fault: int
    write_fault: int
    bus_errors: int
    order: int
    arrived: int
    driver: int
    buttons: int
    alpha: float
    policy: _containers.RepeatedScalarFieldContainer[float]
    teleop: int
    teleop_ns: int
    human: _containers.RepeatedScalarFieldContainer[float]
    human_velocity: _containers.RepeatedScalarFieldContainer[float]
    human_effort: _containers.RepeatedScalarFieldContainer[float]
    human_goal: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, tick: _Optional[int] = ..., deadline_ns: _Optional[int] = ..., woke_ns: _Optional[int] = ..., read_ns: _Optional[int] = ..., decided_ns: _Optional[int] = ..., written_ns: _Optional[int] = ..., now_ns: _Optional[int] = ..., joints: _Optional[int] = ..., skipped: _Optional[int] = ..., position: _Optional[_Iterable[float]] = ..., velocity: _Optional[_Iterable[float]] = ..., effort: _Optional[_Iterable[float]] = ..., raw: _Optional[_Iterable[int]] = ..., fresh: _Optional[_Iterable[int]] = ..., asked: _Optional[_Iterable[float]] = ..., limited: _Optional[_Iterable[float]] = ..., limited_velocity: _Optional[_Iterable[float]] = ..., limited_acceleration: _Optional[_Iterable[float]] = ..., sent: _Optional[_Iterable[float]] = ..., sent_ticks: _Optional[_Iterable[int]] = ..., mode: _Optional[int] = ..., flags: _Optional[int] = ..., chunk: _Optional[int] = ..., weights: _Optional[int] = ..., read_fault: _Optional[int] = ..., write_fault: _Optional[int] = ..., bus_errors: _Optional[int] = ..., order: _Optional[int] = ..., arrived: _Optional[int] = ..., driver: _Optional[int] = ..., buttons: _Optional[int] = ..., alpha: _Optional[float] = ..., policy: _Optional[_Iterable[float]] = ..., teleop: _Optional[int] = ..., teleop_ns: _Optional[int] = ..., human: _Optional[_Iterable[float]] = ..., human_velocity: _Optional[_Iterable[float]] = ..., human_effort: _Optional[_Iterable[float]] = ..., human_goal: _Optional[_Iterable[float]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("sequence", "observed_ns", "step_ns", "started_ns", "finished_ns", "length", "joints", "weights", "cameras", "tick", "frames", "targets")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_NS_FIELD_NUMBER: _ClassVar[int]
    STEP_NS_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_NS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    JOINTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    TICK_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    observed_ns: int
    step_ns: int
    started_ns: int
    finished_ns: int
    length: int
    joints: int
    weights: int
    cameras: int
    tick: int
    frames: _containers.RepeatedScalarFieldContainer[int]
    targets: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, sequence: _Optional[int] = ..., observed_ns: _Optional[int] = ..., step_ns: _Optional[int] = ..., started_ns: _Optional[int] = ..., finished_ns: _Optional[int] = ..., length: _Optional[int] = ..., joints: _Optional[int] = ..., weights: _Optional[int] = ..., cameras: _Optional[int] = ..., tick: _Optional[int] = ..., frames: _Optional[_Iterable[int]] = ..., targets: _Optional[_Iterable[float]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("time_ns", "source", "kind", "text")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    source: str
    kind: str
    text: str
    def __init__(self, time_ns: _Optional[int] = ..., source: _Optional[str] = ..., kind: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...
