"""Asking a policy about what is on record: the same windows, the same graphs, as if it had been there.

For the bundle that drove, the answers are the logged chunks to the last bit: that is the proof that an episode tells
what the policy saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.exploration import Exploration
from controller.workers.policy import Policy
from episodes.reader import Episode
from episodes.windows import Samples, history, policy_grid, sample, samples_of_chunks, segments
from spec.action import decode
from spec.arrays import Bool, Float, Float32, Int
from spec.errors import MisfitError
from spec.manifest import Manifest
from spec.observation import decode_jpeg, policy_image, policy_state


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a policy says at every policy step of an episode. The first dimension is the step."""

    observed_ns: Int
    """Instant of the newest observation, CLOCK_MONOTONIC [ns], shape (steps,)."""
    step_ns: int
    """Time between actions [ns]."""
    targets: Float
    """Decoded chunks [rad], shape (steps, chunk, joints)."""
    features: Float32
    """What the decoder was given, shape (steps, H, D), zero where masked."""
    mask: Bool
    """Shape (steps, H), True where a frame is real."""
    whole: Bool
    """False where the history reaches back before the recording, so that the live policy saw more, shape (steps,)."""


def policy_steps(episode: Episode, manifest: Manifest) -> Samples:
    """The policy steps of an episode: those at which the live policy was asked, else a grid of the policy's own.

    Args:
        episode: with the pictures of the policy's cameras.
        manifest: of the policy that is to be asked.

    Raises:
        MisfitError: other joints, a camera that is not on record, or nothing seen.
    """
    if manifest.joints != episode.joints:
        raise MisfitError(
            f"bundle {manifest.name}: joints {list(manifest.joints)} are not those on record, {list(episode.joints)} "
            f"({episode.path})"
        )
    cameras = tuple(manifest.observation.cameras)
    for name in cameras:
        if name not in episode.frames:
            have = ", ".join(episode.frames) or "none"
            raise MisfitError(
                f"bundle {manifest.name}: camera {name!r} is not on record in {episode.path} (has: {have})"
            )
    drove = _asked_then(episode, manifest)
    if drove is not None:
        samples = samples_of_chunks(episode, tuple(drove.observation.cameras))
    else:
        samples = _on_grid(episode, manifest)
    if not len(samples):
        raise MisfitError(
            f"{episode.path}: no policy step before which every camera of bundle {manifest.name} had seen"
        )
    return samples


def ask(
    episode: Episode, policy: Policy, samples: Samples | None = None, progress: Callable[[], None] = lambda: None
) -> Answers:
    """Ask a policy at every policy step, with the noise that the one that drove explored with, if it did.

    Args:
        episode: with the pictures of the policy's cameras.
        policy: of a bundle that fits it.
        samples: policy steps; those of :func:`policy_steps` by default.
        progress: called after each.
    """
    manifest = policy.manifest
    observation, action = manifest.observation, manifest.action
    samples = policy_steps(episode, manifest) if samples is None else samples
    step_ns = round(observation.step_s * 1e9)
    noise = _noise_then(episode, manifest)
    encoded = np.zeros((len(samples), manifest.feature_dim), dtype=np.float32)
    every = np.arange(len(samples), dtype=np.int64)
    index, mask = history(samples.observed_ns, every, observation.history, step_ns, samples.segment)
    features = np.zeros((len(samples), observation.history, manifest.feature_dim), dtype=np.float32)
    targets = np.zeros((len(samples), action.chunk, len(manifest.joints)))
    position, velocity, sent = (episode.ticks[name][samples.tick] for name in ("position", "velocity", "sent"))
    references = np.where(np.isfinite(sent).all(axis=1, keepdims=True), sent, position)
    for row in every:
        images = {
            name: policy_image(decode_jpeg(episode.frames[name].jpeg[samples.frames[name][row]]), wanted)
            for name, wanted in observation.cameras.items()
        }
        encoded[row] = policy.encode(policy_state(position[row], velocity[row], observation.state), images)
        features[row] = np.where(mask[row][:, None], encoded[index[row]], 0.0)
        drawn = noise(int(samples.observed_ns[row]))
        targets[row] = decode(action.space, policy.decode(features[row], mask[row], drawn), references[row])
        progress()
    whole = np.ones(len(samples), dtype=np.bool_)
    if _asked_then(episode, manifest) is not None:
        whole = ~_reaches_before(episode, samples, (observation.history - 0.5) * step_ns)
    return Answers(samples.observed_ns, round(action.step_s * 1e9), targets, features, mask, whole)


def on_record(episode: Episode, samples: Samples) -> Answers | None:
    """The logged chunks of those policy steps; None where no policy was asked at them."""
    chunks = {chunk.observed_ns: chunk for chunk in episode.chunks}
    found = [chunks.get(int(instant)) for instant in samples.observed_ns]
    shapes = {chunk.targets.shape for chunk in found if chunk is not None}
    if None in found or len(shapes) != 1:
        return None
    count = len(samples)
    return Answers(
        samples.observed_ns,
        next(iter(chunks.values())).step_ns,
        np.stack([chunk.targets for chunk in found if chunk is not None]),
        np.zeros((count, 0, 0), dtype=np.float32),
        np.zeros((count, 0), dtype=np.bool_),
        np.ones(count, dtype=np.bool_),
    )


def explored(episode: Episode) -> Exploration | None:
    """How the policy that drove explored; None where every chunk was its mean one. Raises SpecError."""
    return Exploration.of_labels(episode.labels, str(episode.path))


def _noise_then(episode: Episode, manifest: Manifest) -> Callable[[int], Float32 | None]:
    """The noise behind the chunk on record of a policy step [ns], in this policy's shape; none where there is none."""
    exploration = explored(episode)
    if exploration is None or _asked_then(episode, manifest) is None:
        return lambda _: None
    numbers = {chunk.observed_ns: chunk.sequence for chunk in episode.chunks}
    length, joints = manifest.action.chunk, len(manifest.joints)

    def noise(observed_ns: int) -> Float32 | None:
        number = numbers.get(observed_ns)
        return None if number is None else exploration.noise(number, length, joints)

    return noise


def _asked_then(episode: Episode, manifest: Manifest) -> Manifest | None:
    """The policy that made the chunks on record, where it saw all that this one wants to see. Chunks without a bundle
    are a playback's: they tell nothing of what a policy saw."""
    drove = episode.bundle()
    if drove is None or not episode.chunks:
        return None
    return drove if set(manifest.observation.cameras) <= set(drove.observation.cameras) else None


def _on_grid(episode: Episode, manifest: Manifest) -> Samples:
    ticks, robot = episode.ticks, episode.robot()
    if not len(ticks):
        raise MisfitError(f"{episode.path}: no ticks")
    cameras = {name: episode.frames[name].captured_ns for name in manifest.observation.cameras}
    grid = policy_grid(int(ticks["now_ns"][0]), int(ticks["now_ns"][-1]), round(manifest.action.step_s * 1e9))
    stale_ns = max((robot.cameras[name].stale_ns for name in cameras), default=None)
    found = sample(grid, ticks["now_ns"], cameras, max_age_ns=stale_ns)
    return Samples(found.observed_ns, found.tick, found.frames, segments(ticks["mode"])[found.tick])


def _reaches_before(episode: Episode, samples: Samples, reach_ns: float) -> Bool:
    """Where a history reaches back to a policy step that the log names but cannot show. Shape (steps,).

    A recording that begins while the policy drives holds the chunks in force, but not what they were made of.
    """
    numbers, of_tick = episode.ticks["tick"], segments(episode.ticks["mode"])
    here = set(samples.observed_ns.tolist())
    reaches = np.zeros(len(samples), dtype=np.bool_)
    for chunk in episode.chunks:
        if chunk.observed_ns in here or not np.isfinite(chunk.targets).all():
            continue
        place = int(np.searchsorted(numbers, chunk.tick, side="right")) - 1
        segment = int(of_tick[place]) if place >= 0 else 0
        before = samples.observed_ns - chunk.observed_ns
        reaches |= (before > 0) & (before < reach_ns) & (samples.segment == segment)
    return reaches
