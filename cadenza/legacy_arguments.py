"""Flags for what a legacy checkpoint does not say: shared by the commands that read one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from export.legacy.anatomy import Told
from export.legacy.formats import Format, Legacy
from export.legacy.policy import LegacyPolicy, Place, load_original, placed
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.manifest import StateFeature
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class LegacyArgs:
    """Of a legacy checkpoint. Joints, action space, step and what its actions span must be said; the others where
    its config does not say them."""

    joints: tuple[str, ...] = ()
    """Names of the joints it moves, in action order."""
    config: Path | None = None
    """Robot file to take the joints from."""
    action_space: ActionSpace | None = None
    """What its actions mean."""
    step_s: float | None = None
    """Time between frames, and between actions [s]."""
    action_low: tuple[float, ...] = ()
    """What -1 of the actor means, in units of the action space [rad]; one number, or one for every joint."""
    action_high: tuple[float, ...] = ()
    """What +1 means."""
    state: tuple[StateFeature, ...] = ()
    """What its state holds, each of every joint, e.g. position velocity; without, numbers that no arm measures."""
    format: Format | None = None
    """Form of the file; default: seen from what is there."""
    told: Annotated[Told, tyro.conf.arg(name="")] = field(default_factory=Told)

    def load(self, path: Path) -> tuple[LegacyPolicy, Legacy]:
        """The checkpoint at ``path`` in its place. Raises SpecError."""
        place = self._place()
        original, legacy = load_original(path, self.told, self.format)
        return placed(original, place, path), legacy

    def _place(self) -> Place:
        joints = self.joints
        if self.config is not None:
            names = load_robot(self.config).follower.names
            if joints and joints != names:
                raise SpecError("--joints", list(joints), f"{self.config} has others", names)
            joints = names
        if not joints:
            raise SpecError(
                "--joints", None, "a legacy checkpoint does not say them: --joints A B ... or --config ROBOT.yaml"
            )
        if self.action_space is None:
            raise SpecError("--action-space", None, "a legacy checkpoint does not say it", list(ActionSpace))
        if self.step_s is None:
            raise SpecError("--step-s", None, "a legacy checkpoint does not say how long a step is [s]")
        if not self.step_s > 0.0:
            raise SpecError("--step-s", self.step_s, "must be above 0")
        for flag, span, end in (("--action-low", self.action_low, -1), ("--action-high", self.action_high, 1)):
            if not span:  # one radian a step, taken for granted, would be a blow
                said = f"a legacy checkpoint does not say what {end:+d} of its actor means [rad]; radians as they are"
                raise SpecError(flag, None, f"{said}: --action-low -1 --action-high 1")
        return Place(joints, self.action_space, self.step_s, self.action_low, self.action_high, self.state)
