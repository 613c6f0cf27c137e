"""Labelled pictures for the classifier of success, taken from episodes that somebody judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from episodes.outcome import Outcome
from episodes.reader import Episode, read_episode
from episodes.windows import RESTING, policy_grid, sample
from learning.replay.cut import decoded, refuse_blind
from spec.arrays import Bool, Bytes, Float, Int
from spec.errors import CadenzaError
from spec.manifest import ImageInput

STEP_S = 0.1
"""Time between the sights that are taken from an episode [s]."""
END_S = 0.35
"""The last sights of a success, from so long before its end on, show success [s]."""
DOUBT_S = 1.5
"""What is seen up to so long before the end of a success shows none yet; between the two nobody can say [s]."""


class Label(IntEnum):
    """What a sight shows."""

    UNKNOWN = -1
    NOT_YET = 0
    SUCCESS = 1


@dataclass(frozen=True, slots=True, eq=False)
class Sights:
    """Sights of several episodes, in order; arrays have shape (sights, ...)."""

    images: Mapping[str, Bytes]
    """By camera, uint8 RGB, shape (sights, height, width, 3)."""
    label: Int
    """:class:`Label`."""
    episode: Int
    """Number of the episode."""
    before_end_s: Float
    """Time to the end of the episode [s]."""
    succeeded: Bool
    """Whether the episode did, shape (episodes,)."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def nbytes(self) -> int:
        """Memory the pictures take."""
        return sum(images.nbytes for images in self.images.values())


def read_sights(
    paths: Sequence[Path], cameras: Mapping[str, ImageInput], progress: Callable[[], None] = lambda: None
) -> Sights:
    """All sights of the episodes that ended in success or failure; the others say nothing.

    Args:
        paths: closed episodes.
        cameras: which, and at which size.
        progress: called after each episode.

    Raises:
        MisfitError: an episode without one of the cameras.
        CadenzaError: no success among them, or no failure; or a picture that is none.
    """
    images: dict[str, list[Bytes]] = {name: [] for name in cameras}
    labels: list[Int] = []
    before: list[Float] = []
    succeeded: list[bool] = []
    for path in paths:
        episode = read_episode(path, tuple(cameras))
        if episode.outcome in {Outcome.SUCCESS, Outcome.FAIL}:
            seen, seconds = _seen(episode, cameras)
            if len(seconds):
                for name, pictures in seen.items():
                    images[name].append(pictures)
                labels.append(_labels(seconds, episode.outcome is Outcome.SUCCESS))
                before.append(seconds)
                succeeded.append(episode.outcome is Outcome.SUCCESS)
        progress()
    for wanted, name in ((True, Outcome.SUCCESS), (False, Outcome.FAIL)):
        if wanted not in succeeded:
            raise CadenzaError(
                f"none of the {len(paths)} episodes is labelled {name.value}: a classifier needs both; "
                f"record some, or label: cadenza episodes label FILE --outcome {name.value}"
            )
    return Sights(
        images={name: np.concatenate(parts) for name, parts in images.items()},
        label=np.concatenate(labels),
        episode=np.repeat(np.arange(len(labels)), [len(part) for part in labels]),
        before_end_s=np.concatenate(before),
        succeeded=np.array(succeeded, dtype=np.bool_),
    )


def _seen(episode: Episode, cameras: Mapping[str, ImageInput]) -> tuple[dict[str, Bytes], Float]:
    """Pictures at the steps in which the arm was driven, and the time from each to the last of them [s]."""
    refuse_blind(episode, cameras)
    active = np.flatnonzero(~np.isin(episode.ticks["mode"], RESTING))
    if not len(active):
        return {}, np.zeros(0)
    tick_ns = episode.ticks["now_ns"].astype(np.int64)
    end_ns, step_ns = int(tick_ns[active[-1]]), round(STEP_S * 1e9)
    # The grid is laid from the end backwards: the last sight is the one that was judged.
    grid = end_ns - policy_grid(0, end_ns - int(tick_ns[active[0]]), step_ns)[::-1]
    samples = sample(grid, tick_ns, {name: episode.frames[name].captured_ns for name in cameras})
    images = {name: decoded(episode, name, samples.frames[name].tolist(), size) for name, size in cameras.items()}
    return images, np.asarray((end_ns - samples.observed_ns) * 1e-9, dtype=np.float64)


def _labels(before_end_s: Float, success: bool) -> Int:
    if not success:
        return np.full(len(before_end_s), Label.NOT_YET, dtype=np.int64)
    late = np.where(before_end_s > DOUBT_S, Label.NOT_YET, Label.UNKNOWN)
    return np.where(before_end_s <= END_S, Label.SUCCESS, late).astype(np.int64)
