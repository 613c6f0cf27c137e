"""Files that are no legacy checkpoint, or not a whole one, get one line that says what and where."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cadenza.cli import main
from export.legacy.anatomy import Told, anatomy_of
from export.legacy.fixture import SMALL, Size, write_fixture
from export.legacy.formats import Format, is_legacy, read_legacy
from export.legacy.policy import load_original
from learning.network.config import Activation
from spec.errors import SpecError

TINY = replace(SMALL, cameras=(), encoder_layers=1, decoder_layers=1)
TOLD = Told(n_heads=4, activation=Activation.RELU, pre_norm=False, log_std_min=-5.0, log_std_max=2.0)
PLACED = ("--action-space", "joint_delta", "--step-s", "0.1")
SPAN = ("--action-low", "-1", "--action-high", "1")


class Code:
    """Runs when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/cadenza-was-here"),))


def _file(tmp_path: Path, size: Size = TINY) -> Path:
    return write_fixture(tmp_path, Format.SAFETENSORS, size)


def _changed(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], size: Size = TINY) -> Path:
    path = _file(tmp_path, size)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return path


def _warmup(tmp_path: Path, change: Callable[[dict[str, Any]], object], size: Size = TINY) -> Path:
    path = write_fixture(tmp_path, Format.WARMUP, size)
    document = torch.load(path, weights_only=True)
    changed = change(document)
    torch.save(document if changed is None else changed, path)
    return path


def _config(tmp_path: Path, **fields: object) -> Path:
    path = write_fixture(tmp_path, Format.LEROBOT, TINY)
    document = json.loads((path / "config.json").read_text()) | fields
    (path / "config.json").write_text(json.dumps({name: value for name, value in document.items() if value != "gone"}))
    return path


def _refused(path: Path, *words: str, told: Told = TOLD) -> None:
    with pytest.raises(SpecError) as refused:
        load_original(path, told)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message or any(word.startswith("--") for word in words)
    for word in words:
        assert word in message, message


def _reads(path: Path, content: bytes, read: Callable[[Path], object] = read_legacy) -> bool:
    """Whether ``content`` can be read as a checkpoint; if not, the refusal is a line that names the file."""
    path.write_bytes(content)
    try:
        read(path)
    except SpecError as refused:
        message = str(refused)
        assert str(path) in message
        assert "\n" not in message
        return False
    return True


def test_files_that_are_something_else(tmp_path) -> None:
    _refused(tmp_path / "nothing.pt", "No such file")
    (tmp_path / "empty").write_bytes(b"")
    _refused(tmp_path / "empty", "0 bytes")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n" + bytes(100))
    _refused(tmp_path / "picture.png", "not a safetensors file")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    _refused(tmp_path / "other.zip", "cut off, foreign, or holding more than tensors")
    (tmp_path / "folder").mkdir()
    _refused(tmp_path / "folder", "config.json", "no config beside the tensors")
    (tmp_path / "folder" / "config.json").write_text("[]")
    _refused(tmp_path / "folder", "a config is a mapping")


@pytest.mark.parametrize("form", Format)
def test_truncated(tmp_path, form) -> None:
    path = write_fixture(tmp_path, form, TINY)
    file = path / "model.safetensors" if path.is_dir() else path
    whole = file.read_bytes()
    for share in (0.02, 0.5, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SpecError, match="cut off"):
            read_legacy(path)


def test_code_is_never_run(tmp_path) -> None:
    marker = Path("/tmp/cadenza-was-here")
    marker.unlink(missing_ok=True)
    for number, document in enumerate(({"actor_state_dict": Code()}, Code())):
        torch.save(document, path := tmp_path / f"{number}.pt")
        _refused(path, "holding more than tensors")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Code()))
    _refused(tmp_path / "bare.pt", "holding more than tensors")
    assert not marker.exists()


def test_warmup_documents_of_other_shapes(tmp_path) -> None:
    _refused(_warmup(tmp_path, lambda d: [1, 2]), "actor_state_dict")
    _refused(_warmup(tmp_path, lambda d: {"model": d["actor_state_dict"]}), "actor_state_dict")
    _refused(_warmup(tmp_path, lambda d: d["actor_state_dict"].update(step=7)), "actor_state_dict: step", "tensor")
    _refused(_warmup(tmp_path, lambda d: d.update(config=3)), "config")

    def differ(document: dict[str, Any]) -> None:
        document["encoder_state_dict"]["state_encoder.0.bias"] = torch.zeros(TINY.latent)

    _refused(_warmup(tmp_path, differ), "encoder.state_encoder.0.bias", "differ")


def test_tensors_without_their_numbers(tmp_path) -> None:
    """Read by weights_only as well as others; comparing or counting them raised NotImplementedError."""
    name = "encoder.state_encoder.0.bias"
    for change in (torch.Tensor.to_sparse, lambda tensor: tensor.to("meta")):

        def bare(document: dict[str, Any], change: Any = change) -> None:
            document["actor_state_dict"][name] = change(document["actor_state_dict"][name])

        _refused(_warmup(tmp_path, bare), name, "holds its numbers")


def test_files_of_the_older_torch_form_cut_off_or_altered_anywhere(tmp_path) -> None:
    """They raised struct.error where they were cut off, and AssertionError where a storage's name was altered."""
    torch.save(
        {"actor_state_dict": {"a": torch.zeros(3), "b": torch.arange(4)}},
        path := tmp_path / "old.pt",
        _use_new_zipfile_serialization=False,
    )
    whole = path.read_bytes()
    cut = [whole[:place] for place in range(len(whole))]
    altered = [whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :] for place in range(len(whole))]
    assert read_legacy(path).tensors.keys() == {"a", "b"}
    assert not any(_reads(path, content) for content in cut)
    assert {_reads(path, content) for content in altered} == {True, False}


def test_the_encoder_may_lie_beside_the_actor_alone(tmp_path) -> None:
    def apart(document: dict[str, Any]) -> None:
        actor = document["actor_state_dict"]
        document["actor_state_dict"] = {n: t for n, t in actor.items() if not n.startswith("encoder.")}

    whole = read_legacy(write_fixture(tmp_path / "whole", Format.WARMUP, TINY)).tensors
    found = read_legacy(_warmup(tmp_path, apart)).tensors
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_tensors_that_are_wrong(tmp_path) -> None:
    layer = "transformer_decoder.layers.0.linear1.weight"
    _refused(_changed(tmp_path, lambda t: t.update(extra=torch.zeros(2))), "extra", "no such tensor")
    _refused(_changed(tmp_path, lambda t: t.pop(layer)), layer, "missing")
    _refused(_changed(tmp_path, lambda t: t.pop("action_start_token")), "action_start_token", "missing")
    _refused(_changed(tmp_path, lambda t: t.update({layer: torch.zeros(5, 32)})), layer, "shape")
    _refused(_changed(tmp_path, lambda t: t.update(action_start_token=torch.zeros(32))), "action_start_token", "3 axes")
    _refused(_changed(tmp_path, lambda t: t[layer].view(-1)[3].fill_(torch.nan)), layer, "finite")
    _refused(_changed(tmp_path, lambda t: t.update({layer: t[layer].half()})), layer, "float16")
    second = "transformer_decoder.layers.1."
    size = replace(TINY, decoder_layers=2)
    names = [name for name in load_file(_file(tmp_path, size)) if name.startswith(second)]
    moved = _changed(tmp_path, lambda t: [t.update({n.replace(".1.", ".2.", 1): t.pop(n)}) for n in names], size)
    _refused(moved, "transformer_decoder", "layers are missing")


def test_statistics_that_are_half_there_or_were_never_filled(tmp_path) -> None:
    size = replace(TINY, normalized=True)
    name = "encoder.input_normalization.observation_state_min"
    _refused(_changed(tmp_path, lambda t: t.pop(name), size), name, "missing")
    _refused(_changed(tmp_path, lambda t: t[name].fill_(torch.inf), size), name, "finite")
    _refused(_changed(tmp_path, lambda t: t.update({name: torch.zeros(3)}), size), "observation_state", "shape")
    other = "encoder.input_normalization.action_min"
    _refused(_changed(tmp_path, lambda t: t.update({other: torch.zeros(3)}), size), other, "no such tensor")


def test_what_shapes_do_not_say_is_not_guessed(tmp_path) -> None:
    path = _file(tmp_path)
    for field, flag in (
        ("n_heads", "--n-heads"),
        ("activation", "--activation"),
        ("pre_norm", "--pre-norm"),
        ("log_std_min", "--log-std-min"),
        ("log_std_max", "--log-std-max"),
    ):
        _refused(path, flag, "not guessed", told=replace(TOLD, **{field: None}))
    _refused(path, "--n-heads", "does not divide", told=replace(TOLD, n_heads=5))
    _refused(path, "--log-std-min", "below", told=replace(TOLD, log_std_min=3.0))
    _refused(path, "--log-std-min", "below", told=replace(TOLD, log_std_min=3.0, log_std_max=5.0))  # σ would not vary
    _refused(path, "--log-std-min", "below", told=replace(TOLD, log_std_max=float("nan")))
    cameras = _file(tmp_path, replace(SMALL, cameras=("b", "a")))
    _refused(cameras, "--cameras", "order", told=TOLD)
    _refused(cameras, "--image", told=replace(TOLD, cameras=("b", "a")))
    _refused(cameras, "tensors take", told=replace(TOLD, cameras=("b", "a"), image=(128, 64)))
    _refused(cameras, "--cameras", "is not among them", told=replace(TOLD, cameras=("b", "c"), image=(64, 64)))
    legacy = read_legacy(cameras)
    anatomy = anatomy_of(legacy, replace(TOLD, cameras=("b", "a"), image=(64, 64)))
    assert [camera.key for camera in anatomy.cameras] == ["observation_images_b", "observation_images_a"]


def test_config_against_tensors_and_operator(tmp_path) -> None:
    bounds = Told(log_std_min=-5.0, log_std_max=2.0)
    load_original(_config(tmp_path), bounds)
    # policy_kwargs.std_min is there, and is another actor's.
    _refused(_config(tmp_path), "--log-std-min", "policy_kwargs.std_min", told=Told())
    _refused(_config(tmp_path, act_dim_model=512), "act_dim_model", "32", told=bounds)
    _refused(_config(tmp_path, obs_history_length=5), "obs_history_length", told=bounds)
    _refused(_config(tmp_path, act_n_heads="eight"), "act_n_heads", told=bounds)
    _refused(_config(tmp_path, act_n_heads="gone"), "--n-heads", told=bounds)
    _refused(_config(tmp_path), "--n-heads", "own config says act_n_heads 4", told=replace(bounds, n_heads=8))
    _refused(_config(tmp_path, act_feedforward_activation="swish"), "swish", told=bounds)
    _refused(_config(tmp_path, num_discrete_actions=3), "num_discrete_actions", told=bounds)
    _refused(_config(tmp_path, std_min=-(10**400)), "std_min", told=bounds)  # too large for a float
    _refused(_config(tmp_path, use_tanh_squash="yes"), "use_tanh_squash", told=bounds)


def test_cameras_come_in_feature_order_under_the_names_they_are_given(tmp_path) -> None:
    size = replace(SMALL, cameras=("wrist", "front"))
    original, _ = load_original(write_fixture(tmp_path, Format.WARMUP, size), Told(cameras=("arm", "top")))
    assert [(c.key, c.name) for c in original.anatomy.cameras] == [
        ("observation_images_wrist", "arm"),
        ("observation_images_front", "top"),
    ]
    path = write_fixture(tmp_path, Format.WARMUP, size)
    _refused(path, "--cameras", "sees 2", told=Told(cameras=("one",)))
    _refused(path, "--image", told=Told(image=(32, 32)))


def test_a_config_that_names_some_cameras_says_no_order(tmp_path) -> None:
    """That of the tensors was taken, which is the alphabet's."""
    path = write_fixture(tmp_path, Format.LEROBOT, replace(SMALL, cameras=("wrist", "front")))
    file = path / "config.json"
    document = json.loads(file.read_text())
    del document["input_features"]["observation.images.wrist"]
    file.write_text(json.dumps(document))
    told = Told(image=(64, 64), log_std_min=-5.0, log_std_max=2.0)
    _refused(path, "--cameras", "order", told=told)
    anatomy = anatomy_of(read_legacy(path), replace(told, cameras=("wrist", "front")))
    assert [camera.name for camera in anatomy.cameras] == ["wrist", "front"]


def test_parts_of_the_learner(tmp_path) -> None:
    path = write_fixture(tmp_path, Format.LEROBOT, TINY)
    legacy = read_legacy(path)
    assert legacy.left["log_alpha"] == 1
    assert {"critic_ensemble", "critic_target", "encoder_critic"} <= legacy.left.keys()
    file = path / "model.safetensors"

    def rewrite(change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
        tensors, tied = load_file(file), _metadata(file)
        change(tensors, tied)
        save_file(tensors, file, tied)

    rewrite(lambda tensors, tied: tied.update({"encoder_actor.state_encoder.0.bias": "actor.encoder.gone.bias"}))
    _refused(path, "encoder_actor.state_encoder.0.bias", "tied to a tensor that is missing")
    rewrite(lambda tensors, tied: (tied.clear(), tensors.update({"reward_model.weight": torch.zeros(1)}))[0])
    _refused(path, "reward_model.weight", "no known part")
    rewrite(lambda tensors, tied: tensors.update({"discrete_critic.net.weight": torch.zeros(1)}))
    tensors = load_file(file)
    del tensors["reward_model.weight"]
    save_file(tensors, file)
    _refused(path, "discrete_critic", "discrete actions")


def test_a_tied_tensor_may_be_stored_under_any_of_its_names(tmp_path) -> None:
    path = write_fixture(tmp_path, Format.LEROBOT, replace(TINY, normalized=True))
    wanted = read_legacy(path).tensors
    file = path / "model.safetensors"
    tensors, tied = load_file(file), _metadata(file)
    for inner in ("state_encoder.0.bias", "input_normalization.observation_state_min"):
        tensors[f"encoder_critic.{inner}"] = tensors.pop(f"actor.encoder.{inner}")
        del tied[f"encoder_critic.{inner}"]
        tied[f"actor.encoder.{inner}"] = f"encoder_critic.{inner}"
    tied = {dropped: kept for dropped, kept in tied.items() if kept in tensors or kept == "pt"}
    save_file(tensors, file, tied)
    found = read_legacy(path).tensors
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def _metadata(file: Path) -> dict[str, str]:
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    return dict(header.get("__metadata__", {}))


def test_what_counts_as_legacy(tmp_path) -> None:
    assert is_legacy(_file(tmp_path))
    assert is_legacy(write_fixture(tmp_path, Format.LEROBOT, TINY))
    assert not is_legacy(tmp_path)
    assert not is_legacy(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"kind": "sequence_actor/1"}')
    assert not is_legacy(tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--joints"),
        (["--joints", "a", "b"], "--action-space"),
        (["--joints", "a", "b", "--action-space", "joint_delta"], "--step-s"),
        (["--joints", "a", "b", "--action-space", "joint_delta", "--step-s", "0"], "--step-s"),
        (["--joints", "a", "b", "c", *PLACED], "what -1 of its actor means"),
        (["--joints", "a", "b", "c", *PLACED, "--action-low", "-1"], "what +1 of its actor means"),
        (["--joints", "a", "b", *PLACED, *SPAN], "moves 3"),
        (["--joints", "a", "b", "c", *PLACED, *SPAN, "--state", "position"], "--state"),
        (
            ["--joints", "a", "b", "c", *PLACED, "--action-low", "1", "2", "--action-high", "2"],
            "--action-low",
        ),
        (
            ["--joints", "a", "b", "c", *PLACED, "--action-low", "2", "--action-high", "1"],
            "should be below --action-high",
        ),
        (["--config", "robots/virtual.yaml", "--joints", "a"], "--joints"),
        (["--config", "nothing.yaml"], "nothing.yaml"),
    ],
)
def test_commands_want_to_be_told_what_no_checkpoint_says(tmp_path, capsys, flags, words) -> None:
    path = write_fixture(tmp_path, Format.WARMUP, TINY)
    for command in ("export", "import"):
        assert main([command, str(path), "--out", str(tmp_path / "out"), *flags]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_flags_of_legacy_checkpoints_are_for_those(tmp_path, capsys) -> None:
    assert main(["export", "assets/policy/push", "--out", str(tmp_path / "b"), "--n-heads", "4"]) == 2
    assert "not a legacy checkpoint" in capsys.readouterr().err


def test_random_bytes_in_a_warmup_file(tmp_path) -> None:
    """Whatever a bit flip does, it is refused in a line or read; never a traceback."""
    path = write_fixture(tmp_path, Format.WARMUP, TINY)
    whole = path.read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 40))
    flipped = [whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in places]
    assert load_original(path, Told())[0].anatomy.action_dim == TINY.action_dim
    assert not all(_reads(path, content, lambda file: load_original(file, Told())) for content in flipped)
    buffer = io.BytesIO()
    torch.save({}, buffer)
    path.write_bytes(buffer.getvalue())
    _refused(path, "actor_state_dict")


def test_an_empty_file_is_told_which_forms_there_are(tmp_path) -> None:
    (tmp_path / "e.pt").touch()
    with pytest.raises(SpecError, match=r"0 bytes.*\.pt file of the warm-up, a folder with config\.json"):
        read_legacy(tmp_path / "e.pt")
