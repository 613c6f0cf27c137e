"""An episode as decisions: what was seen, what was then done, and what it was worth. Export and learner share it.

Time is cut into policy steps. A row is one step: the observation at its beginning and the action executed by its end
(an action is due at the end of its step). The observation after it is the next sample. Rows follow each other without
a gap within a *run*; where the policy could not have been asked (the arm rested, a camera was blind, ticks are
missing) the run ends and the next one begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from episodes.executed import asked_targets, executed_targets
from episodes.reader import Episode
from episodes.records import Driver
from episodes.windows import (
    RESTING,
    Samples,
    action_targets,
    newest_at,
    policy_grid,
    sample,
    samples_of_chunks,
    segments,
)
from spec.action import ActionSpace, encode
from spec.arrays import Bool, Float, Int
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True, eq=False)
class Sights:
    """The policy steps of an episode at which everything could be seen."""

    samples: Samples
    step: Int
    """Number of each, shape (samples,), rising; without a gap where one follows the other."""
    final: int
    """Number of the last step there was, seen or not."""


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """The steps of one episode, in order. Arrays have shape (rows,) unless said otherwise."""

    samples: Samples
    """What was seen, the last sight of each run included. Histories stay within a segment."""
    at: Int
    """Sample that each row begins with; what was seen after it is sample ``at + 1``."""
    action: Float
    """What was executed, in units of the action space, shape (rows, joints)."""
    wanted: Float
    """Likewise, but where the policy drove what it asked for, counted from what was executed before."""
    intervention: Bool
    """The person drove when the action was due."""
    reward: Float
    """Given after the row's observation, up to the next row's."""
    terminated: Bool
    """The task was over after this row."""
    truncated: Bool
    """The time was over after this row, the task was not."""
    done: Bool
    """Last row of its run. With neither of the above, the record just breaks off there."""

    def __len__(self) -> int:
        return len(self.at)

    def runs(self) -> list[slice]:
        """Rows of each run."""
        ends = np.flatnonzero(self.done) + 1
        return [slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True)] if len(ends) else []


def transitions(
    episode: Episode,
    step_ns: int,
    space: ActionSpace = ActionSpace.JOINT_POSITION,
    cameras: Collection[str] | None = None,
    asked: bool = False,
) -> Transitions:
    """Cut an episode into steps.

    Args:
        episode: the pictures themselves are not needed.
        step_ns: length of a step [ns]; not below a tick's.
        space: what an action means.
        cameras: those that must see at every step; None takes all that ever saw.
        asked: take the steps at which the live policy was asked, with the very readings and pictures it saw, where a
            policy that thinks in such steps and sees all those cameras was there. Else, and by default, the steps are
            even, from the first tick on.

    Returns:
        As many rows as there are steps at whose beginning every camera had seen lately and in which something was
        executed. Possibly none.

    Raises:
        CadenzaError: a reward that is not a number.
    """
    names = sighted(episode) if cameras is None else tuple(cameras)
    seen = sights(episode, step_ns, names, asked)
    samples, step = seen.samples, seen.step
    if not len(samples):
        return _none(names, len(episode.joints))
    tick_ns = episode.ticks["now_ns"].astype(np.int64)
    commands = executed_targets(episode.ticks)
    due = samples.observed_ns + step_ns
    targets, known = action_targets(samples.observed_ns, 1, step_ns, tick_ns, commands)
    wanted, _ = action_targets(samples.observed_ns, 1, step_ns, tick_ns, asked_targets(episode.ticks))
    reference = commands[samples.tick]
    known = known[:, 0] & np.isfinite(targets[:, 0]).all(axis=-1) & np.isfinite(reference).all(axis=-1)
    known &= ~np.isin(episode.ticks["mode"][samples.tick], RESTING)
    at = np.flatnonzero((np.diff(samples.segment) == 0) & (np.diff(step) == 1) & known[:-1])
    if not len(at):
        return _none(names, len(episode.joints))
    done = np.ones(len(at), dtype=np.bool_)
    done[:-1] = np.diff(at) != 1
    driver = episode.ticks["driver"][newest_at(tick_ns, due[at])]
    last = np.zeros(len(at), dtype=np.bool_)
    last[-1] = step[at[-1]] + 1 == seen.final  # if the last sight was earlier, nobody knows how it came to its end
    return Transitions(
        samples=samples,
        at=at,
        action=np.stack([encode(space, targets[row], reference[row])[0] for row in at]),
        wanted=np.stack([encode(space, wanted[row], reference[row])[0] for row in at]),
        intervention=np.asarray(driver == Driver.HUMAN),
        reward=_rewards(episode, samples.observed_ns[at], bool(last[-1])),
        terminated=last & episode.ending.terminated,
        truncated=last & episode.ending.truncated,
        done=done,
    )


def sights(episode: Episode, step_ns: int, cameras: Collection[str], asked: bool = False) -> Sights:
    """The steps of :func:`transitions`, of the same arguments, and what was seen at them."""
    active = np.flatnonzero(~np.isin(episode.ticks["mode"], RESTING))
    if not len(active):
        return Sights(_nothing(cameras), np.zeros(0, dtype=np.int64), 0)
    ends_ns = int(episode.ticks["now_ns"][active[-1]])
    drove = episode.bundle() if asked and episode.chunks else None
    if drove is None or policy_step_ns(episode) != step_ns or not set(cameras) <= set(drove.observation.cameras):
        return _seen_evenly(episode, step_ns, cameras, ends_ns)
    return _seen_when_asked(episode, step_ns, cameras, tuple(drove.observation.cameras), ends_ns)


def sighted(episode: Episode) -> tuple[str, ...]:
    """The cameras that saw anything, in the order of the robot file."""
    return tuple(name for name, frames in episode.frames.items() if len(frames))


def policy_step_ns(episode: Episode) -> int | None:
    """Time between the actions of what drove; None where nothing did that thinks in steps."""
    if (bundle := episode.bundle()) is not None:
        return round(bundle.action.step_s * 1e9)
    return episode.chunks[0].step_ns if episode.chunks else None


def action_space(episode: Episode) -> ActionSpace:
    """In which the policy that drove speaks; absolute positions where none did."""
    bundle = episode.bundle()
    return ActionSpace.JOINT_POSITION if bundle is None else bundle.action.space


def _seen_evenly(episode: Episode, step_ns: int, cameras: Collection[str], ends_ns: int) -> Sights:
    """What could be seen at even steps, a segment a run of them."""
    tick_ns = episode.ticks["now_ns"].astype(np.int64)
    grid = policy_grid(int(tick_ns[0]), ends_ns, step_ns)
    frame_ns = {name: episode.frames[name].captured_ns for name in cameras}
    samples = sample(grid, tick_ns, frame_ns)
    seen = ~np.isin(episode.ticks["mode"][samples.tick], RESTING)
    for name, oldest_ns in _patience_ns(episode, cameras).items():
        seen &= samples.observed_ns - frame_ns[name][samples.frames[name]] <= oldest_ns
    # Each step of the grid has the newest tick after the step before it, so the tick tells which step it was.
    step = -((grid[0] - samples.observed_ns[seen]) // step_ns)
    tick = samples.tick[seen]
    segment = segments(episode.ticks["mode"])[tick]
    breaks = np.zeros(len(tick), dtype=np.int64)
    breaks[1:] = (np.diff(step) != 1) | (np.diff(segment) != 0)
    frames = {name: index[seen] for name, index in samples.frames.items()}
    return Sights(Samples(samples.observed_ns[seen], tick, frames, np.cumsum(breaks)), step, len(grid) - 1)


def _seen_when_asked(
    episode: Episode, step_ns: int, cameras: Collection[str], all_cameras: tuple[str, ...], ends_ns: int
) -> Sights:
    """What the policy saw whenever it was asked. Segments are the live history's, which a step without an answer does
    not break; a sight while the arm rested is among them as it was there."""
    found = samples_of_chunks(episode, all_cameras)
    samples = Samples(found.observed_ns, found.tick, {name: found.frames[name] for name in cameras}, found.segment)
    if not len(samples):
        return Sights(samples, samples.tick, 0)
    step = np.zeros(len(samples), dtype=np.int64)
    step[1:] = np.cumsum((np.diff(samples.observed_ns) + step_ns // 2) // step_ns)
    # The answer to the last question may not have come any more: only a longer silence hides how it ended.
    unseen = (ends_ns - int(samples.observed_ns[-1])) // (2 * step_ns)
    return Sights(samples, step, int(step[-1]) + max(0, unseen))


def _patience_ns(episode: Episode, cameras: Collection[str]) -> Mapping[str, int]:
    """How old each camera's newest frame may be; the live policy is not asked with an older one."""
    robot = episode.robot()
    return {name: robot.cameras[name].stale_ns for name in cameras}


def _rewards(episode: Episode, observed_ns: Int, seen_to_the_end: bool) -> Float:
    """Reward of each row. None is lost: one from before the first row counts there, one from a gap before it."""
    reward = np.zeros(len(observed_ns))
    for time_ns, value in episode.rewards:
        row = int(np.searchsorted(observed_ns, time_ns, side="left")) - 1
        reward[max(row, 0)] += value
    if seen_to_the_end:
        reward[-1] += episode.ending.reward or 0.0
    if not np.isfinite(reward).all():
        raise CadenzaError(f"{episode.path}: a reward that is not finite")
    return reward


def _nothing(cameras: Collection[str]) -> Samples:
    index = np.zeros(0, dtype=np.int64)
    return Samples(index, index, dict.fromkeys(cameras, index), index)


def _none(cameras: Collection[str], joints: int) -> Transitions:
    index, flag = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    action = np.zeros((0, joints))
    return Transitions(_nothing(cameras), index, action, action, flag, np.zeros(0), flag, flag, flag)
