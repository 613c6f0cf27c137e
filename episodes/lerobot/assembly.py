"""Parts put together into the files of a dataset, beside the dataset itself; :mod:`publishing` puts them in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from episodes.lerobot import video
from episodes.lerobot.layout import (
    CODEBASE_VERSION,
    DATA,
    DATA_FILE_MB,
    EPISODES,
    FILES_PER_FOLDER,
    INFO,
    STATS,
    VIDEO,
    VIDEO_FILE_MB,
    Form,
    Place,
)
from episodes.lerobot.staging import Part
from episodes.lerobot.stats import Stats, column_stats, joined, read_back, written
from episodes.lerobot.tables import (
    read_rows,
    read_tasks,
    schema_of,
    table_of,
    with_pictures,
    write_episodes,
    write_tasks,
)

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Base:
    """What the dataset has before the parts are added; nothing, for a new one."""

    form: Form | None = None
    episodes: int = 0
    frames: int = 0
    tasks: tuple[str, ...] = ()
    stats: Mapping[str, Stats] = field(default_factory=dict)
    data: Place = field(default_factory=Place)
    """The first file that is not there yet; so are the next two."""
    meta: Place = field(default_factory=Place)
    videos: Mapping[str, Place] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    """When its episodes began."""


def read_base(folder: Path) -> Base:
    """What a finished dataset holds."""
    info = json.loads((folder / INFO).read_bytes())
    columns = {
        key: {name: value for name, value in feature.items() if name != "info"}
        for key, feature in info["features"].items()
    }
    form = Form(info["robot_type"], info["fps"], columns)
    rows = [row for path in sorted(folder.glob("meta/episodes/*/*.parquet")) for row in pq.read_table(path).to_pylist()]

    def after(what: str) -> Place:
        return max(Place(row[f"{what}/chunk_index"], row[f"{what}/file_index"]) for row in rows).next()

    return Base(
        form=form,
        episodes=info["total_episodes"],
        frames=info["total_frames"],
        tasks=tuple(read_tasks(folder)),
        stats={key: read_back(stats) for key, stats in json.loads((folder / STATS).read_bytes()).items()},
        data=after("data"),
        meta=after("meta/episodes"),
        videos={key: after(f"videos/{key}") for key in form.video_keys},
        known=frozenset(row.get("source/started_utc", "") for row in rows),
    )


def assemble(parts: Sequence[Part], form: Form, base: Base, out: Path, progress: Callable[[float], None]) -> None:
    """Write the files that the parts become: tables, videos and what LeRobot wants to know about them.

    Args:
        parts: at least one, in order.
        form: what the dataset looks like.
        base: what it has already.
        out: an empty folder.
        progress: told the share that is done, 0 to 1.
    """
    tasks = list(dict.fromkeys([*base.tasks, *(part.task for part in parts)]))
    rows = _write_tables(parts, form, base, tasks, out, lambda done: progress(done / 2))
    for number, key in enumerate(form.video_keys):
        for row, of_video in zip(
            rows, _write_videos(parts, key, form, base.videos.get(key, Place()), out), strict=True
        ):
            row.update(of_video)
        progress((1 + (number + 1) / len(form.video_keys)) / 2)
    stats = [{key: read_back(row[f"stats/{key}"]) for key in form.features} for row in rows]
    for row in rows:
        for key in form.features:
            row.update({f"stats/{key}/{name}": value for name, value in row.pop(f"stats/{key}").items()})
        row.update({"meta/episodes/chunk_index": base.meta.chunk, "meta/episodes/file_index": base.meta.file})
    path = out / base.meta.path(EPISODES)
    write_episodes(path, rows)
    _sync(path)
    write_tasks(out, tasks)
    whole = {
        key: joined([*([base.stats[key]] if base.stats else []), *(one[key] for one in stats)]) for key in stats[0]
    }
    _write_json(out / STATS, {key: written(of) for key, of in whole.items()})
    _write_json(out / INFO, _info(form, base.episodes + len(parts), rows[-1]["dataset_to_index"], len(tasks)))


def _write_tables(
    parts: Sequence[Part],
    form: Form,
    base: Base,
    tasks: Sequence[str],
    out: Path,
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Write the rows of all parts; returns what is to be known of each episode so far."""
    schema = schema_of(form.features)
    keys = [key for key, feature in form.features.items() if feature["dtype"] == "image"]
    sizes = [
        sum(file.stat().st_size for file in [part.rows(), *(part.pictures(key, form) for key in keys)])
        for part in parts
    ]
    places = _places(sizes, base.data, DATA_FILE_MB)
    first, found = base.frames, []
    writer: Any = None
    for number, (part, place) in enumerate(zip(parts, places, strict=True)):
        path = out / place.path(DATA)
        if writer is None or place != places[number - 1]:
            if writer is not None:
                writer.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pq.ParquetWriter(path, schema, compression="snappy")
        indices = _indices(part.length, form.fps, base.episodes + number, first, tasks.index(part.task))
        table = read_rows(part.rows())
        for key, column in zip(indices, table_of(indices, form.features).columns, strict=True):
            table = table.append_column(key, column)
        for piece in with_pictures(table, {key: part.pictures(key, form) for key in keys}, schema):
            writer.write_table(piece)
        numbers = {name: column_stats(_array(table[name])) for name in table.column_names}
        found.append(
            {
                "episode_index": base.episodes + number,
                "tasks": [part.task],
                "length": part.length,
                "data/chunk_index": place.chunk,
                "data/file_index": place.file,
                "dataset_from_index": first,
                "dataset_to_index": first + part.length,
                **{f"source/{name}": value for name, value in part.source.items()},
                **{f"stats/{key}": written({**numbers, **part.stats}[key]) for key in form.features},
            }
        )
        first += part.length
        progress((number + 1) / len(parts))
    writer.close()
    for place in set(places):
        _sync(out / place.path(DATA))
    return found


def _write_videos(parts: Sequence[Part], key: str, form: Form, start: Place, out: Path) -> list[dict[str, Any]]:
    """Join the videos of one camera; returns where each episode's lies."""
    places = _places([part.pictures(key, form).stat().st_size for part in parts], start, VIDEO_FILE_MB)
    found = []
    files: dict[Place, list[tuple[Path, int]]] = {}
    for part, place in zip(parts, places, strict=True):
        pieces = files.setdefault(place, [])
        before = sum(length for _, length in pieces)
        pieces.append((part.pictures(key, form), part.length))
        where = {
            "chunk_index": place.chunk,
            "file_index": place.file,
            "from_timestamp": before / form.fps,
            "to_timestamp": (before + part.length) / form.fps,
        }
        found.append({f"videos/{key}/{name}": value for name, value in where.items()})
    for place, pieces in files.items():
        path = out / place.path(VIDEO, video_key=key)
        path.parent.mkdir(parents=True, exist_ok=True)
        video.join(pieces, form.fps, path)
        _sync(path)
    return found


def _places(sizes: Sequence[int], start: Place, limit_mb: int) -> list[Place]:
    """File of each part: the one begun, until it would grow beyond the limit."""
    places: list[Place] = []
    place, filled = start, 0
    for size in sizes:
        if places and filled + size >= limit_mb * _MB:
            place, filled = place.next(), 0
        filled += size
        places.append(place)
    return places


def _indices(length: int, fps: int, episode: int, first: int, task: int) -> dict[str, npt.NDArray[Any]]:
    frame = np.arange(length)
    return {
        "timestamp": frame / fps,
        "frame_index": frame,
        "episode_index": np.full(length, episode),
        "index": first + frame,
        "task_index": np.full(length, task),
    }


def _array(column: Any) -> npt.NDArray[Any]:
    values = column.combine_chunks()
    width = getattr(values.type, "list_size", 1)
    flat = values.flatten() if width > 1 else values
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, width)


def _info(form: Form, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    features = {key: dict(feature) for key, feature in form.features.items()}
    for key in form.video_keys:
        height, width, _ = features[key]["shape"]
        features[key]["info"] = video.facts(height, width, form.fps)
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": form.robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_FOLDER,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": form.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if form.video_keys else None,
        "features": features,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    """A power cut later on must not find a dataset that is finished in name only."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
