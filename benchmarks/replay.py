"""Windows drawn from a store on disk against the same rows held in memory; and the memory of a million rows.

Both stores hold the same rows, two cameras of 64 x 64 as the shipped policy's one, and are asked in turns, so that
what else the machine does falls on both. The million have one small picture each: it is rows that are counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.rig import apart
from learning.network.config import ActorConfig, Convolution
from learning.replay.columns import Memory
from learning.replay.layout import columns_of, reach, row_bytes
from learning.replay.rows import Rows
from learning.replay.store import Store
from spec.manifest import ImageInput, StateFeature

_ROWS, _EPISODE, _BATCH, _H = 20_000, 200, 128, 4
_MANY = 1_000_000
_DAY = 864_000
"""Rows of 24 h at 10 steps a second."""


def measure(seconds: float = 20.0) -> dict[str, object]:
    """Speed and memory; the folder for it is made under the working directory, on a disk one hopes."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-replay-") as folder:
        return {
            "windows_per_s": apart(_speed, Path(folder) / "speed", seconds),
            "memory": apart(_memory, Path(folder) / "memory"),
        }


def _speed(folder: Path, seconds: float) -> dict[str, float]:
    torch.set_num_threads(1)
    config = _config(ImageInput(height=64, width=64), ("top", "front"))
    disk = Store.on_disk(folder, config, _H, 2 * _ROWS * row_bytes(config))
    memory = Store(config, _H, Memory(columns_of(config), _ROWS + reach(config)), disk.capacity)
    for rows in _episodes(config, _ROWS):
        _take(disk, rows)
        memory.append(rows)
    rates: dict[str, list[float]] = {"memory": [], "disk": []}
    ends = time.monotonic() + seconds
    turn = 0
    while turn < 3 or time.monotonic() < ends:
        for name, store in (("memory", memory), ("disk", disk)):
            rates[name].append(_rate(store, turn))
        turn += 1
    in_memory, on_disk = (statistics.median(rates[name][1:]) for name in ("memory", "disk"))
    return {"memory": in_memory, "disk": on_disk, "disk_to_memory": on_disk / in_memory}


def _rate(store: Store, turn: int, batches: int = 8) -> float:
    rng = np.random.default_rng(turn)
    begins = time.perf_counter()
    for _ in range(batches):
        store.draw(rng, _BATCH)
    return batches * _BATCH / (time.perf_counter() - begins)


def _memory(folder: Path) -> dict[str, float]:
    """Resident memory while rows come and windows are drawn [MB]."""
    config = _config(ImageInput(height=16, width=16), ("top",))
    store = Store.on_disk(folder, config, _H, round(1.3 * _MANY * row_bytes(config)))
    found = {}
    rng = np.random.default_rng(0)
    for rows in _episodes(config, _MANY):
        _take(store, rows)
        if store.head % (_MANY // 10) == 0:
            for _ in range(20):
                store.draw(rng, _BATCH)
            found[store.head] = _resident_mb()
    day_gb = _DAY * row_bytes(_config(ImageInput(height=64, width=64), ("top", "front"))) / 1e9
    return {
        "after_100_000_rows_mb": found[_MANY // 10],
        "after_1_000_000_rows_mb": found[_MANY],
        "growth_mb": found[_MANY] - found[_MANY // 10],
        "on_disk_gb": sum(path.stat().st_size for path in folder.iterdir()) / 1e9,
        "a_day_of_two_cameras_gb": day_gb,
    }


def _take(store: Store, rows: Rows) -> None:
    if store.slack < len(rows):
        store.sync()
    store.append(rows)


def _episodes(config: ActorConfig, count: int) -> Iterator[Rows]:
    """Episodes of random rows; a few thousand pictures serve all of them, since making them would take the time."""
    rng = np.random.default_rng(0)
    cameras = {
        name: rng.integers(0, 256, (4 * _EPISODE, size.height, size.width, 3), dtype=np.uint8)
        for name, size in config.cameras.items()
    }
    acted = np.arange(_EPISODE) < _EPISODE - 1
    for _ in range(count // _EPISODE):
        first = int(rng.integers(3 * _EPISODE))
        yield Rows(
            observed_ns=np.arange(1, _EPISODE + 1) * 100_000_000,
            segment=np.zeros(_EPISODE, dtype=np.int64),
            state=rng.normal(size=(_EPISODE, config.state_dim)).astype(np.float32),
            images={name: pictures[first : first + _EPISODE] for name, pictures in cameras.items()},
            acted=acted,
            action=(rng.normal(size=(_EPISODE, config.action_dim)) * acted[:, None]).astype(np.float32),
            expert=acted & (np.abs(np.arange(_EPISODE) - rng.integers(_EPISODE)) < 20),
            plan=None,
            reward=np.zeros(_EPISODE, dtype=np.float32),
            terminated=np.arange(_EPISODE) == _EPISODE - 2,
            breaks=np.arange(_EPISODE) >= _EPISODE - 2,
        )


def _config(size: ImageInput, cameras: tuple[str, ...]) -> ActorConfig:
    return ActorConfig(
        joints=tuple("abcdef"),
        state=(StateFeature.POSITION, StateFeature.VELOCITY),
        cameras=dict.fromkeys(cameras, size),
        cnn=(Convolution(channels=4, kernel=3),),
    )


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6
