"""Run by ``check_lerobot.py`` where LeRobot is installed: load a data set with it and compare it with what should be
there. Needs nothing of Cadenza.

Pictures out of a video are not those of the log to the last bit. That each is the right one is told by its
neighbours: of the log's pictures around a row, none may be more like it than its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # whatever is not on disk must not be looked for elsewhere

import numpy as np

try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ModuleNotFoundError:
    from ledataset.datasets.lerobot_dataset import LeRobotDataset

CODEC, ALIKE = 4.0, 0.1
"""Mean difference, of 255, that coding a picture as video may make, and that two pictures of a scene at rest have."""


def main() -> int:
    root, expected = Path(sys.argv[1]), Path(sys.argv[2])
    facts = json.loads((expected / "facts.json").read_text())
    rows = dict(np.load(expected / "rows.npz"))
    pictures = {camera: np.load(expected / f"{camera}.npy", mmap_mode="r") for camera in facts["cameras"]}
    dataset = LeRobotDataset("cadenza/check", root=root)
    video = bool(dataset.meta.video_keys)
    wrong: list[str] = []
    if dataset.num_episodes != facts["episodes"] or len(dataset) != len(rows["index"]):
        wrong.append(f"{dataset.num_episodes} episodes, {len(dataset)} rows")
    worst, total = 0.0, 0.0
    for number in range(len(dataset)):
        row = dataset[number]
        for key, values in rows.items():
            if not np.array_equal(np.asarray(row[key], dtype=np.float32).ravel(), values[number].ravel()):
                wrong.append(f"row {number}: {key} is {row[key]}, not {values[number]}")
        if not isinstance(row["task"], str) or not row["task"]:
            wrong.append(f"row {number}: no task")
        for camera, shown in pictures.items():
            found = row[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255.0
            errors = {
                near: float(np.abs(found - shown[near]).mean())
                for near in range(max(number - 2, 0), min(number + 3, len(shown)))
            }
            worst, total = max(worst, errors[number]), total + errors[number]
            if errors[number] > (CODEC if video else 1e-3) or errors[number] > min(errors.values()) + ALIKE:
                wrong.append(f"row {number}: {camera} shows another picture: {errors}")
    window = LeRobotDataset("cadenza/check", root=root, delta_timestamps={"action": [0.0, 1 / dataset.fps]})[0]
    if not np.array_equal(window["action"].numpy(), rows["action"][:2]):
        wrong.append("a window of two actions is not the first two rows")
    mean = total / max(len(dataset) * len(pictures), 1)
    print(
        f"{'video' if video else 'images'}: {dataset.num_episodes} episodes, {len(dataset)} rows, "
        f"{len(pictures)} cameras, {int(rows['intervention'].sum())} rows of intervention compared; "
        f"pictures differ by {mean:.2f} on average, {worst:.2f} at most (of 255); {len(wrong)} differences"
    )
    print("\n".join(wrong[:10]), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
