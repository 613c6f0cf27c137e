"""Export episodes and let LeRobot itself load the result: every row and every picture is compared with the log.

LeRobot lives in a virtual environment of its own (gigabytes, made on first use). Exit status 1 if anything differs.

    python scripts/check_lerobot.py runs/demo/episodes
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cadenza.episode_files import find_episodes
from episodes.lerobot import Settings, Summary, export
from episodes.reader import read_episode
from episodes.transitions import action_space, transitions
from spec.observation import decode_jpeg

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="episodes, or folders to search")
    parser.add_argument("--venv", type=Path, default=Path("build/lerobot"), help="where LeRobot lives")
    args = parser.parse_args()
    python = lerobot(args.venv)
    files = [path for path in find_episodes(args.paths) if path.suffix == ".mcap"]
    status = 0
    for images in (False, True):
        with tempfile.TemporaryDirectory() as scratch:
            out, expected = Path(scratch) / "dataset", Path(scratch) / "expected"
            summary = export(files, out, Settings(images=images))
            write_expected(files, summary, expected)
            status |= subprocess.run([python, HERE / "read_by_lerobot.py", out, expected], check=False).returncode
    return status


def lerobot(venv: Path) -> Path:
    """Python of the environment that has LeRobot."""
    python, requirements, stamp = venv / "bin" / "python", HERE / "lerobot-requirements.txt", venv / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return python


def write_expected(files: Sequence[Path], summary: Summary, folder: Path) -> None:
    """Rows and pictures that should be there, from the log, without the exporter."""
    folder.mkdir()
    rows: dict[str, list[Any]] = {}
    pictures: dict[str, Any] = {}
    count = 0
    for path in files:
        episode = read_episode(path)
        steps = transitions(episode, round(1e9 / summary.fps), action_space(episode), summary.cameras)
        for run in steps.runs():
            for frame, row in enumerate(range(run.start, run.stop)):
                at = steps.at[row]
                columns = {
                    "observation.state": episode.ticks["position"][steps.samples.tick[at]],
                    "action": steps.action[row],
                    "next.reward": steps.reward[row],
                    "next.done": steps.done[row],
                    "intervention": steps.intervention[row],
                    "complementary_info.is_intervention": steps.intervention[row],
                    "complementary_info.terminated": steps.terminated[row],
                    "complementary_info.truncated": steps.truncated[row],
                    "timestamp": frame / summary.fps,
                    "frame_index": frame,
                    "index": count,
                }
                for key, value in columns.items():
                    rows.setdefault(key, []).append(np.asarray(value, dtype=np.float32))
                for camera in summary.cameras:
                    jpeg = episode.frames[camera].jpeg[steps.samples.frames[camera][at]]
                    picture = cv2.cvtColor(decode_jpeg(jpeg), cv2.COLOR_BGR2RGB)
                    if camera not in pictures:
                        shape = (summary.frames, *picture.shape)
                        pictures[camera] = np.lib.format.open_memmap(folder / f"{camera}.npy", "w+", np.uint8, shape)
                    pictures[camera][count] = picture
                count += 1
    if count != summary.frames:
        raise SystemExit(f"{count} rows in the log, {summary.frames} exported")
    np.savez(folder / "rows.npz", **{key: np.stack(values) for key, values in rows.items()})
    (folder / "facts.json").write_text(json.dumps({"cameras": summary.cameras, "episodes": summary.episodes}))


if __name__ == "__main__":
    sys.exit(main())
