"""Training windows from recorded episodes: what the policy would have seen, and what was right to do next.

Histories come from :mod:`episodes.windows`, as in the live policy, and pictures are the logged JPEG bytes, so that
training sees what the policy will see. Where a live policy was asked, they are the very pictures it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from episodes.reader import Episode, read_episode
from episodes.transitions import sights
from episodes.windows import RESTING, action_targets, history, newest_at, segments
from learning.cloning.plans import planned_steps, sent_targets
from learning.network.config import ActorConfig
from learning.replay.cut import calibration_of, decoded, refuse_blind, refuse_broken
from spec.action import ActionSpace, encode
from spec.arrays import Bool, Bytes, Float, Float32, Int
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.observation import policy_state

_APART_NS = 3_600_000_000_000
"""Episodes are laid on one time axis, this far from the end of one to the beginning of the next, so that one search
serves all of them."""


class Labels(StrEnum):
    """What counts as the right action."""

    PLAN = "plan"
    """The chunk written down at each policy step, e.g. by a scripted expert."""
    SENT = "sent"
    """What was really sent to the servos afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A batch of windows, oldest frame first.

    Shapes: state (batch, H, S) [rad, rad/s]; images by camera (batch, H, height, width, 3) uint8 RGB; mask
    (batch, H), True where a frame is real; actions (batch, C, A) in action units; action_mask (batch, C), True where
    the right action is known.
    """

    state: Tensor
    images: dict[str, Tensor]
    mask: Tensor
    actions: Tensor
    action_mask: Tensor

    def __len__(self) -> int:
        return int(self.state.shape[0])


@dataclass(slots=True, eq=False)
class _Gathered:
    """Pieces of all episodes, before they are joined."""

    tick_ns: list[Int] = field(default_factory=list)
    position: list[Float] = field(default_factory=list)
    velocity: list[Float] = field(default_factory=list)
    sent: list[Float] = field(default_factory=list)
    tick_segment: list[Int] = field(default_factory=list)
    resting: list[Bool] = field(default_factory=list)
    observed_ns: list[Int] = field(default_factory=list)
    segment: list[Int] = field(default_factory=list)
    episode: list[Int] = field(default_factory=list)
    ends_ns: list[int] = field(default_factory=list)
    plans: list[Float] = field(default_factory=list)
    frames: dict[str, list[Int]] = field(default_factory=dict)
    images: dict[str, list[Bytes]] = field(default_factory=dict)


class Demonstrations:
    """Episodes in memory, pictures decoded once, windows cut on demand.

    A sample is a policy step of the log: one that a chunk was written down at, for labels from plans; else one of
    :func:`episodes.transitions.sights`. A window may look at it late: its joints and actions are then taken
    ``delay`` after the picture, as on a robot whose camera lags behind its encoders.

    Args:
        paths: closed episodes.
        config: which cameras, sizes, steps and action space.
        labels: where the right actions come from.
        progress: called after each episode.

    Raises:
        CadenzaError: no episode, or one that is damaged, of another robot or calibration than the others, or without
            what ``labels`` needs.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: ActorConfig,
        labels: Labels = Labels.PLAN,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        if not paths:
            raise SpecError("--data", "", "no episodes there; record some: cadenza demos")
        self.config, self.labels = config, labels
        self._step_ns = round(config.act_step_s * 1e9)
        self.calibration: str | None = None
        """Hash of the calibration they were recorded under; None where none of them names one."""
        gathered = _Gathered(frames={name: [] for name in config.cameras}, images={name: [] for name in config.cameras})
        for number, path in enumerate(paths):
            self._take(read_episode(path, tuple(config.cameras)), number, gathered)
            progress()
        if not any(len(part) for part in gathered.observed_ns):
            raise CadenzaError(f"{paths[0]}: no policy step, here or in the others, before which every camera had seen")
        self._tick_ns = np.concatenate(gathered.tick_ns)
        self._position, self._velocity = np.concatenate(gathered.position), np.concatenate(gathered.velocity)
        self._sent = np.concatenate(gathered.sent)
        self._tick_segment, self._resting = np.concatenate(gathered.tick_segment), np.concatenate(gathered.resting)
        self._observed_ns = np.concatenate(gathered.observed_ns)
        self._segment = np.concatenate(gathered.segment)
        self.episode = np.concatenate(gathered.episode)
        """Episode of each sample, shape (samples,)."""
        self._ends_ns = np.array(gathered.ends_ns, dtype=np.int64)
        self._plans = np.concatenate(gathered.plans) if labels is Labels.PLAN else None
        self._frames = {name: np.concatenate(parts) for name, parts in gathered.frames.items()}
        self._images = {name: np.concatenate(parts) for name, parts in gathered.images.items()}

    def __len__(self) -> int:
        return len(self._observed_ns)

    @property
    def nbytes(self) -> int:
        """Memory the pictures take."""
        return sum(images.nbytes for images in self._images.values())

    def _take(self, episode: Episode, number: int, gathered: _Gathered) -> None:
        refuse_broken(episode)
        if episode.joints != self.config.joints:
            raise MisfitError(f"{episode.path}: joints {list(episode.joints)}, others have {list(self.config.joints)}")
        self._take_calibration(episode)
        refuse_blind(episode, self.config.cameras)
        if self.labels is Labels.PLAN:
            samples, plans = planned_steps(episode, self.config)
            gathered.plans.append(plans)
        else:
            samples = sights(episode, self._step_ns, tuple(self.config.cameras), asked=True).samples
        begins_ns = gathered.ends_ns[-1] + _APART_NS if gathered.ends_ns else 0
        offset = begins_ns - int(episode.ticks["now_ns"][0])
        tick_ns = episode.ticks["now_ns"].astype(np.int64) + offset
        for name, size in self.config.cameras.items():
            first = sum(len(part) for part in gathered.images[name])
            gathered.frames[name].append(first + samples.frames[name])
            gathered.images[name].append(decoded(episode, name, range(len(episode.frames[name])), size))
        first_segment = int(gathered.tick_segment[-1][-1]) + 1 if gathered.tick_segment else 0
        gathered.tick_ns.append(tick_ns)
        gathered.position.append(np.asarray(episode.ticks["position"], dtype=np.float64))
        gathered.velocity.append(np.asarray(episode.ticks["velocity"], dtype=np.float64))
        gathered.sent.append(sent_targets(episode))
        gathered.tick_segment.append(first_segment + segments(episode.ticks["mode"]))
        gathered.resting.append(np.isin(episode.ticks["mode"], RESTING))
        gathered.observed_ns.append(samples.observed_ns + offset)
        gathered.segment.append(gathered.tick_segment[-1][samples.tick])
        gathered.episode.append(np.full(len(samples), number, dtype=np.int64))
        gathered.ends_ns.append(int(tick_ns[-1]))

    def _take_calibration(self, episode: Episode) -> None:
        found = calibration_of(episode)
        if found is not None and self.calibration not in {None, found}:
            raise MisfitError(
                f"{episode.path}: recorded under calibration {found[:12]}, others under {str(self.calibration)[:12]}"
            )
        self.calibration = self.calibration or found

    def windows(self, rows: Int, delay_s: Float | None = None) -> Windows:
        """Windows ending at the samples ``rows``, shape (batch,), each seen ``delay_s`` late, shape (batch,).

        A delay is at most one action step: a plan tells no more than that beyond its chunk.
        """
        config = self.config
        delay_ns = np.zeros(len(rows), np.int64) if delay_s is None else np.rint(delay_s * 1e9).astype(np.int64)
        index, mask = history(
            self._observed_ns, rows, config.obs_history_length, round(config.obs_step_s * 1e9), self._segment
        )
        instants = np.minimum(self._observed_ns[index] + delay_ns[:, None], self._ends_ns[self.episode[rows], None])
        ticks = newest_at(self._tick_ns, instants.ravel()).reshape(index.shape)
        actions, known = self._labels(rows, delay_ns, ticks[:, -1])
        return Windows(
            state=torch.from_numpy(policy_state(self._position[ticks], self._velocity[ticks], config.state)),
            images={name: torch.from_numpy(self._images[name][self._frames[name][index]]) for name in config.cameras},
            mask=torch.from_numpy(mask),
            actions=torch.from_numpy(actions),
            action_mask=torch.from_numpy(known),
        )

    def _labels(self, rows: Int, delay_ns: Int, ticks: Int) -> tuple[Float32, Bool]:
        """Right actions in action units and where they are known, shapes (batch, C, A) and (batch, C).

        ``ticks`` are those of the observations. A tick that sent nothing says nothing about what was right, and where
        a delta would start from one it starts from the arm's own position, as in the live policy.
        """
        sent = self._sent[ticks]
        reference = np.where(np.isfinite(sent).all(axis=-1, keepdims=True), sent, self._position[ticks])
        targets, known = self._targets(rows, delay_ns)
        actions = _in_action_space(self.config.action_space, targets, reference)
        known &= np.isfinite(actions).all(axis=-1)
        return np.where(known[..., None], actions, np.float32(0.0)), known

    def _targets(self, rows: Int, delay_ns: Int) -> tuple[Float, Bool]:
        """Right joint targets [rad] and where they are known, shapes (batch, C, joints) and (batch, C)."""
        length = self.config.act_chunk_size
        observed = self._observed_ns[rows] + delay_ns
        if self._plans is None:
            targets, known = action_targets(observed, length, self._step_ns, self._tick_ns, self._sent)
            due = observed[:, None] + self._step_ns * np.arange(1, length + 1, dtype=np.int64)
            known &= due <= self._ends_ns[self.episode[rows], None]
            # What the arm did while it rested or was on its way to the start pose was nobody's answer to a sight.
            now, then = (newest_at(self._tick_ns, instants) for instants in (observed, due.ravel()))
            known &= self._tick_segment[then].reshape(due.shape) == self._tick_segment[now][:, None]
            return targets, known & ~self._resting[now][:, None]
        part = (delay_ns / self._step_ns)[:, None, None]
        plans = self._plans[rows]
        return plans[:, :length] * (1.0 - part) + plans[:, 1:] * part, np.ones((len(rows), length), dtype=np.bool_)

    def every(self, step: int) -> Int:
        """Every ``step``-th sample, from the first on."""
        return np.arange(0, len(self), step, dtype=np.int64)

    def states_and_actions(self) -> tuple[Tensor, Tensor]:
        """All states (N, S) and all known actions (M, A), to fit the normalisation to.

        Raises:
            CadenzaError: no action is known.
        """
        states, actions = [], []
        for start in range(0, len(self), 4096):
            rows = np.arange(start, min(start + 4096, len(self)))
            ticks = newest_at(self._tick_ns, self._observed_ns[rows])
            labels, known = self._labels(rows, np.zeros(len(rows), dtype=np.int64), ticks)
            states.append(policy_state(self._position[ticks], self._velocity[ticks], self.config.state))
            actions.append(labels[known])
        if not any(len(part) for part in actions):
            raise CadenzaError(f"--data: no episode there says what was right to do (labels {self.labels})")
        return torch.from_numpy(np.concatenate(states)), torch.from_numpy(np.concatenate(actions))


def episode_paths(folder: Path) -> list[Path]:
    """Closed episodes of a folder, by name. Raises SpecError when there is none."""
    paths = sorted(folder.glob("*.mcap"))
    if not paths:
        raise SpecError(str(folder), "no *.mcap", "no episodes there; record some: cadenza demos")
    return paths


def _in_action_space(space: ActionSpace, targets: Float, reference: Float) -> Float32:
    if space is ActionSpace.JOINT_POSITION:
        return targets.astype(np.float32)
    moved = [encode(space, chunk, start) for chunk, start in zip(targets, reference, strict=True)]
    return np.stack(moved).astype(np.float32)
