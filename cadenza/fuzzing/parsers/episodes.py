"""Episodes as a crash, a bad disk or a stranger left them: read, checked, recovered."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from cadenza.fuzzing.dice import Dice
from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.parsers.files import scratch
from cadenza.fuzzing.target import SAMPLE, Layer, check
from episodes.check import examine
from episodes.mcapfile import MAGIC
from episodes.outcome import Outcome
from episodes.reader import read_episode
from episodes.records import ChunkRecord, Driver, Mode, TickRecord
from episodes.recovery import recover
from episodes.scan import Scan
from episodes.writer import PART, EpisodeWriter, Header
from spec.errors import CadenzaError
from spec.observation import encode_jpeg
from spec.robotfile import load_robot

_CHUNK = 6
_HEAD = struct.Struct("<BQ")
"""Opcode and length of a record (https://mcap.dev/spec)."""
_CHUNK_HEAD = struct.Struct("<QQQIIQ")
"""First time, last time, size, checksum, length of "" (no compression), size."""


@contextmanager
def episode_file() -> Iterator[list[Layer]]:
    """To scan is quick; to read a whole episode, or to write it anew, takes a hundred times as long."""
    with scratch() as folder:
        content = _written(folder)
        mutator = Mutator([content, content[: 2 * len(content) // 3]], (MAGIC, b"\x06", b"\x05", b"tick", b"{}"))
        path, part = folder / "case.mcap", folder / f"case.mcap{PART}"

        def torn(dice: Dice) -> bytes:
            return mutator.case(dice) if dice.below(2) else _other_records(content, dice)

        def records(dice: Dice) -> bytes:
            return _other_records(content, dice)

        def scan(data: bytes) -> None:
            found = Scan(BytesIO(data))
            count = sum(1 for _ in found)
            check(count <= len(data), "more records than bytes")
            check(found.whole or bool(found.damage) or not data, "neither whole nor damaged")

        def read(data: bytes) -> None:
            path.write_bytes(data)
            examine(path)
            read_episode(path)

        def save(data: bytes) -> None:
            part.write_bytes(data)
            for left in folder.glob("case*"):
                if left != part:
                    left.unlink()
            try:
                _recovered(part)
            finally:
                check(not list(folder.glob(".case*")), "something half-made stays")

        yield [
            Layer("records", 16, torn, scan),
            Layer("episode", 2, records, read),
            Layer("recovery", 2, torn, save),
        ]


def _recovered(part: Path) -> None:
    """What was saved is whole; what was not is still there."""
    found = recover(part)
    check(found is not None, "another recovery where there is none")
    if found is None or found.episode is None:
        check(any(part.parent.glob("case*")), "nothing saved, and the file is gone")
        return
    check(not part.exists(), "the unfinished file is still there")
    with found.episode.open("rb") as stream:
        scan = Scan(stream)
        messages = sum(type(record).__name__ == "Message" for record in scan)
    check(scan.whole and messages == found.messages, "what was saved is not whole")
    try:
        check(not read_episode(found.episode).damage, "what was saved is damaged")
    except CadenzaError:
        return  # whole, though no episode: what is in it was nonsense before


def _other_records(content: bytes, dice: Dice) -> bytes:
    """Whole records with the wrong things in them, their lengths and checksums right: damage that no checksum finds."""
    records = list(_records(content))
    for _ in range(1 + dice.below(3)):
        if not records:
            break  # all left out, or the inside of what is a chunk by its opcode only
        at = dice.below(len(records))
        opcode, body = records[at]
        match dice.below(6):
            case 0:
                del records[at]
            case 1:
                records.insert(dice.below(len(records)), (opcode, body))
            case 2:
                records[at] = (dice.below(16), body)
            case _ if opcode == _CHUNK and len(body) >= _CHUNK_HEAD.size:
                inner = _other_records(body[_CHUNK_HEAD.size :], dice) if dice.below(2) else body[_CHUNK_HEAD.size :]
                records[at] = (opcode, _chunk(body, Mutator([inner]).case(dice) if dice.below(2) else inner))
            case _:
                records[at] = (opcode, Mutator([body]).case(dice))
    start = MAGIC if content.startswith(MAGIC) else b""
    return start + b"".join(_HEAD.pack(opcode, len(body)) + body for opcode, body in records) + start


def _chunk(body: bytes, inner: bytes) -> bytes:
    first, last, *_ = _CHUNK_HEAD.unpack_from(body)
    return _CHUNK_HEAD.pack(first, last, len(inner), zlib.crc32(inner), 0, len(inner)) + inner


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = len(MAGIC) if content.startswith(MAGIC) else 0
    while at + _HEAD.size <= len(content) - (len(MAGIC) if content.startswith(MAGIC) else 0):
        opcode, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size + size
        yield opcode, content[at - size : at]


def _written(folder: Path) -> bytes:
    """A small episode with one of everything."""
    path = folder / "whole.mcap"
    robot = load_robot(SAMPLE).model_copy(update={"model": None})
    joints = len(robot.follower.names)
    picture = encode_jpeg(np.zeros((8, 8, 3), dtype=np.uint8), 50)
    with EpisodeWriter(path, Header(robot, labels={"task": "push"})) as writer:
        for number in range(3):
            now_ns = 10**9 + number * 10_000_000
            tick = TickRecord(tick=number, now_ns=now_ns, joints=joints, mode=Mode.POLICY, driver=Driver.POLICY)
            tick.chunk = 1
            writer.tick(tick)
            writer.frame("top", picture, now_ns, number)
        writer.chunk(ChunkRecord(sequence=1, observed_ns=10**9, step_ns=10**8, length=2, joints=joints))
        writer.event(10**9, "session", "reward", "0.25")
        writer.close(Outcome.SUCCESS)
    content = path.read_bytes()
    path.unlink()
    return content
