"""Statistics of columns and pictures, in the shape in which LeRobot keeps them for normalisation.

Those of one episode are exact. Those of a dataset are put together from its episodes' the way LeRobot does it: mean
and deviation are exact again, a quantile is the mean of the episodes' quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from spec.arrays import Bytes, Float, Int

Stats = dict[str, Float]
"""By name: min, max, mean, std, quantiles, each of the shape of one value; and count, shape (1,)."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_LEVELS = 256
_FINE_PICTURE = 300
_THINNED = 150
"""A picture with a side of 300 or more is thinned to about 150 pixels: neighbours are nearly alike."""


def column_stats(values: npt.NDArray[np.generic]) -> Stats:
    """Of one column, shape (rows,) or (rows, width); a value's shape is then (1,) or (width,)."""
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    quantiles = np.quantile(table, list(QUANTILES.values()), axis=0)
    return {
        "min": table.min(axis=0),
        "max": table.max(axis=0),
        "mean": table.mean(axis=0),
        "std": table.std(axis=0),
        "count": np.array([len(table)], dtype=np.float64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PictureStats:
    """Of the pictures of one camera, one at a time: only how often each channel had each brightness is kept."""

    def __init__(self) -> None:
        self._seen: Int = np.zeros((3, _LEVELS), dtype=np.int64)
        self._pictures = 0

    def add(self, picture: Bytes) -> None:
        """Count in one picture, uint8, shape (height, width, 3)."""
        step = max(1, max(picture.shape) // _THINNED) if max(picture.shape) >= _FINE_PICTURE else 1
        thin = picture[::step, ::step]
        for channel in range(3):
            self._seen[channel] += np.bincount(thin[..., channel].ravel(), minlength=_LEVELS)
        self._pictures += 1

    def result(self) -> Stats:
        """Brightness from 0 to 1, by channel: shape (3, 1, 1)."""
        levels = np.arange(_LEVELS) / (_LEVELS - 1)
        share = self._seen / self._seen.sum(axis=1, keepdims=True)
        mean = share @ levels
        below = np.cumsum(share, axis=1)
        found = self._seen > 0
        stats = {
            "min": levels[found.argmax(axis=1)],
            "max": levels[_LEVELS - 1 - found[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0.0)),
            **{name: levels[(below >= part - 1e-12).argmax(axis=1)] for name, part in QUANTILES.items()},
        }
        shaped = {name: np.asarray(value).reshape(3, 1, 1) for name, value in stats.items()}
        return {**shaped, "count": np.array([self._pictures], dtype=np.float64)}


def joined(parts: Sequence[Stats]) -> Stats:
    """Statistics of everything from the statistics of its parts."""
    counts = np.stack([part["count"] for part in parts])
    total = counts.sum(axis=0)

    def mean_of(name: str) -> Float:
        values = np.stack([part[name] for part in parts])
        return np.asarray((values * _like(counts, values)).sum(axis=0) / total)

    means = np.stack([part["mean"] for part in parts])
    mean = mean_of("mean")
    spread = np.stack([part["std"] ** 2 for part in parts]) + (means - mean) ** 2
    variance = (spread * _like(counts, spread)).sum(axis=0) / total
    return {
        "min": np.stack([part["min"] for part in parts]).min(axis=0),
        "max": np.stack([part["max"] for part in parts]).max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": total,
        **{name: mean_of(name) for name in QUANTILES},
    }


def written(stats: Mapping[str, Float]) -> dict[str, object]:
    """JSON-able; counts are whole numbers."""
    return {name: (value.astype(np.int64) if name == "count" else value).tolist() for name, value in stats.items()}


def read_back(stats: Mapping[str, object]) -> Stats:
    """The inverse of :func:`written`."""
    return {name: np.array(value, dtype=np.float64) for name, value in stats.items()}


def _like(counts: Float, values: Float) -> Float:
    return counts.reshape(len(counts), *(1,) * (values.ndim - 1))
