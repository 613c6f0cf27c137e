"""Flags for what a legacy checkpoint does not say: shared by the commands that read one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.legacy.anatomy import ResnetPadding, Told
from export.legacy.formats import Format, Legacy
from export.legacy.policy import LegacyPolicy, Place, load_original, placed
from learning.network.config import Activation
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.manifest import StateFeature
from spec.robotfile import load_robot


@dataclass(frozen=True, slots=True)
class LegacyArgs:
    """Of a legacy checkpoint. The first four must be said; the others where its config does not say them."""

    joints: tuple[str, ...] = ()
    """Names of the joints it moves, in action order."""
    config: Path | None = None
    """Robot file to take the joints from."""
    action_space: ActionSpace | None = None
    """What its actions mean."""
    step_s: float | None = None
    """Time between frames, and between actions [s]."""
    state: tuple[StateFeature, ...] = ()
    """What its state holds, each of every joint, e.g. position velocity; without, numbers that no arm measures."""
    action_low: tuple[float, ...] = (-1.0,)
    """What -1 of the actor means, in units of the action space [rad]; one number, or one for every joint."""
    action_high: tuple[float, ...] = (1.0,)
    """What +1 means."""
    format: Format | None = None
    """Form of the file; default: seen from what is there."""
    n_heads: int | None = None
    """Attention heads."""
    activation: Activation | None = None
    pre_norm: bool | None = None
    """Whether norms stand before attention and feed-forward."""
    log_std_min: float | None = None
    """Bounds of what the log-std head says."""
    log_std_max: float | None = None
    cameras: tuple[str, ...] = ()
    """Names of its cameras on the robot, in the order of its features; default: as in the checkpoint."""
    image: tuple[int, int] | None = None
    """Height and width of its images."""
    resnet_padding: ResnetPadding = ResnetPadding.SAME
    """How the blocks of a ResNet-10 pad: same, or one all round (revisions of early 2025)."""

    def load(self, path: Path) -> tuple[LegacyPolicy, Legacy]:
        """The checkpoint at ``path`` in its place. Raises SpecError."""
        place = self._place()
        original, legacy = load_original(path, self._told(), self.format)
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
        return Place(joints, self.action_space, self.step_s, self.state, self.action_low, self.action_high)

    def _told(self) -> Told:
        return Told(
            n_heads=self.n_heads,
            activation=self.activation,
            pre_norm=self.pre_norm,
            log_std_min=self.log_std_min,
            log_std_max=self.log_std_max,
            cameras=self.cameras,
            image=self.image,
            resnet_padding=self.resnet_padding,
        )
