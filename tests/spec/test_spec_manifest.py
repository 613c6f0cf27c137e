"""The bundle manifest refuses what does not hold together, and bundles of another robot."""

from pathlib import Path
from typing import Any

import pytest

from export.bundle import read_bundle, write_bundle
from spec.errors import MisfitError, SpecError
from spec.files import sha256_of
from spec.manifest import Manifest, check_fit
from spec.robotfile import load_robot, validated

VIRTUAL = Path(__file__).parents[2] / "robots/virtual.yaml"
FILES = {"encoder.onnx": b"encoder", "decoder.onnx": b"decoder"}


def manifest(tmp_path: Path, **changes: Any) -> Manifest:
    digests = {}
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        digests[name] = sha256_of(tmp_path / name)
    document: dict[str, Any] = {
        "name": "push",
        "files": digests,
        "encoder": "encoder.onnx",
        "decoder": "decoder.onnx",
        "joints": list(load_robot(VIRTUAL).follower.joints),
        "observation": {"history": 2, "step_s": 0.1, "cameras": {"top": {"height": 96, "width": 96}}},
        "action": {"space": "joint_position", "chunk": 8, "step_s": 0.1},
        "feature_dim": 16,
        "actor": "sequence_actor/1",
        "exporter": "cadenza/0.1.0",
        "weights": 1,
        "parity": {"windows": 1, "max_abs": 0.0, "max_abs_rad": 0.0, "max_ticks": 0.0},
    }
    return validated(Manifest, document | changes, "bundle.json")


def test_round_trip_through_disk(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    write_bundle(tmp_path / "bundle", made, FILES)
    assert read_bundle(tmp_path / "bundle").manifest == made


def test_replacing_a_bundle_leaves_no_rest_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, manifest(tmp_path), FILES)
    (folder / "stray").write_bytes(b"old")
    write_bundle(folder, manifest(tmp_path, weights=2), FILES)
    assert read_bundle(folder).manifest.weights == 2
    assert not (folder / "stray").exists()


def test_an_altered_graph_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", manifest(tmp_path), FILES)
    bundle.decoder.write_bytes(b"other weights")
    with pytest.raises(SpecError, match=r"decoder\.onnx.*altered"):
        read_bundle(bundle.folder)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not a bundle; make one: cadenza export"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"version": 99}', "\x00"])
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(SpecError, match=r"bundle\.json"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": {"../evil": "0" * 64}}, "not a plain file name"),
        ({"files": {"encoder.onnx": "xyz"}}, "not a sha256"),
        ({"encoder": "other.onnx"}, "not among files"),
        ({"surprise": 1}, "no such field"),
        ({"weights": -1}, "weights"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        manifest(tmp_path, **changes)


def test_a_bundle_of_another_robot_is_refused(tmp_path: Path) -> None:
    robot = load_robot(VIRTUAL)
    check_fit(manifest(tmp_path), robot)
    with pytest.raises(MisfitError, match="do not fit the robot's"):
        check_fit(manifest(tmp_path, joints=["a", "b"]), robot)
    wrist = {"history": 2, "step_s": 0.1, "cameras": {"wrist": {"height": 96, "width": 96}}}
    with pytest.raises(MisfitError, match="camera 'wrist' is not on robot"):
        check_fit(manifest(tmp_path, observation=wrist), robot)
    check_fit(manifest(tmp_path, calibration="aa"), robot, "aa")
    with pytest.raises(MisfitError, match=r"trained under calibration aa, the arm .* has bb"):
        check_fit(manifest(tmp_path, calibration="aa"), robot, "bb")
