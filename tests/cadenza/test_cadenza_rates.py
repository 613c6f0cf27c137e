"""Success rates: their intervals, and policies compared scene by scene."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.commands.learn_eval import opened, summary
from cadenza.evaluation import Trial
from cadenza.rates import wilson
from export.shelf import bundle_name, offer
from spec.errors import MisfitError, SpecError
from spec.robotfile import load_robot

ROBOT = Path("robots/virtual.yaml")


@given(st.integers(min_value=0, max_value=300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_the_interval_solve_its_equation(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson(successes, trials)
    assert 0.0 <= low <= high <= 1.0
    if not trials:
        assert (low, high) == (0.0, 1.0)
        return
    rate = successes / trials
    assert low <= rate <= high
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(rate - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-6, abs=1e-9)


def test_known_intervals() -> None:
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(50, 50) == pytest.approx((0.9287, 1.0), abs=1e-4)


def _trial(seed: int, success: bool) -> Trial:
    return Trial(seed, success, 2.0, 0.1, 0.0, 0)


def test_policies_are_compared_scene_by_scene(tmp_path: Path) -> None:
    robot = load_robot(ROBOT)
    write_tiny_bundle(tmp_path / "a", robot.follower.names)
    one, other = opened(tmp_path / "a", robot), opened(tmp_path / "a", robot)
    one.trials = [_trial(k, k < 4) for k in range(6)]
    other.trials = [_trial(k, k > 2) for k in range(5)]
    found = summary(other, one)
    assert (found["gained"], found["lost"], found["episodes"]) == (1, 3, 5)
    assert found["success_rate"] == 2 / 5
    assert found["interval"] == list(wilson(2, 5))
    assert summary(one, one)["gained"] == summary(one, one)["lost"] == 0


def test_a_shelf_gives_its_newest_bundle_and_nothing_else_is_taken_for_a_policy(tmp_path: Path) -> None:
    robot = load_robot(ROBOT)
    for weights in (0, 1):
        bundle = write_tiny_bundle(tmp_path / bundle_name(weights), robot.follower.names)
    with pytest.raises(SpecError, match="not a checkpoint"):
        opened(tmp_path, robot)
    offer(tmp_path, bundle)
    assert opened(tmp_path, robot).name == str(bundle.folder)
    (bundle.folder / "decoder.onnx").write_bytes(b"...")
    with pytest.raises(SpecError, match="altered"):
        opened(tmp_path, robot)
    write_tiny_bundle(tmp_path / "side", robot.follower.names, cameras=("side",))
    with pytest.raises(MisfitError, match="camera 'side'"):
        opened(tmp_path / "side", robot)


def test_the_command_tries_all_in_the_same_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = load_robot(ROBOT)
    for name in ("a", "b"):
        write_tiny_bundle(tmp_path / name, robot.follower.names, cameras=(), ramp=0.0)
    words = ["learn", "eval", str(tmp_path / "a"), str(tmp_path / "b"), "--episodes", "1", "--json"]
    plot = tmp_path / "rates.png"
    assert main([*words, "--plot", str(plot), "--robot.control.rate_hz", "50"]) == 0
    found = json.loads(capsys.readouterr().out)["policies"]
    assert [one["success_rate"] for one in found] == [0.0, 0.0]
    assert found[0]["trials"] == found[1]["trials"]
    assert plot.stat().st_size > 5_000
