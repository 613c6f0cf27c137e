"""Arrow tables of the dataset: columns of a form, pictures inside tables, the table of tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.lerobot.layout import TASKS, Feature
from spec.arrays import Bytes

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BATCH = 32
"""Pictures inside tables are moved so many at a time."""


def column_type(feature: Feature) -> Any:
    """Arrow type of one column."""
    if feature["dtype"] == "image":
        return _PICTURE
    kind = pa.bool_() if feature["dtype"] == "bool" else getattr(pa, feature["dtype"])()
    (width,) = feature["shape"]
    return kind if width == 1 else pa.list_(kind, width)


def schema_of(features: Mapping[str, Feature]) -> Any:
    """Arrow schema of the rows. Videos stand in files of their own."""
    return pa.schema([(key, column_type(ft)) for key, ft in features.items() if ft["dtype"] != "video"])


def table_of(columns: Mapping[str, npt.NDArray[Any]], features: Mapping[str, Feature]) -> Any:
    """Columns of numbers, shapes (rows,) and (rows, width), as a table."""
    arrays = {}
    for key, values in columns.items():
        feature = features[key]
        flat = pa.array(np.asarray(values, dtype=feature["dtype"]).ravel())
        arrays[key] = flat if feature["shape"] == [1] else pa.FixedSizeListArray.from_arrays(flat, feature["shape"][0])
    return pa.table(arrays)


class PictureTable:
    """A table of one column of pictures, written one by one. Whole only after :meth:`close`."""

    def __init__(self, path: Path) -> None:
        self._schema = pa.schema([("picture", _PICTURE)])
        self._writer: Any = pq.ParquetWriter(path, self._schema, compression="none")
        self._waiting: list[dict[str, Any]] = []
        self._rows = 0

    def add(self, picture: Bytes) -> None:
        """Append one picture, RGB uint8, shape (height, width, 3)."""
        _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._waiting.append({"bytes": png.tobytes(), "path": f"frame-{self._rows:06d}.png"})
        self._rows += 1
        if len(self._waiting) == _BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pydict({"picture": self._waiting}, schema=self._schema))
            self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_rows(path: Path, columns: Mapping[str, npt.NDArray[Any]], features: Mapping[str, Feature]) -> None:
    """Write a table of numbers."""
    pq.write_table(table_of(columns, features), path)


def read_rows(path: Path) -> Any:
    """Read a table of numbers."""
    return pq.read_table(path)


def with_pictures(table: Any, pictures: Mapping[str, Path], schema: Any) -> Iterator[Any]:
    """A table in pieces, each with its pictures, the columns in the order of ``schema``.

    Args:
        table: columns of numbers.
        pictures: column → file of a :class:`PictureTable` with as many rows.
        schema: of the result.
    """
    if not pictures:
        yield table.select(schema.names).cast(schema)
        return
    with ExitStack() as stack:
        batches = {
            key: stack.enter_context(pq.ParquetFile(path)).iter_batches(batch_size=_BATCH)
            for key, path in pictures.items()
        }
        for start in range(0, table.num_rows, _BATCH):
            piece = table.slice(start, _BATCH)
            for key, batch in batches.items():
                piece = piece.append_column(key, next(batch).column(0))
            yield piece.select(schema.names).cast(schema)


def write_episodes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of episodes; all rows have the same keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def write_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """Write the table of tasks. LeRobot reads it with pandas, the task being the index; pandas notes that down so."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    note = {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}],
        "columns": [number, text],
        "pandas_version": "2.2.0",
    }
    path = folder / TASKS
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(note)}), path)


def read_tasks(folder: Path) -> list[str]:
    """Tasks in the order of their numbers. LeRobot itself may have left the index without a name."""
    columns = pq.read_table(folder / TASKS).to_pydict()
    numbers = columns.pop("task_index")
    (texts,) = columns.values()
    return [task for _, task in sorted(zip(numbers, texts, strict=True))]
