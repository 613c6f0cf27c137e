"""Exported datasets, read file by file. ``make check-lerobot`` lets LeRobot itself read them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_steps import JOINTS, SIZES, scene, write_episode

from episodes.lerobot import Existing, Only, Settings, export, layout, publishing
from episodes.lerobot.stats import PictureStats, column_stats, joined
from episodes.outcome import Outcome
from episodes.reader import read_episode
from episodes.transitions import transitions
from spec.action import ActionSpace
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.observation import decode_jpeg

STEP_NS = 100_000_000
CODEC = 4.0
"""Mean difference that coding a picture as video may make, of 255."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three episodes: one with an intervention, one with a gap, one that failed."""
    folder = tmp_path_factory.mktemp("logs")
    return [
        write_episode(folder, 0, taken_over=(5, 12)),
        write_episode(folder, 1, steps=30, blind=(10, 20)),
        write_episode(folder, 2, steps=12, taken_over=(8, 12), outcome=Outcome.FAIL),
    ]


def rows_of(dataset: Path) -> dict[str, list[Any]]:
    """All rows, in the order in which LeRobot finds them."""
    tables = [pq.read_table(path).to_pydict() for path in sorted(dataset.glob("data/*/*.parquet"))]
    return {key: [value for table in tables for value in table[key]] for key in tables[0]}


def episodes_of(dataset: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(dataset.glob("meta/episodes/*/*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def videos_of(dataset: Path) -> dict[Path, tuple[np.ndarray, list[np.ndarray]]]:
    """Every video: times and pictures, RGB."""
    found = {}
    for path in dataset.glob("videos/*/*/*.mp4"):
        with av.open(str(path)) as video:
            frames = list(video.decode(video=0))
        times = np.array([frame.time for frame in frames])
        found[path.relative_to(dataset)] = times, [frame.to_ndarray(format="rgb24") for frame in frames]
    return found


def sources(logs: list[Path]) -> Iterator[dict[str, Any]]:
    """The rows that should be there, made without the exporter: steps of the log and its own pictures."""
    for path in logs:
        episode = read_episode(path)
        steps = transitions(episode, STEP_NS)
        for run in steps.runs():
            for frame, row in enumerate(range(run.start, run.stop)):
                at = steps.at[row]
                pictures = {
                    camera: cv2.cvtColor(decode_jpeg(episode.frames[camera].jpeg[index[at]]), cv2.COLOR_BGR2RGB)
                    for camera, index in steps.samples.frames.items()
                }
                yield {
                    "observation.state": episode.ticks["position"][steps.samples.tick[at]],
                    "action": steps.action[row],
                    "next.reward": steps.reward[row],
                    "next.done": steps.done[row],
                    "intervention": steps.intervention[row],
                    "complementary_info.is_intervention": steps.intervention[row],
                    "complementary_info.terminated": steps.terminated[row],
                    "complementary_info.truncated": steps.truncated[row],
                    "timestamp": frame / 10,
                    "frame_index": frame,
                    "pictures": pictures,
                }


def check_rows(dataset: Path, logs: list[Path], tolerance: float) -> None:
    """Every row and picture of a dataset against the logs it was made of."""
    rows, episodes, expected = rows_of(dataset), episodes_of(dataset), list(sources(logs))
    info, videos = json.loads((dataset / "meta/info.json").read_text()), videos_of(dataset)
    assert len(rows["index"]) == info["total_frames"] == len(expected)
    assert rows["index"] == list(range(len(expected)))
    assert info["total_episodes"] == len(episodes)
    for number, wanted in enumerate(expected):
        episode = episodes[rows["episode_index"][number]]
        assert episode["dataset_from_index"] + wanted["frame_index"] == number < episode["dataset_to_index"]
        for key in wanted.keys() - {"pictures"}:
            assert np.allclose(rows[key][number], np.float32(wanted[key]), rtol=0, atol=0), (key, number)
        for camera, picture in wanted["pictures"].items():
            key = f"observation.images.{camera}"
            if info["features"][key]["dtype"] == "video":
                place = layout.Place(episode[f"videos/{key}/chunk_index"], episode[f"videos/{key}/file_index"])
                times, shown = videos[place.path(layout.VIDEO, video_key=key)]
                late = np.abs(times - episode[f"videos/{key}/from_timestamp"] - rows["timestamp"][number])
                assert late.min() < 1e-4  # LeRobot asks for no less
                found = shown[late.argmin()]
            else:
                png = np.frombuffer(rows[key][number]["bytes"], dtype=np.uint8)
                found = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            assert found.shape == picture.shape
            assert np.abs(found.astype(int) - picture).mean() <= tolerance


@pytest.mark.parametrize(("images", "tolerance"), [(False, CODEC), (True, 0.0)])
def test_every_row_and_picture_is_that_of_the_log(
    logs: list[Path], tmp_path: Path, images: bool, tolerance: float
) -> None:
    summary = export(logs, tmp_path / "out", Settings(images=images))
    assert summary.episodes == 4  # the gap cuts one in two
    assert summary.cameras == ("top", "front")
    assert summary.interventions == 7 + 4
    check_rows(tmp_path / "out", logs, tolerance)


def test_a_neighbouring_picture_would_be_noticed() -> None:
    """The tolerance of the videos is far below the difference between two pictures in a row."""
    for size in SIZES.values():
        assert np.abs(scene(3, 0, size).astype(int) - scene(6, 0, size)).mean() > 4 * CODEC


def test_files_say_what_lerobot_wants_to_know(logs: list[Path], tmp_path: Path) -> None:
    export(logs, tmp_path / "out", Settings(velocity=True, action_space=ActionSpace.JOINT_DELTA))
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 10, "virtual")
    assert info["splits"] == {"train": "0:4"}
    features = info["features"]
    assert features["observation.state"]["shape"] == [2 * JOINTS]
    assert features["observation.state"]["names"][JOINTS].endswith(".vel")
    assert features["action"]["names"][0].endswith(".delta")
    assert features["observation.images.front"]["shape"] == [33, 47, 3]
    assert features["observation.images.front"]["info"]["video.pix_fmt"] == "yuv444p"
    assert features["next.reward"] == {"dtype": "float32", "shape": [1], "names": None}
    assert features["next.done"]["dtype"] == features["intervention"]["dtype"] == "bool"
    tasks = pq.read_table(tmp_path / "out/meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["task 0", "task 1"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    episodes = episodes_of(tmp_path / "out")
    assert [row["tasks"] for row in episodes] == [["task 0"], ["task 1"], ["task 1"], ["task 0"]]
    assert [row["source/outcome"] for row in episodes] == ["success", "success", "success", "fail"]


def test_statistics_are_those_of_the_rows(logs: list[Path], tmp_path: Path) -> None:
    export(logs, tmp_path / "out", Settings())
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    rows = rows_of(tmp_path / "out")
    assert stats.keys() == json.loads((tmp_path / "out/meta/info.json").read_text())["features"].keys()
    for key, values in rows.items():
        table = np.array(values, dtype=np.float64).reshape(len(values), -1)
        for name, wanted in (
            ("min", table.min(0)),
            ("max", table.max(0)),
            ("mean", table.mean(0)),
            ("std", table.std(0)),
        ):
            assert np.allclose(stats[key][name], wanted, atol=1e-9), (key, name)
        assert stats[key]["count"] == [len(values)]
    for camera in SIZES:
        pictures = np.stack([row["pictures"][camera] for row in sources(logs)]) / 255.0
        found = {name: np.array(value) for name, value in stats[f"observation.images.{camera}"].items()}
        assert found["mean"].shape == (3, 1, 1)
        assert np.allclose(found["mean"].ravel(), pictures.mean(axis=(0, 1, 2)), atol=1e-9)
        assert np.allclose(found["std"].ravel(), pictures.std(axis=(0, 1, 2)), atol=1e-9)
        assert np.allclose(found["min"].ravel(), pictures.min(axis=(0, 1, 2)))
    episode = episodes_of(tmp_path / "out")[0]
    assert np.allclose(
        episode["stats/action/q50"], np.quantile(np.array(rows["action"])[: episode["length"]], 0.5, axis=0)
    )


def test_statistics_of_the_whole_are_those_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 3))
    whole, parts = column_stats(table), joined([column_stats(table[:7]), column_stats(table[7:])])
    for name in ("min", "max", "mean", "std", "count"):
        assert np.allclose(whole[name], parts[name])
    picture = rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)
    stats = PictureStats()
    stats.add(picture)
    found, sorted_levels = stats.result(), np.sort(picture.reshape(-1, 3), axis=0) / 255.0
    for name, part in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        assert np.allclose(found[name].ravel(), np.quantile(sorted_levels, part, axis=0, method="inverted_cdf"))


def test_files_are_begun_anew_when_they_are_full(
    logs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("episodes.lerobot.assembly.DATA_FILE_MB", 0.001)
    monkeypatch.setattr("episodes.lerobot.assembly.VIDEO_FILE_MB", 0.005)
    monkeypatch.setattr(layout, "FILES_PER_FOLDER", 2)
    export(logs, tmp_path / "out", Settings())
    assert (tmp_path / "out/data/chunk-001").exists()
    assert len(list((tmp_path / "out/videos/observation.images.top").rglob("*.mp4"))) > 1
    check_rows(tmp_path / "out", logs, CODEC)


def test_appending_adds_what_is_not_there_yet(logs: list[Path], tmp_path: Path) -> None:
    export(logs[:1], tmp_path / "out", Settings())
    summary = export(logs, tmp_path / "out", Settings(), Existing.APPEND)
    assert summary.left_out == {str(logs[0]): "already in the dataset"}
    check_rows(tmp_path / "out", logs, CODEC)
    export(logs, tmp_path / "whole", Settings())
    assert (tmp_path / "out/meta/info.json").read_text() == (tmp_path / "whole/meta/info.json").read_text()
    with pytest.raises(CadenzaError, match="already in the dataset"):
        export(logs, tmp_path / "out", Settings(), Existing.APPEND)


def test_only_what_was_asked_for(logs: list[Path], tmp_path: Path) -> None:
    success = export(logs, tmp_path / "success", Settings(only=Only.SUCCESS))
    assert success.left_out == {str(logs[2]): "outcome: fail"}
    corrected = export(logs, tmp_path / "corrected", Settings(only=Only.INTERVENTIONS))
    assert corrected.left_out == {str(logs[1]): "no intervention"}


def test_a_dataset_is_not_touched_unasked(logs: list[Path], tmp_path: Path) -> None:
    export(logs[:1], tmp_path / "out", Settings())
    with pytest.raises(CadenzaError, match="--append"):
        export(logs, tmp_path / "out", Settings())
    check_rows(tmp_path / "out", logs[:1], CODEC)
    export(logs, tmp_path / "out", Settings(), Existing.OVERWRITE)
    check_rows(tmp_path / "out", logs, CODEC)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(CadenzaError, match="not empty"):
        export(logs, tmp_path / "mine", Settings(), Existing.OVERWRITE)


def test_overwriting_keeps_the_old_until_the_new_is_whole(logs: list[Path], tmp_path: Path) -> None:
    export(logs[:1], tmp_path / "out", Settings())
    odd = write_episode(tmp_path, 7, name="other")
    with pytest.raises(MisfitError, match="robot 'other'"):
        export([*logs, odd], tmp_path / "out", Settings(), Existing.OVERWRITE)
    check_rows(tmp_path / "out", logs[:1], CODEC)


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"sizes": {"top": (48, 64)}}, "pictures of .'top'., the others of"),
        ({"sizes": {"top": (48, 64), "front": (32, 48)}}, "observation.images.front has shape"),
        ({"step_ns": 50_000_000}, "20 steps a second, the others 10; choose one with --fps"),
        ({"name": "other"}, "robot 'other'"),
    ],
)
def test_an_episode_that_is_not_like_the_others_is_named(
    logs: list[Path], tmp_path: Path, different: dict[str, Any], words: str
) -> None:
    odd = write_episode(tmp_path, 9, **different)
    with pytest.raises(MisfitError, match=words) as refusal:
        export([*logs, odd], tmp_path / "out", Settings())
    assert str(refusal.value).startswith(f"{odd}: ")
    assert "\n" not in str(refusal.value)


def test_a_rate_that_cannot_be_is_refused(logs: list[Path], tmp_path: Path) -> None:
    uneven = write_episode(tmp_path, 9, step_ns=33_000_000)
    with pytest.raises(SpecError, match="--fps: None: needed, a whole number"):
        export([uneven], tmp_path / "out", Settings())
    with pytest.raises(SpecError, match="--fps: 500: from 1 to the control rate"):
        export(logs, tmp_path / "out", Settings(fps=500))


BREAK_OFF = """
import os, sys
from pathlib import Path
from episodes.lerobot import Existing, Settings, export, staging, video

left = int(sys.argv[1])

def fragile(function):
    def step(*args, **more):
        global left
        left -= 1
        if left < 0:
            os._exit(9)  # as kill -9: nothing is tidied up
        return function(*args, **more)
    return step

for name in ("rename", "replace", "mkdir"):
    setattr(Path, name, fragile(getattr(Path, name)))
staging.write_rows = fragile(staging.write_rows)
video.VideoWriter.close = fragile(video.VideoWriter.close)
export([Path(path) for path in sys.argv[4:]], Path(sys.argv[2]), Settings(), Existing(sys.argv[3]))
"""


@pytest.mark.parametrize("existing", list(Existing))
def test_a_killed_export_goes_on(logs: list[Path], tmp_path: Path, existing: Existing) -> None:
    """Killed at more and more places, it still comes to its end, and to the same dataset as one never killed."""
    out = tmp_path / "out"
    if existing is not Existing.REFUSE:
        export(logs[:1], out, Settings())
    for left in range(3, 1000, 6):
        done = subprocess.run(
            [sys.executable, "-c", BREAK_OFF, str(left), str(out), existing, *map(str, logs)], check=False, timeout=60
        )
        if done.returncode == 0:
            break
        assert done.returncode == 9
    assert left > 15  # it was killed several times
    assert not (out / publishing.WORK).exists()
    check_rows(out, logs, CODEC)


def test_what_was_ready_is_not_made_again(logs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    stage = publishing.stage

    def counted(path: Path, *rest: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path.name)
        return stage(path, *rest)

    monkeypatch.setattr(publishing, "stage", counted)
    with pytest.raises(KeyboardInterrupt):
        export(logs, tmp_path / "out", Settings())
    monkeypatch.setattr(publishing, "stage", stage)
    assert export(logs, tmp_path / "out", Settings()).resumed == 2
    check_rows(tmp_path / "out", logs, CODEC)


def test_two_exports_into_one_folder(logs: list[Path], tmp_path: Path) -> None:
    def second(_: str, __: float) -> None:
        with pytest.raises(CadenzaError, match="another export"):
            export(logs, tmp_path / "out", Settings())

    export(logs[:1], tmp_path / "out", Settings(), progress=second)


@pytest.mark.parametrize("existing", [Existing.REFUSE, Existing.OVERWRITE])
def test_there_is_no_dataset_until_it_is_whole(
    logs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: Existing
) -> None:
    """LeRobot must never find the tables of one dataset and the videos of another."""
    out = tmp_path / "out"
    if existing is Existing.OVERWRITE:
        export(logs[:1], out, Settings())
    moved: list[Path] = []
    replace = Path.replace

    def watched(source: Path, target: Path) -> Path:
        if publishing.WORK not in target.parts and target.is_relative_to(out):
            assert not (out / layout.INFO).exists()
            moved.append(target.relative_to(out))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    export(logs, out, Settings(), existing)
    assert len(moved) > 5
    assert moved[-1] == layout.INFO
