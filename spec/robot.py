"""The robot file: what the arm is, where it is plugged in, and what it may do.

All lengths in metres, angles in radians, times in the unit the field's name ends with. Paths inside a robot file
are relative to the file itself. Read one with :func:`spec.robotfile.load_robot`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from spec.arrays import Float, frozen
from spec.braking import LONGEST_STOP_S, stopping_time

MAX_JOINTS = 16
"""Upper bound on joints of one arm; sizes the fixed records in shared memory."""
WATCHDOG_SUSPECT = 0.75
"""Share of the servos' watchdog time after which a silence may have set it off: they count in steps of 20 ms. The
driver asks them then, and the loop begins the motion anew."""


class Section(BaseModel):
    """A part of the robot file: unknown fields are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError("the first number must be below the second")
    return bounds


def _part_of_a_file_name(name: str) -> str:
    if not name or "/" in name or not name.isprintable():
        raise ValueError("may not be empty, and has neither a slash nor a control character")
    return name


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]

Angle = Annotated[float, Field(ge=-1e4, le=1e4)]
"""[rad], far beyond any joint; what a servo can reach is for its driver to say."""
LONGEST_CROSSING_S = 150.0
"""A joint crosses its range in this time at full speed. Catching up with a target that runs away at full speed leaves a
fiftieth of that speed; ruckig plans no motion of more than 7600 s."""


class ChunkMode(StrEnum):
    """How overlapping action chunks become one target (see controller.schedule)."""

    FIRST = "first"
    OPEN_LOOP = "open_loop"
    ENSEMBLE = "ensemble"
    LATEST = "latest"


class Realtime(StrEnum):
    """What to do about real-time privileges: demand them, take what can be had, or ask for none."""

    ENFORCE = "enforce"
    TRY = "try"
    OFF = "off"


class Joint(Section):
    """One servo and the joint it moves."""

    id: int = Field(ge=0, le=252)
    """Dynamixel id."""
    model: str
    """Model name as in the control tables, e.g. ``XL330-M288``."""
    inverted: bool = False
    """True where growing encoder ticks mean a falling joint angle."""
    position: Annotated[tuple[Angle, Angle], AfterValidator(_ordered)]
    """Permitted joint angle [rad]."""
    # Far beyond any arm. In between, and stopping in time, every motion can be planned in floating-point numbers.
    velocity: float = Field(ge=0.01, le=100.0)
    """Largest commanded speed [rad/s]."""
    acceleration: float = Field(ge=0.01, le=1e4)
    """Largest commanded acceleration [rad/s²]."""
    jerk: float = Field(ge=0.01, le=1e8)
    """Largest commanded jerk [rad/s³]."""
    current: PositiveFloat | None = None
    """Current limit programmed into the servo [A]; None leaves the servo's own."""
    home: float = 0.0
    """Start pose [rad]."""

    @model_validator(mode="after")
    def _home_is_reachable(self) -> Self:
        if not self.position[0] <= self.home <= self.position[1]:
            raise ValueError(f"home {self.home} lies outside position {list(self.position)}")
        return self

    @model_validator(mode="after")
    def _stops_in_time(self) -> Self:
        seconds = stopping_time(self.velocity, self.acceleration, self.jerk)
        if seconds > LONGEST_STOP_S:
            raise ValueError(
                f"velocity {self.velocity:g} takes {seconds:.3g} s to stop from with acceleration "
                f"{self.acceleration:g} and jerk {self.jerk:g}: at most {LONGEST_STOP_S:g} s"
            )
        return self

    @model_validator(mode="after")
    def _crosses_its_range(self) -> Self:
        lower, upper = self.position
        least = (upper - lower) / LONGEST_CROSSING_S
        if self.velocity < least:
            raise ValueError(
                f"velocity {self.velocity:g} takes {(upper - lower) / self.velocity:.3g} s to cross position "
                f"{list(self.position)}: at most {LONGEST_CROSSING_S:g} s, which velocity {least:.3g} takes"
            )
        return self


class Arm(Section):
    """One Dynamixel bus with one arm on it."""

    serial: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Names this very arm; calibration belongs to it."""
    port: str
    """Device path, best one that is stable over reboots (/dev/serial/by-id/...)."""
    baud: PositiveInt = 1_000_000
    return_delay_us: int = Field(default=0, ge=0, le=508, multiple_of=2)
    """Servo answer delay [µs], programmed at start (factory 500, which costs more than the answer itself)."""
    bus_watchdog_ms: int | None = Field(default=100, ge=20, le=2540, multiple_of=20)
    """Servos stop by themselves when the bus is silent this long [ms]."""
    calibration: Path
    """Calibration file of this arm."""
    joints: dict[str, Joint] = Field(min_length=1, max_length=MAX_JOINTS)
    """By name, in bus and action order."""

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: dict[int, str] = {}
        for name, joint in self.joints.items():
            if joint.id in seen:
                raise ValueError(f"joints {seen[joint.id]} and {name} share id {joint.id}")
            seen[joint.id] = name
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.joints)

    def each(self, field: str) -> Float:
        """One numeric field of every joint, in joint order; read-only. Ranges give shape (joints, 2)."""
        return frozen([getattr(joint, field) for joint in self.joints.values()])


class Camera(Section):
    """One camera, opened by OpenCV."""

    source: str
    """Stable device path (/dev/v4l/by-id/...) or URL."""
    width: int = Field(default=640, ge=16, le=8192)
    height: int = Field(default=480, ge=16, le=8192)
    fps: float = Field(default=30.0, ge=0.1, le=1000.0)
    stale_after_ms: float = Field(default=250.0, gt=0.0, le=60_000.0)
    """A frame older than this no longer counts as sight; the policy is not asked with it."""
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    """Quality at which frames are logged. The policy sees the same bytes."""

    @property
    def stale_ns(self) -> int:
        """``stale_after_ms`` [ns]."""
        return round(self.stale_after_ms * 1e6)


class Swap(Section):
    """How far new weights may be from those that drive, to take over from them while the arm moves.

    Two policies of one task that were trained apart differ by up to 0.37 rad RMS over eight chunks and 1.0 rad at a
    single action (the virtual arm's push); weights that were trained on from others stay well below that.
    """

    chunks: PositiveInt = 8
    """Chunks that are compared before."""
    rms_rad: PositiveFloat = 0.3
    """RMS difference of any joint's targets over all of them [rad]."""
    max_rad: PositiveFloat = 1.0
    """Difference of any joint's target at any action [rad]."""
    max_share: float = Field(default=0.4, gt=0.0, le=1.0)
    """The same as a share of the joint's range, for joints with a small one."""


class Control(Section):
    """The tick and what it does with chunks."""

    rate_hz: float = Field(default=200.0, ge=1.0, le=2000.0)
    mode: ChunkMode = ChunkMode.ENSEMBLE
    ensemble_m: float = Field(default=0.01, ge=0.0)
    """Temporal ensembling weight exp(-m·i), i = 0 for the oldest chunk (Zhao et al. 2023, ACT, section IV-B)."""
    open_loop_steps: PositiveInt = 4
    """Actions taken from one chunk in mode open_loop."""
    tail_ms: PositiveFloat = 300.0
    """How long the tail of the last chunk is followed when no newer one comes; then stop and hold."""
    stale_ticks: PositiveInt = 10
    """Ticks in a row without a fresh reading of some joint before the arm is stopped and held."""
    fault_ticks: PositiveInt = 100
    """Ticks in a row without a fresh reading of some joint before a fault is latched."""
    priority: int = Field(default=80, ge=1, le=99)
    """SCHED_FIFO priority of the control process."""
    cpu: int | None = Field(default=None, ge=0)
    """Core the control process is pinned to; None picks the last one."""
    realtime: Realtime = Realtime.TRY
    swap: Swap = Swap()

    @field_validator("realtime", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: object) -> object:
        return Realtime.OFF if value is False else value

    @property
    def period_ns(self) -> int:
        return round(1e9 / self.rate_hz)


class TeleopDevice(StrEnum):
    """What a person moves the arm with."""

    LEADER = "leader"
    """The robot file's leader arm."""
    GAMEPAD = "gamepad"
    KEYBOARD = "keyboard"


class GiveWay(StrEnum):
    """What a leader arm does while a person moves it."""

    OFF = "off"
    """Torque off."""
    LIGHT = "light"
    """Torque carries its weight and nothing more."""


class Key(StrEnum):
    """What a button, pedal or gesture can mean."""

    TAKE = "take"
    RELEASE = "release"
    TOGGLE = "toggle"
    DEAD_MAN = "dead_man"
    START_STOP = "start_stop"
    SUCCESS = "success"
    FAIL = "fail"
    DISCARD = "discard"
    REDO = "redo"
    HIGHLIGHT = "highlight"
    QUIT = "quit"


class Takeover(Section):
    """Above which residual a leader arm under torque is being pulled at. Measured: cadenza calibrate takeover."""

    position: dict[str, PositiveFloat]
    """By joint: |goal − position − lag·velocity| [rad]."""
    current: dict[str, PositiveFloat]
    """By joint: |current| [A]."""
    lag_s: float = Field(ge=0.0, le=1.0)
    """How far the leader trails what it mirrors [s]."""
    false_trips_per_hour: float = Field(default=0.0, ge=0.0)
    """Expected from the residuals that were measured with nobody at the arm."""
    measured_s: float = Field(default=0.0, ge=0.0)
    """For so long [s]."""


class Teleop(Section):
    """How a person takes the arm over."""

    device: TeleopDevice = TeleopDevice.LEADER
    input: str | None = None
    """Input device of a gamepad or keyboard (/dev/input/by-id/...)."""
    buttons: dict[str, dict[str, Key]] = Field(default_factory=dict)
    """Further input devices, foot pedals for one: path -> key name as evtest shows it -> meaning."""
    gestures: bool = True
    """Closing the leader's gripper twice within a second toggles who drives."""
    rate_hz: float = Field(default=100.0, ge=10.0, le=1000.0)
    """How often the device is read."""
    give_way: GiveWay = GiveWay.OFF
    force: bool = True
    """Pulling at the leader arm takes over. Needs thresholds."""
    takeover: Takeover | None = None
    """Thresholds; None takes those of the leader's calibration."""
    blend_ms: float = Field(default=200.0, gt=0.0, le=5000.0)
    """How long the old motion fades when the arm changes hands."""
    stale_ms: float = Field(default=100.0, gt=0.0)
    """Older than this, what the device said no longer counts."""
    align_rad: PositiveFloat = 0.35
    """The arm is only given to a device that is no further than this from where the arm is, in every joint."""
    dead_man: bool = False
    """Policy and person alike drive only while Key.DEAD_MAN is held."""
    speed: PositiveFloat = 0.5
    """Joint speed of a gamepad or keyboard [rad/s]."""

    @field_validator("give_way", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: object) -> object:
        return GiveWay.OFF if value is False else value

    @model_validator(mode="after")
    def _heard_often_enough(self) -> Self:
        if self.stale_ms * self.rate_hz < 2000.0:
            raise ValueError(
                f"stale_ms {self.stale_ms:g} must be two cycles of the device at least: "
                f"{2000.0 / self.rate_hz:g} at rate_hz {self.rate_hz:g}"
            )
        return self

    @model_validator(mode="after")
    def _dead_man_has_a_button(self) -> Self:
        meanings = {key for keys in self.buttons.values() for key in keys.values()}
        if self.dead_man and self.device is TeleopDevice.LEADER and Key.DEAD_MAN not in meanings:
            raise ValueError("dead_man needs a button that means it: buttons: {PATH: {KEY: dead_man}}")
        return self


class Workspace(Section):
    """Box that the tool stays inside, in the arm's base frame [m]."""

    x: Range
    y: Range
    z: Range

    def bounds(self) -> Float:
        """Shape (3, 2), read-only."""
        return frozen([self.x, self.y, self.z])


class Collision(Section):
    """Links stay apart, and off the table. Needs ``model``; its geoms of group 3 count."""

    margin: float = Field(default=0.005, ge=0.0, le=0.1)
    """How far apart they stay, by where they are told to be [m]. A servo that lags or sags is nearer."""
    table: bool = True
    """The plane z = 0 of the arm's base frame is in the way too."""


class Virtual(Section):
    """The virtual arm that stands in for hardware. Its ports and camera addresses replace those of the file."""

    attach: Path | None = None
    """Ready file of a running ``cadenza sim``; None starts one of its own."""
    task: str = "push"
    """What stands on the table."""
    seed: int = Field(default=0, ge=0)
    wire_time: bool = True
    """Packets take as long as they would at the set baud."""


class Robot(Section):
    """A whole robot file."""

    version: int = Field(default=1, ge=1, le=1)
    name: Annotated[str, AfterValidator(_part_of_a_file_name)] = Field(max_length=100)
    """Also part of file names."""
    follower: Arm
    leader: Arm | None = None
    cameras: dict[str, Camera] = Field(default_factory=dict)
    teleop: Teleop | None = None
    control: Control = Control()
    model: Path | None = None
    """MJCF of the follower; joint names as above, the tool a site named ``tool``. Needed for ``workspace`` and
    ``collision``."""
    workspace: Workspace | None = None
    collision: Collision | None = None
    virtual: Virtual | None = None

    @model_validator(mode="after")
    def _workspace_needs_model(self) -> Self:
        if self.workspace is not None and self.model is None:
            raise ValueError("workspace needs model: the arm's MJCF file")
        return self

    @model_validator(mode="after")
    def _collision_needs_model(self) -> Self:
        if self.collision is not None and self.model is None:
            raise ValueError("collision needs model: the arm's MJCF file")
        return self

    @model_validator(mode="after")
    def _leader_matches(self) -> Self:
        if self.teleop is not None and self.teleop.device is TeleopDevice.LEADER:
            if self.leader is None:
                raise ValueError("teleop.device is leader, but there is no leader arm")
            if self.leader.names != self.follower.names:
                raise ValueError(
                    f"leader joints {list(self.leader.names)} must be those of the follower {list(self.follower.names)}"
                )
        return self

    def limits(self) -> Limits:
        return Limits.of(self.follower)


class Limits:
    """Per-joint limits as arrays for the hot path, shape (joints,), read-only. See :class:`Joint` for units."""

    __slots__ = ("acceleration", "home", "jerk", "lower", "upper", "velocity")

    def __init__(
        self, lower: Float, upper: Float, velocity: Float, acceleration: Float, jerk: Float, home: Float
    ) -> None:
        self.lower, self.upper = frozen(lower), frozen(upper)
        self.velocity, self.acceleration, self.jerk = frozen(velocity), frozen(acceleration), frozen(jerk)
        self.home = frozen(home)

    @classmethod
    def of(cls, arm: Arm) -> Limits:
        position = arm.each("position")
        return cls(
            np.ascontiguousarray(position[:, 0]),
            np.ascontiguousarray(position[:, 1]),
            arm.each("velocity"),
            arm.each("acceleration"),
            arm.each("jerk"),
            arm.each("home"),
        )
