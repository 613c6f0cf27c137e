"""The bundle manifest: everything the controller must know about a policy before it lets it near an arm.

A bundle is a folder with ``bundle.json`` (this) and ONNX graphs. Two graphs, so that only the newest frame of the
history is ever encoded at run time:

``encoder``
    in  ``state`` float32 (1, S) [rad, rad/s]: the state features of the joints, then the further vectors, concatenated
        in manifest order;
    in  ``image.<camera>`` uint8 (1, height, width, 3) RGB, one per camera;
    out ``feature`` float32 (1, D).
``decoder``
    in  ``features`` float32 (1, H, D), oldest first, and ``mask`` bool (1, H), True where a frame is real;
    in  ``noise`` float32 (1, C, A): standard normal for a sampled chunk, zeros for the mean chunk;
    out ``actions`` float32 (1, C, A) in the units of the action space: tanh(μ + σ·noise), denormalised.

Normalisation of states, images and actions lives inside the graphs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from spec.action import ActionSpace
from spec.errors import MisfitError
from spec.robot import Robot, Section

MANIFEST_VERSION = 1
MANIFEST_FILE = "bundle.json"
MAX_WEIGHTS = (1 << 32) - 1
"""A tick names its weight version in 32 bits."""


class StateFeature(StrEnum):
    """One measured quantity of every joint."""

    POSITION = "position"
    VELOCITY = "velocity"


class ImageInput(Section):
    """What the policy expects of one camera: the frame is resized to this, channels in RGB order."""

    height: PositiveInt
    width: PositiveInt


class Observation(Section):
    """What the policy sees."""

    history: PositiveInt
    """Frames H in the history, newest last."""
    step_s: PositiveFloat
    """Time between frames [s]."""
    state: tuple[StateFeature, ...] = (StateFeature.POSITION,)
    cameras: dict[str, ImageInput] = Field(default_factory=dict)
    vectors: dict[str, PositiveInt] = Field(default_factory=dict)
    """Numbers that neither joints nor cameras give, how many by name: the pose of an object in simulation, the state
    of a robot that a foreign checkpoint was trained on. No arm supplies them, so no arm is driven by such a bundle."""

    def state_dim(self, joints: int) -> int:
        """S, numbers in one frame's state."""
        return joints * len(self.state) + sum(self.vectors.values())


class Action(Section):
    """What the policy says."""

    space: ActionSpace
    chunk: PositiveInt
    """Actions C in a chunk."""
    step_s: PositiveFloat
    """Time between actions [s]."""


class Parity(Section):
    """How far the exported graphs are from the checkpoint they came from."""

    windows: int = Field(ge=0)
    """Real observation windows compared; 0: none were at hand."""
    random: PositiveInt | None = None
    """Random windows compared; None: as many as real ones."""
    max_abs: float = Field(ge=0)
    """Largest difference in action units, over real and random windows."""
    max_abs_rad: float = Field(ge=0)
    """Largest difference of a decoded joint target [rad]."""
    max_ticks: float = Field(ge=0)
    """The same in encoder ticks."""


class Manifest(Section):
    """``bundle.json``."""

    version: int = Field(default=MANIFEST_VERSION, ge=MANIFEST_VERSION, le=MANIFEST_VERSION)
    name: str
    files: dict[str, str]
    """File name → sha256, for every file of the bundle but this one."""
    encoder: str
    decoder: str
    joints: tuple[str, ...] = Field(min_length=1)
    """In action order."""
    observation: Observation
    action: Action
    feature_dim: PositiveInt
    actor: str
    """Kind and version of the actor, e.g. ``sequence_actor/1``."""
    exporter: str
    weights: int = Field(ge=0, le=MAX_WEIGHTS)
    """Weight version; grows with every export of one learner."""
    parity: Parity
    calibration: str | None = None
    """Hash of the calibration the policy was trained under; None: any."""

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name, digest in files.items():
            if "/" in name or not name.isprintable() or name in {"", ".", "..", MANIFEST_FILE}:
                raise ValueError(f"{name!r} is not a plain file name")
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise ValueError(f"{name}: {digest!r} is not a sha256")
        return files

    @model_validator(mode="after")
    def _graphs_are_listed(self) -> Self:
        for graph in (self.encoder, self.decoder):
            if graph not in self.files:
                raise ValueError(f"graph {graph!r} is not among files")
        return self


def check_fit(manifest: Manifest, robot: Robot, calibration: str | None = None) -> None:
    """Refuse a bundle that was made for another robot.

    Args:
        calibration: hash of the follower's calibration, where it is at hand; compared if the bundle names one.

    Raises:
        MisfitError: says which part differs.
    """
    have = robot.follower.names
    if manifest.joints != have:
        raise MisfitError(
            f"bundle {manifest.name}: joints {list(manifest.joints)} do not fit the robot's {list(have)} ({robot.name})"
        )
    if calibration is not None and manifest.calibration not in {None, calibration}:
        raise MisfitError(
            f"bundle {manifest.name}: trained under calibration {str(manifest.calibration)[:12]}, the arm "
            f"{robot.follower.serial} has {calibration[:12]} ({robot.follower.calibration})"
        )
    if vectors := manifest.observation.vectors:
        raise MisfitError(
            f"bundle {manifest.name}: wants {', '.join(f'{n} ({size} numbers)' for n, size in vectors.items())}, which "
            f"robot {robot.name} cannot measure; such a bundle runs in simulation only"
        )
    for name in manifest.observation.cameras:
        if name not in robot.cameras:
            raise MisfitError(
                f"bundle {manifest.name}: camera {name!r} is not on robot {robot.name} "
                f"(has: {', '.join(robot.cameras) or 'none'})"
            )
