"""Scripted demonstrations, and trials under the live controller in simulated time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_episodes import robot

from cadenza.cli import main
from cadenza.commands import learn_warmup
from cadenza.demonstrations import PLAN_STEPS, DemonstrationRecorder, Settings
from cadenza.evaluation import Delays, Evaluation
from drivers.virtual.expert import PushExpert
from episodes.outcome import Outcome
from episodes.reader import read_episode
from learning.cloning.windows import Demonstrations
from learning.network.config import ActorConfig
from spec.arrays import Float
from spec.errors import SpecError
from spec.manifest import ImageInput

CONFIG = str(Path(__file__).parents[2] / "robots" / "virtual.yaml")


def test_recording_is_resumable_and_reproducible(tmp_path: Path) -> None:
    command = ["demos", "--config", CONFIG, "--out"]
    assert main([*command, str(tmp_path / "a"), "--episodes", "1"]) == 0
    first = tmp_path / "a" / "demo-00000.mcap"
    written = first.read_bytes()
    (tmp_path / "a" / "demo-00001.mcap.part").write_bytes(b"cut off")
    assert main([*command, str(tmp_path / "a"), "--episodes", "2"]) == 0
    assert first.read_bytes() == written
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["demo-00000.mcap", "demo-00001.mcap"]
    # Episode 1 is the same whether or not episode 0 was recorded by the same program.
    recorder = DemonstrationRecorder(robot(), (), Settings())
    recorder.record(tmp_path / "b.mcap", 0, 1)
    recorder.close()
    one, other = read_episode(tmp_path / "a" / "demo-00001.mcap"), read_episode(tmp_path / "b.mcap")
    assert np.array_equal(one.ticks["position"], other.ticks["position"])
    assert np.array_equal(one.ticks["sent"], other.ticks["sent"])


def test_a_demonstration_holds_what_a_learner_needs(tmp_path: Path) -> None:
    recorder = DemonstrationRecorder(robot(), ("top",), Settings())
    steps = recorder.record(tmp_path / "demo.mcap", 5, 0)
    recorder.close()
    episode = read_episode(tmp_path / "demo.mcap")
    assert episode.outcome is Outcome.SUCCESS
    assert len(episode.chunks) == len(episode.frames["top"]) == steps
    assert len(episode.ticks) == round(Settings().step_s * robot().control.rate_hz) * steps
    assert all(chunk.targets.shape == (PLAN_STEPS, 6) for chunk in episode.chunks)
    limits = robot().limits()
    assert bool((episode.ticks["sent"] >= limits.lower).all() and (episode.ticks["sent"] <= limits.upper).all())
    # What was executed is disturbed, what is to be learned is not.
    assert np.abs(episode.ticks["sent"] - episode.ticks["asked"]).max() > 0.005
    size = {"top": ImageInput(height=64, width=64)}
    data = Demonstrations([tmp_path / "demo.mcap"], ActorConfig(joints=episode.joints, cameras=size))
    assert np.allclose(data.windows(np.array([4])).actions[0].numpy(), episode.chunks[4].targets[:8], atol=1e-6)


def test_plans_start_turn_and_stop_within_the_limits() -> None:
    limits, rng, step_s = robot().limits(), np.random.default_rng(3), 0.1
    expert = PushExpert(robot(), np.array([0.235, 0.0]), step_s)
    for _ in range(20):
        start = limits.home + rng.uniform(-0.3, 0.3, 6).clip(limits.lower - limits.home, limits.upper - limits.home)
        before = start - rng.uniform(-0.6, 0.6) * limits.velocity * step_s
        plan = expert.plan(start, start, rng.uniform([0.13, -0.06], [0.2, 0.06]), PLAN_STEPS, before)
        speed = np.diff(np.vstack([before, start, plan]), axis=0) / step_s
        assert bool((np.abs(speed) <= 0.71 * limits.velocity).all())
        inside = (plan > limits.lower + 1e-9) & (plan < limits.upper - 1e-9)
        assert bool(
            (
                np.abs(np.diff(speed, axis=0))[inside]
                <= 0.19 * limits.acceleration[None].repeat(PLAN_STEPS, 0)[inside] * step_s
            ).all()
        )


def test_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for wrong in (["--cameras", "side"], ["--episodes", "0"], ["--config", str(tmp_path / "no.yaml")]):
        assert main(["demos", "--config", CONFIG, "--out", str(tmp_path), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    wrong_words = (
        (["demos", "--out", str(tmp_path)], ("--seed=-1", "--noise=-1", "--noise=nan")),
        (["learn", "eval", "x"], ("--seed=-1", "--threads=0", "--inference-s=nan", "--camera-s=-1")),
        (
            ["learn", "warmup", "--data", "x", "--out", "x"],
            ("--seed=-1", "--learning-rate=nan", "--delay-s=0.2", "--actor.act-step-s=nan"),
        ),
    )
    for command, words in wrong_words:
        for word in words:
            assert main([*command, word]) == 2
            shown = capsys.readouterr().err
            assert word.partition("=")[0] in shown
            assert shown.count("\n") == 1
    assert main(["learn", "eval", str(tmp_path / "none"), "--config", CONFIG]) == 2
    assert "not a checkpoint" in capsys.readouterr().err
    assert main(["learn", "warmup", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "record some: cadenza demos" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"--actor\.image: height: 0"):
        learn_warmup._actor_config(learn_warmup.ActorArgs(image=(0, 1)), ("a",))


class _ExpertPilot:
    """Looks at the simulator instead of the pictures."""

    def __init__(self) -> None:
        self.evaluation: Evaluation | None = None
        self.masks: list[list[bool]] = []
        self.before: Float | None = None

    def encode(self, state, images):
        return state

    def decode(self, features, mask):
        assert self.evaluation is not None
        self.masks.append(mask.tolist())
        env = self.evaluation._env
        expert = PushExpert(robot(), env.task.goal[:2], 0.1)
        cube = env.task.cube()
        commanded = env._target
        before, self.before = self.before if mask[0] else None, commanded
        return expert.plan(commanded, features[-1].astype(np.float64), np.array([cube.x, cube.y]), 8, before)


def test_the_expert_succeeds_under_the_live_controller_and_its_delays() -> None:
    pilot = _ExpertPilot()
    config = ActorConfig(joints=robot().follower.names, obs_history_length=2)
    evaluation = Evaluation(robot(), pilot, config.observation(), config.action(), Delays())
    pilot.evaluation = evaluation
    trials = [evaluation.trial(seed) for seed in range(3)]
    evaluation.close()
    assert [trial.success for trial in trials] == [True] * 3
    assert pilot.masks[0] == [False, True]
    assert pilot.masks[-1] == [True, True]
    # Its chunks are within the limits, also when they come late.
    assert all(trial.limited < 0.05 for trial in trials)
