"""``cadenza learn online`` from the outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

import cadenza.commands.learn_online as command
from benchmarks.stand_ins.learner import Shelf, small_actor, write_episode
from cadenza.cli import main
from learning.checkpoint import CheckpointConfig, save_checkpoint
from learning.network.actor import SequenceActor
from learning.online.learner import Learner
from learning.online.state import STATE_FILE, read_counters
from spec.errors import CadenzaError


class _Shelf(Shelf):
    """Graphs are tested elsewhere."""

    def __init__(self, folder: Path, *_: object) -> None:
        super().__init__(folder)

    def prepare(self, _: object) -> None:
        """Nothing to trace."""


@pytest.fixture
def argv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(command, "ShelfPublisher", _Shelf)
    actor = small_actor()
    save_checkpoint(tmp_path / "start", actor, CheckpointConfig(actor=actor.config, weights=7))
    for name in ("demos", "came"):
        (tmp_path / name).mkdir()
    write_episode(tmp_path / "demos" / "d.mcap", 3)
    write_episode(tmp_path / "came" / "e.mcap", 1)
    folders = {"checkpoint": "start", "data": "demos", "watch": "came", "out": "out"}
    words = ["learn", "online", *(word for name, at in folders.items() for word in (f"--{name}", str(tmp_path / at)))]
    return [*words, "--h", "2", "--batch", "8", "--disk-gb", "0.004", "--nice", "0", "--json"]


def _said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_and_the_same_command_again(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*argv, "--until-idle-s", "0"]) == 0
    said = _said(capsys)
    assert [line["source"] for line in said if line["event"] == "episode"] == ["demonstration", "online"]
    assert [line["weights"] for line in said if line["event"] == "weights"] == [8]
    assert (said[-1]["event"], said[-1]["updates"], said[-1]["rows"]) == ("end", 11, 11)
    for name in ("journal.jsonl", "curves.png", "checkpoint/config.json", "checkpoint/windows.safetensors"):
        assert (tmp_path / "out" / name).exists()
    assert list((tmp_path / "out" / "tb").iterdir())
    write_episode(tmp_path / "came" / "f.mcap", 2)
    # Ctrl-C in the middle: the update at work is ended, the state saved, and it is said.
    turn = Learner.turn

    def interrupted(learner: Learner) -> object:
        if learner.counters.update == 16:
            os.kill(os.getpid(), signal.SIGINT)
        return turn(learner)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Learner, "turn", interrupted)
    assert main(argv) == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    monkeypatch.undo()
    monkeypatch.setattr(command, "ShelfPublisher", _Shelf)
    said = _said(capsys)
    assert [line["path"] for line in said if line["event"] == "episode"] == [str(tmp_path / "came" / "f.mcap")]
    assert (said[-1]["event"], said[-1]["waiting"]) == ("interrupted", False)
    assert read_counters(tmp_path / "out" / STATE_FILE).update == 17
    for word in ("--gamma", "--batch"):
        assert main([*argv, word, "0.5" if word == "--gamma" else "9"]) == 2
        shown = capsys.readouterr().err
        assert word[2:] in shown
        assert shown.count("\n") == 1


def test_bad_arguments_are_one_line(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--export-every=0",
        "--save-every=0",
        "--offline-updates=-1",
        "--disk-gb=nan",
        "--disk-gb=1e-6",
        "--max-ticks=nan",
        "--takeover-cost=nan",
        "--takeover-cost=-1",
        f"--watch={tmp_path / 'demos' / 'd.mcap'}",
        f"--watch={tmp_path / 'demos'}",
        f"--watch={tmp_path}",
        "--until-idle-s=nan",
        "--until-updates=-1",
        "--reward=classifier",
        f"--classifier={tmp_path}",
        f"--data={tmp_path / 'none'}",
        f"--checkpoint={tmp_path / 'none'}",
        f"--beside={tmp_path / 'none.yaml'}",
        "--h=9",
    )
    for word in words:
        assert main([*argv, word]) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown
        assert "preparing" not in shown.out, word


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--batch=0", "--batch: 0: input should be greater than 0"),
        ("--utd=nan", "--utd: nan: input should be a finite number"),
        ("--seed=-5", "--seed: -5: input should be greater than or equal to 0"),
        ("--critic-hidden=0", "--critic-hidden: 0: input should be greater than 0"),
        ("--bc-initial=0", "bc_final 0.1 is above bc_initial 0.0"),
    ],
)
def test_bad_learning_numbers_are_one_line_too(
    argv: list[str], capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert main([*argv, word]) == 2
    assert capsys.readouterr().err == f"cadenza learn: {said}\n"


def test_an_actor_that_wants_what_no_arm_measures_is_refused_at_once(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every episode would be refused, one by one."""
    config = small_actor().config.model_copy(update={"vectors": {"touch": 2}})
    save_checkpoint(tmp_path / "start", SequenceActor(config), CheckpointConfig(actor=config))
    assert main(argv) == 2
    assert "the actor wants touch, which no episode holds; cadenza import --state" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda:99", "meta", "gpu"])
def test_a_device_that_is_not_there_is_one_line(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert main([*argv, "--device", device]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"cadenza learn: --device: '{device}': no such device here (valid: cpu")
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_actor_learns_on_the_device_that_was_named(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU all are one, so it is looked at where the learner is made."""
    devices = []

    def seen(actor: SequenceActor, _: object) -> None:
        devices.append(actor.mean_head.weight.device.type)
        raise CadenzaError("seen")

    monkeypatch.setattr(command, "Agent", seen)
    monkeypatch.setattr(command, "_device", lambda name: torch.device("cpu" if name == "cpu" else "meta"))
    for name in ("cpu", "other"):
        assert main([*argv, "--device", name]) == 2
    assert devices == ["cpu", "meta"]


def test_what_is_damaged_is_refused_before_the_graphs_are_traced(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which takes minutes on a robot's PC."""
    assert main([*argv, "--until-updates", "1"]) == 0
    capsys.readouterr()
    for name in (STATE_FILE, "journal.jsonl", "store/online/head.json"):
        path = tmp_path / "out" / name
        whole = path.read_bytes()
        path.write_bytes(b"damaged\n")
        assert main(argv) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown
        assert "preparing" not in shown.out, name
        path.write_bytes(whole)
    assert main([*argv, "--until-updates", "1"]) == 0
    assert "preparing" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_is_said_and_no_more(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "curves.png").mkdir(parents=True)
    assert main([*argv, "--until-updates", "1"]) == 0
    said = _said(capsys)
    assert [line["event"] for line in said[-2:]] == ["not_shown", "end"]
    assert "curves.png: Is a directory" in str(said[-2]["reason"])


def test_being_relieved_of_the_arm_can_cost_the_policy(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In the episode a person takes over once, and succeeds; demonstrations pay nothing."""
    assert main([*argv, "--until-updates", "1", "--takeover-cost", "0.25"]) == 0
    facts = {line["source"]: line["facts"] for line in _said(capsys) if line["event"] == "episode"}
    assert isinstance(facts["online"], dict)
    assert facts["online"]["reward"] == 0.75
    assert main([*argv, "--until-updates", "1"]) == 2
    assert "takeover_cost is 0.0, was 0.25" in capsys.readouterr().err


@pytest.mark.parametrize("lost", [False, True])
def test_tracing_can_be_interrupted(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The exporter made an error of its own of Ctrl-C, and where it came during a clean-up nothing came of it."""

    def prepare(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if not lost:
                raise CadenzaError("export: encoder graph: failed") from None

    monkeypatch.setattr(_Shelf, "prepare", prepare)
    before = signal.getsignal(signal.SIGINT)
    assert main(argv) == 130
    assert capsys.readouterr().err == "cadenza learn: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before
