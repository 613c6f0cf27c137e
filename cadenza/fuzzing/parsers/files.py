"""Files that a person or a learner wrote: robot file, calibration, bundle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cadenza.fuzzing.documents import Rewriter
from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.target import SAMPLE, Layer, check
from controller.wiring.room import SHARED_MEMORY
from export.bundle import read_bundle
from export.shelf import NEWEST_FILE, open_newest, parse_newest, read_newest
from spec.calibration import load_calibration
from spec.files import parsed_json
from spec.manifest import MANIFEST_FILE, Manifest, check_fit
from spec.robot import Robot
from spec.robotfile import load_robot, robot_hash, validated

_YAML: tuple[bytes, ...] = (
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"!!set ",
    b"? ",
    b"- ",
    b"|\n",
    b"---\n",
)
_YAML += (b"{", b"}", b"[", b"]", b": ", b"\t", b"\xef\xbb\xbf", b"\xff", b"!!timestamp ", b"2020-01-01", b"1:30", b"~")
_SMALL = b"""version: 1
name: a
follower:
  serial: s
  port: /dev/ttyUSB0
  baud: 1000000
  calibration: c.json
  joints:
    a: {id: 1, model: XL430-W250, position: [-1.9, 1.9], velocity: 3.0, acceleration: 25.0, jerk: 600, home: 0.5}
cameras:
  top: {source: "0", width: 320, height: 240, fps: 30}
control: {rate_hz: 100, mode: ensemble, realtime: try}
"""
_ALIASES = b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefghij"
)
"""A list that would be ten thousand million long, written out."""
_OVERRIDES = tuple(
    line.encode()
    for line in (
        "control.rate_hz=200",
        "cameras.front.fps=60",
        "follower.joints.gripper.position=[-1, 1]",
        "cameras.new={source: 0, width: 64, height: 48, fps: 30}",
        "virtual.attach=/tmp/x",
        "name=x",
    )
)


@contextmanager
def robot_file() -> Iterator[list[Layer]]:
    """The text is slow (YAML in Python), so that small files stand for it; whole documents begin behind it."""
    document = yaml.safe_load(SAMPLE.read_bytes())
    with scratch() as folder:
        path = folder / "robot.yaml"

        def text(data: bytes) -> None:
            path.write_bytes(data)
            _sound(load_robot(path))

        def overridden(data: bytes) -> None:
            """One override a line on the smallest file; as on a command line, any bytes can be a text."""
            lines = data.decode("utf-8", "surrogateescape").splitlines()[:2]
            load_robot(small, dict(_override(line) for line in lines))

        def whole(data: bytes) -> None:
            try:
                document = parsed_json(data)
            except ValueError:
                return  # no document of a YAML file either
            _sound(validated(Robot, document, str(path)))

        small = folder / "small.yaml"
        small.write_bytes(b"version: 1\n")
        yield [
            Layer(
                "text",
                1,
                Mutator([_SMALL, _SMALL, _ALIASES + b"name: *j\n", b"- !!map {a: [b, c]}\n"], _YAML).case,
                text,
            ),
            Layer("overrides", 1, Mutator(_OVERRIDES, (*_YAML, b".", b"=", b"\n")).case, overridden),
            Layer("document", 30, Rewriter([document, yaml.safe_load(_SMALL)]).case, whole),
        ]


def _sound(robot: Robot) -> None:
    """What was taken means something, and can be written down and read again."""
    limits = robot.limits()
    check(bool((limits.lower <= limits.upper).all()), "a joint without any position")
    again = validated(Robot, json.loads(robot.model_dump_json()), "again")
    check(robot_hash(again) == robot_hash(robot), "another robot after writing and reading it")


def _override(line: str) -> tuple[str, str]:
    field, _, value = line.partition("=")
    return field, value


@contextmanager
def calibration_file() -> Iterator[list[Layer]]:
    """What is taken must be what was measured: a file that was changed anywhere is refused."""
    arm = load_robot(SAMPLE).follower
    content = arm.calibration.read_bytes()
    document = json.loads(content)
    measured = load_calibration(arm)
    with scratch() as folder:
        path = folder / "calibration.json"
        arm = arm.model_copy(update={"calibration": path})

        def feed(data: bytes) -> None:
            path.write_bytes(data)
            check(load_calibration(arm) == measured, "a calibration that nobody measured")

        def resigned(data: bytes) -> None:
            """With the digest right again: what it says is judged then."""
            changed = json.loads(data)
            if isinstance(changed, dict):
                changed.pop("sha256", None)
                plain = json.dumps(changed, sort_keys=True).encode()
                changed["sha256"] = hashlib.sha256(plain).hexdigest()
            path.write_text(json.dumps(changed), encoding="utf-8")
            load_calibration(arm)

        words = (b"null", b"NaN", b"{", b"}", b"[", b"]", b'"', b":", b"\\ud800", b"\xef\xbb\xbf")
        rewriter = Rewriter([document])
        yield [
            Layer("text", 2, Mutator([content], words).case, feed),
            Layer("document", 1, rewriter.case, feed),
            Layer("signed document", 2, rewriter.case, resigned),
        ]


@contextmanager
def bundle_folder() -> Iterator[list[Layer]]:
    """A manifest, the files it names, and what a shelf says is newest."""
    robot = load_robot(SAMPLE)
    with scratch() as shelf:
        folder = shelf / "weights-000001"
        folder.mkdir()
        document = _manifest(folder, robot)
        manifest, newest = folder / MANIFEST_FILE, shelf / NEWEST_FILE
        offered = {"weights": 1, "bundle": folder.name, "sha256": "0" * 64, "rollback": False}

        def feed(data: bytes) -> None:
            manifest.write_bytes(data)
            bundle = read_bundle(folder)
            check(bundle.encoder.resolve().is_relative_to(folder.resolve()), "a graph outside of its bundle")
            check_fit(bundle.manifest, robot, "0" * 64)

        def offer(data: bytes) -> None:
            newest.write_bytes(data)
            found = read_newest(shelf)
            check(found == parse_newest(data, "again"), "two readings of one file")
            if found is not None:
                open_newest(shelf, found)

        words = (b"null", b"NaN", b"{", b"}", b"[", b"]", b'"', b":", b"../", b"\\u0000", b"\\ud800", b"encoder.onnx")
        yield [
            Layer("text", 3, Mutator([json.dumps(document).encode()], words).case, feed),
            Layer("document", 5, Rewriter([document]).case, feed),
            Layer("newest, text", 1, Mutator([json.dumps(offered).encode()], words).case, offer),
            Layer("newest, document", 1, Rewriter([offered]).case, offer),
        ]


def _manifest(folder: Path, robot: Robot) -> dict[str, Any]:
    """Of a bundle without graphs: nothing here runs one. Its files are written, too."""
    files = {"encoder.onnx": b"encoder", "decoder.onnx": b"decoder"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    document = {
        "name": "none",
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "encoder": "encoder.onnx",
        "decoder": "decoder.onnx",
        "joints": list(robot.follower.names),
        "observation": {
            "history": 2,
            "step_s": 0.1,
            "state": ["position", "velocity"],
            "cameras": {"top": {"height": 48, "width": 64}},
        },
        "action": {"space": "joint_position", "chunk": 4, "step_s": 0.1},
        "feature_dim": 8,
        "actor": "none/1",
        "exporter": "by hand",
        "weights": 1,
        "parity": {"windows": 1, "max_abs": 0, "max_abs_rad": 0, "max_ticks": 0},
    }
    return Manifest.model_validate(document).model_dump(mode="json")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder, in memory where there is room for it."""
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None  # they live for microseconds
    with tempfile.TemporaryDirectory(prefix="cadenza-fuzz-", dir=place) as folder:
        yield Path(folder)
