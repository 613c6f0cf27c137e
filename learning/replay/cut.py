"""From a closed episode to rows. Everything that does not belong to the actor is refused here, in one line.

Where the policy of a live episode was asked, its sights are taken as they were: the reading of that tick, the picture
of that number. Elsewhere (a person alone at the arm, a script) time is cut evenly. See :mod:`episodes.transitions`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np

from episodes.reader import Episode, read_episode
from episodes.records import Driver
from episodes.transitions import Transitions, sighted, transitions
from episodes.windows import newest_at
from episodes.writer import CALIBRATION_FILE
from learning.network.config import ActorConfig
from learning.replay.rows import Rows
from spec.action import encode
from spec.arrays import Bool, Bytes, Float32, Int
from spec.calibration import Calibration
from spec.errors import CadenzaError, MisfitError
from spec.manifest import ImageInput
from spec.observation import decode_jpeg, policy_image, policy_state
from spec.robotfile import validated


class Source(StrEnum):
    """What an episode is to the learner."""

    DEMONSTRATION = "demonstration"
    """All of it is an example, whoever drove."""
    ONLINE = "online"
    """What a person did is an example, what the policy did is experience."""


def rows_of_episode(
    episode: Episode | Path, config: ActorConfig, source: Source = Source.ONLINE, calibration: str | None = None
) -> Rows:
    """Cut a closed episode into rows.

    Args:
        episode: a path, or an episode read with the pictures of the actor's cameras.
        config: of the actor that is to learn from it.
        source: what counts as an example.
        calibration: hash of the calibration the actor was trained under; None: any.

    Returns:
        Rows, possibly none: an episode in which the arm only rested has no steps.

    Raises:
        MisfitError: of other joints, cameras, steps, another action space or calibration.
        CadenzaError: not an episode, not closed, damaged, or with a number that is none.
    """
    if isinstance(episode, Path):
        episode = read_episode(episode, tuple(config.cameras))
    refuse_broken(episode)
    refuse_foreign(episode, config, calibration)
    step_ns = round(config.act_step_s * 1e9)
    steps = transitions(episode, step_ns, config.action_space, tuple(config.cameras), asked=True)
    return _rows(episode, steps, config, source)


def refuse_broken(episode: Episode) -> None:
    """Raises CadenzaError for an episode that is not closed or not whole."""
    if episode.damage:
        raise CadenzaError(
            f"{episode.path}: damaged ({episode.damage}); save what is whole: cadenza episodes recover {episode.path}"
        )
    if not episode.result:
        raise CadenzaError(
            f"{episode.path}: not closed; if its writer is dead: cadenza episodes recover {episode.path}"
        )
    if not len(episode.ticks):
        raise CadenzaError(f"{episode.path}: holds no ticks")


def refuse_foreign(episode: Episode, config: ActorConfig, calibration: str | None = None) -> None:
    """Raises MisfitError for an episode that an actor cannot learn from."""
    path = episode.path
    if config.vectors:
        raise MisfitError(f"{path}: the actor wants {', '.join(config.vectors)}, which no episode holds")
    if episode.joints != config.joints:
        raise MisfitError(f"{path}: joints {list(episode.joints)}, the actor has {list(config.joints)}")
    refuse_blind(episode, config.cameras)
    if (drove := episode.bundle()) is not None:
        if drove.action.space is not config.action_space:
            raise MisfitError(
                f"{path}: bundle {drove.name} drove in {drove.action.space}, the actor speaks {config.action_space}"
            )
        if round(drove.action.step_s * 1e9) != round(config.act_step_s * 1e9):
            raise MisfitError(
                f"{path}: bundle {drove.name} drove in steps of {drove.action.step_s:g} s, the actor's are of "
                f"{config.act_step_s:g} s"
            )
    found = calibration_of(episode)
    if calibration is not None and found not in {None, calibration}:
        raise MisfitError(f"{path}: recorded under calibration {str(found)[:12]}, the actor's is {calibration[:12]}")


def refuse_blind(episode: Episode, cameras: Iterable[str]) -> None:
    """Raises MisfitError for an episode in which one of these cameras saw nothing."""
    have = sighted(episode)
    for name in cameras:
        if name not in have:
            raise MisfitError(f"{episode.path}: no pictures of camera {name!r} (has: {', '.join(have) or 'none'})")


def calibration_of(episode: Episode) -> str | None:
    """Hash of the calibration an episode was recorded under; None where it names none.

    Raises:
        CadenzaError: what it names is none.
    """
    if CALIBRATION_FILE not in episode.attachments:
        return None
    where = f"{episode.path}: {CALIBRATION_FILE}"
    try:
        document = json.loads(episode.attachments[CALIBRATION_FILE])
    except ValueError:
        raise CadenzaError(f"{where}: not readable") from None
    return validated(Calibration, document, where).digest()


def decoded(episode: Episode, camera: str, frames: Sequence[int], size: ImageInput) -> Bytes:
    """Logged pictures as the policy sees them, RGB, shape (len(frames), height, width, 3).

    Raises:
        CadenzaError: one of them is none.
    """
    pictures = np.empty((len(frames), size.height, size.width, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        try:
            pictures[number] = policy_image(decode_jpeg(episode.frames[camera].jpeg[frame]), size)
        except ValueError as error:
            raise CadenzaError(f"{episode.path}: camera {camera}: frame {frame}: {error}") from None
    return pictures


def _rows(episode: Episode, steps: Transitions, config: ActorConfig, source: Source) -> Rows:
    samples, at = steps.samples, steps.at
    count = len(samples)
    acted = np.zeros(count, dtype=np.bool_)
    acted[at] = True
    reward = np.zeros(count, dtype=np.float32)
    reward[at] = steps.reward
    expert, terminated, breaks = (np.zeros(count, dtype=np.bool_) for _ in range(3))
    expert[at] = steps.intervention | (source is Source.DEMONSTRATION)
    # An example is what was executed. Experience is what the policy asked for: were it what the envelope made of that,
    # critics would never see the consequence of asking too much.
    action = np.zeros((count, config.action_dim), dtype=np.float32)
    action[at] = np.where(expert[at, None], steps.action, steps.wanted)
    terminated[at] = steps.terminated
    breaks[:] = True
    breaks[at] = steps.done | _handed_over(episode, steps, config)
    ticks = episode.ticks[samples.tick]
    return Rows(
        observed_ns=samples.observed_ns,
        segment=samples.segment,
        state=policy_state(ticks["position"], ticks["velocity"], config.state),
        images={name: _pictures(episode, name, samples.frames[name], size) for name, size in config.cameras.items()},
        acted=acted,
        action=action,
        expert=expert,
        plan=_plans(episode, steps, config) if source is Source.DEMONSTRATION else None,
        reward=reward,
        terminated=terminated,
        breaks=breaks,
    )


def _handed_over(episode: Episode, steps: Transitions, config: ActorConfig) -> Bool:
    """Whether the arm changes hands between a row's action and the next one's, even if only to change back."""
    driver = episode.ticks["driver"].astype(np.int64)
    hands = np.concatenate([[0], np.cumsum(np.diff(driver) != 0)])
    due = steps.samples.observed_ns[steps.at] + round(config.act_step_s * 1e9)
    turn = hands[newest_at(episode.ticks["now_ns"].astype(np.int64), due)]
    changed = np.zeros(len(turn), dtype=np.bool_)
    changed[:-1] = np.diff(turn) != 0
    return changed


def _pictures(episode: Episode, camera: str, frames: Int, size: ImageInput) -> Bytes:
    wanted, place = np.unique(frames, return_inverse=True)
    return decoded(episode, camera, wanted.tolist(), size)[place]


def _plans(episode: Episode, steps: Transitions, config: ActorConfig) -> Float32 | None:
    """What a script wrote down at each of its steps, shape (rows, C, A); NaN where it was not asked or did not drive.

    The chunks of a policy, which come with a bundle, are no plan to learn from.
    """
    if episode.bundle() is not None or not episode.chunks:
        return None
    samples, length = steps.samples, config.act_chunk_size
    plans = np.full((len(samples), length, config.action_dim), np.nan, dtype=np.float32)
    row_at = {int(instant): row for row, instant in enumerate(samples.observed_ns)}
    step_ns = round(config.act_step_s * 1e9)
    ticks = episode.ticks[samples.tick]
    for chunk in episode.chunks:
        if chunk.step_ns != step_ns or len(chunk.targets) < length:
            raise MisfitError(
                f"{episode.path}: chunk {chunk.sequence} plans {len(chunk.targets)} actions of "
                f"{chunk.step_ns * 1e-9:g} s; the actor's chunks are {length} of {config.act_step_s:g} s"
            )
        row = row_at.get(chunk.observed_ns)
        if row is None or ticks["driver"][row] == Driver.HUMAN:
            continue
        sent = ticks["sent"][row]
        reference = sent if np.isfinite(sent).all() else ticks["position"][row]
        plans[row] = encode(config.action_space, chunk.targets[:length], reference)
    return plans
