"""Exploration: none unless asked for, and noise that the log alone tells again, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_controller_inference import JOINTS, Stream, chunks, run
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.commands.run import Args
from controller.dictation import RECORDER
from controller.exploration import Exploration, exploration
from controller.hindsight import ask, explored, on_record, policy_steps
from controller.sources import policy_source
from controller.supervisor import Supervisor
from controller.wiring.process import Process
from controller.workers.inference import Inference
from controller.workers.policy import Policy
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode, read_episode
from episodes.writer import EpisodeWriter, Header
from export.bundle import Bundle
from spec.arrays import Float
from spec.errors import SpecError
from spec.robot import Robot
from spec.robotfile import load_robot

CHUNK = 8
EXPLORE = Exploration(1.0, 77)
Recorded = Callable[[dict[str, str]], Episode]


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"), {"control.rate_hz": "200"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, robot: Robot) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", robot.follower.names)


def said(robot: Robot, bundle: Bundle, explore: Exploration | None, begin: int = 0) -> Float:
    """Five chunks about what is always the same stream, shape (5, chunk, joints)."""
    inference = Inference(robot, Policy(bundle), explore)
    inference.continue_from(begin)
    made = chunks(run(inference, Stream(), 100))
    assert [chunk.sequence for chunk in made] == list(range(begin, begin + 5))
    return np.array([chunk.targets[: CHUNK * JOINTS] for chunk in made]).reshape(5, CHUNK, JOINTS)


def test_nothing_explores_unless_it_is_told_to(robot: Robot, bundle: Bundle) -> None:
    assert Args().explore == 0.0
    assert exploration(0.0) is None
    assert policy_source(bundle) == policy_source(bundle, None)
    assert "--explore" not in policy_source(bundle).arguments
    policy = Policy(bundle)
    features, mask = np.ones((3, JOINTS + 1), dtype=np.float32), np.ones(3, dtype=np.bool_)
    silence = np.zeros((CHUNK, JOINTS), dtype=np.float32)
    assert np.array_equal(policy.decode(features, mask), policy.decode(features, mask, silence))


def test_seed_and_number_make_the_chunk_and_the_scale_its_deviation(robot: Robot, bundle: Bundle) -> None:
    """This policy has no tanh, and a spread of 1 rad."""
    mean, full = said(robot, bundle, None), said(robot, bundle, EXPLORE)
    assert np.array_equal(full, said(robot, bundle, EXPLORE))
    assert np.abs(full - said(robot, bundle, Exploration(1.0, 78))).max() > 0.1
    drawn = np.stack([EXPLORE.noise(number, CHUNK, JOINTS) for number in range(5)])
    assert np.allclose(full - mean, drawn, atol=1e-6)
    assert np.allclose(said(robot, bundle, Exploration(0.5, 77)) - mean, drawn / 2, atol=1e-6)


def test_a_restarted_worker_explores_as_the_dead_one_would_have(robot: Robot, bundle: Bundle) -> None:
    restarted = said(robot, bundle, EXPLORE, 3) - said(robot, bundle, None, 3)
    drawn = np.stack([EXPLORE.noise(number, CHUNK, JOINTS) for number in range(3, 8)])
    assert np.allclose(restarted, drawn, atol=1e-6)


@settings(deadline=None)
@given(
    st.floats(0.0, 1.0, exclude_min=True), st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.integers(1, CHUNK - 1)
)
def test_the_labels_tell_the_noise_again(scale: float, seed: int, number: int, shorter: int) -> None:
    explore = Exploration(scale, seed)
    again = Exploration.of_labels({"task": "push", **explore.labels}, "here")
    assert again == explore
    noise = explore.noise(number, CHUNK, JOINTS)
    assert np.array_equal(noise[:shorter], again.noise(number, shorter, JOINTS))
    assert np.isfinite(noise).all()


def test_every_run_has_a_seed_of_its_own_and_tells_it(robot: Robot, bundle: Bundle, tmp_path: Path) -> None:
    explore = exploration(0.25)
    assert explore is not None
    assert explore != exploration(0.25)
    source = policy_source(bundle, explore)
    assert source.arguments[-3:] == ("--explore", "0.25", str(explore.seed))
    assert labels_told(Supervisor(robot, source, tmp_path, lambda _: None)) == {"task": "push", **explore.labels}
    silent = Supervisor(robot, policy_source(bundle), tmp_path, lambda _: None)
    assert labels_told(silent) == {"task": "push"}


def labels_told(supervisor: Supervisor) -> dict[str, str]:
    """What the recorder hears when an episode of a push begins."""
    told: list[dict[str, Any]] = []
    supervisor.processes[RECORDER] = cast("Process", SimpleNamespace(tell=lambda **order: told.append(order)))
    assert supervisor.recorder.open(supervisor.out / "episode.mcap", {"task": "push"})
    return dict(told[0]["labels"])


@pytest.fixture
def recorded(robot: Robot, bundle: Bundle, tmp_path: Path) -> Recorded:
    """An episode of a policy that explored, under the labels one likes."""

    def write(labels: dict[str, str]) -> Episode:
        stream = Stream()
        made = chunks(run(Inference(robot, Policy(bundle), EXPLORE), stream, 200))
        path = tmp_path / "a.mcap"
        with EpisodeWriter(path, Header(robot, labels=labels, bundle=bundle.manifest)) as writer:
            writer.ticks(b"".join(map(bytes, stream.ticks)))
            for header, jpeg in stream.frames:
                writer.frame("top", jpeg, header.captured_ns, header.sequence)
            for chunk in made:
                writer.chunk(chunk)
            writer.close(Outcome.SUCCESS, Termination.DONE)
        return read_episode(path)

    return write


def test_hindsight_works_out_the_logged_chunks_to_the_bit(recorded: Recorded, bundle: Bundle, tmp_path: Path) -> None:
    episode = recorded(EXPLORE.labels)
    samples = policy_steps(episode, bundle.manifest)
    logged = on_record(episode, samples)
    assert explored(episode) == EXPLORE
    assert logged is not None
    assert len(samples) == 10
    assert np.array_equal(ask(episode, Policy(bundle), samples).targets, logged.targets)
    shorter = write_tiny_bundle(tmp_path / "shorter", episode.joints, chunk=5, ramp=0.02)
    apart = ask(episode, Policy(shorter), samples).targets - logged.targets[:, :5]
    assert np.allclose(apart, 0.01 * np.arange(1, 6)[:, None], atol=1e-6)  # the same noise in both


def test_an_episode_that_does_not_say_so_was_not_explored(recorded: Recorded, bundle: Bundle) -> None:
    episode = recorded({})
    samples = policy_steps(episode, bundle.manifest)
    logged = on_record(episode, samples)
    assert explored(episode) is None
    assert logged is not None
    assert np.abs(ask(episode, Policy(bundle), samples).targets - logged.targets).max() > 0.1


@pytest.mark.parametrize(
    "told", [{"explore_seed": "x"}, {"explore_seed": "-1"}, {"explore_scale": "2"}, {"explore_scale": "nan"}]
)
def test_labels_that_tell_no_noise_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="do not tell how it explored"):
        Exploration.of_labels({**EXPLORE.labels, **told}, "here")
    with pytest.raises(SpecError, match="do not tell"):
        Exploration.of_labels({"explore_scale": "0.5"}, "here")


@pytest.mark.parametrize("scale", ["-0.1", "1.01", "nan", "inf"])
def test_a_scale_that_is_none_is_refused_in_one_line(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run", "--bundle", "nowhere"], ["collect", "--out", "nowhere", "--task", "push"]):
        assert main([*command, "--explore", scale]) == 2
        captured = capsys.readouterr()
        assert "--explore" in captured.err
        assert "from 0" in captured.err
        assert captured.err.count("\n") == 1


def test_a_person_alone_does_not_explore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--out", str(tmp_path / "x"), "--task", "push", "--explore", "0.5"]) == 2
    assert "there is no policy to explore with" in capsys.readouterr().err
