"""The history the policy saw live and the one rebuilt from the episode, bit for bit, over a takeover and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from daemon_kit import Script, eventually, run_one
from echo_bundle import heard, write_echo_bundle

from cadenza.replay_difference import EXECUTED, LOGGED, PERSON, compare, judged, summary
from controller.hindsight import ask, on_record, policy_steps
from controller.replay import replay
from controller.sources import policy_source
from controller.supervisor import Supervisor
from controller.workers.policy import Policy
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Termination
from episodes.reader import read_episode
from episodes.records import Driver, Flag, Mode, Order
from export.bundle import read_bundle
from spec.robot import ChunkMode

pytestmark = pytest.mark.daemon

HISTORY = 3


@pytest.fixture(scope="module")
def taken_over(virtual: VirtualRobot, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An episode in which a person takes the arm and gives it back, by order, and the bundle that drove."""
    out = tmp_path_factory.mktemp("taken-over")
    robot = virtual.robot
    robot = robot.model_copy(update={"control": robot.control.model_copy(update={"mode": ChunkMode.LATEST})})
    bundle = write_echo_bundle(out / "bundle", robot.follower.names, "top", HISTORY, ramp=-0.004)
    with Supervisor(robot, policy_source(bundle), out, lambda _: None, bundle=bundle, teleop=True) as supervisor:
        orders = {30: Order.TAKE_OVER, 90: Order.RELEASE}

        def act(asked: int) -> bool:
            if asked in orders:
                supervisor.order(orders[asked])
            if asked == 40:
                virtual.client.hand({"shoulder_pan": 0.2, "wrist_roll": 0.3})
            if asked == 89:
                virtual.client.hand(None)
            return asked > 150 and supervisor.watch.mode is Mode.POLICY

        result = run_one(supervisor, Script(act))
        assert eventually(lambda: supervisor.driving)
    virtual.client.hand(None)
    assert result.termination is Termination.DONE
    assert result.path is not None
    return result.path, bundle.folder


def test_the_takeover_is_on_record(taken_over: tuple[Path, Path]) -> None:
    path, _ = taken_over
    assert check(path) == []
    ticks = read_episode(path, cameras=()).ticks
    assert {int(driver) for driver in ticks["driver"]} == {*map(int, Driver)}
    for flag in (Flag.TAKEN_OVER, Flag.RELEASED):
        assert np.count_nonzero(ticks["flags"] & int(flag)) == 1


def test_features_mask_and_chunk_are_rebuilt_bit_for_bit(taken_over: tuple[Path, Path]) -> None:
    """What the live decoder was given stands in the chunks themselves: see echo_bundle."""
    path, folder = taken_over
    episode, bundle = read_episode(path), read_bundle(folder)
    samples = policy_steps(episode, bundle.manifest)
    answers, logged = ask(episode, Policy(bundle), samples), on_record(episode, samples)
    assert logged is not None
    assert len(samples) >= 15
    assert answers.whole.all()
    assert np.array_equal(answers.targets, logged.targets)
    by_person = 0
    for row in range(len(samples)):
        features, mask = heard(logged.targets[row], HISTORY)
        assert np.array_equal(mask, answers.mask[row])
        assert np.array_equal(features, answers.features[row])
        by_person += episode.ticks["driver"][samples.tick[row]] == Driver.HUMAN
    assert by_person >= 5  # the policy looks on while a person drives
    # The first steps have nothing before them; over the takeover and back the history goes on without a hole.
    assert (~answers.mask).any(axis=1).sum() <= HISTORY
    assert np.array_equal(answers.mask[HISTORY:], np.ones_like(answers.mask[HISTORY:]))


def test_the_decisions_of_it_are_bit_equal(taken_over: tuple[Path, Path]) -> None:
    verdict = replay(read_episode(taken_over[0], cameras=()))
    assert verdict.equal, verdict
    assert verdict.before < 20


def test_the_bundle_that_drove_differs_in_nothing(taken_over: tuple[Path, Path], tmp_path: Path) -> None:
    path, folder = taken_over
    episode, bundle = read_episode(path), read_bundle(folder)
    other = write_echo_bundle(tmp_path / "other", episode.joints, "top", HISTORY, ramp=-0.004 + 2 * np.pi / 4096)
    policies = {"it": (bundle, Policy(bundle)), "other": (other, Policy(other))}
    compared = compare(episode, policies)
    assert compared.recorded_with == "it"
    found = {(row["of"], row["to"]): row for row in summary([compared])}
    assert found["it", LOGGED]["bit_equal"]
    assert judged([compared]) == []
    # The other one's ramp is steeper by a tick an action: 1 to 8 of them, and the echo of it is the same.
    apart = found["it", "other"]["all"]
    assert apart["max"] == pytest.approx(8.0, abs=1e-3)
    assert apart["mean"] == pytest.approx(36.0 / 12.0, abs=1e-3)
    assert found["it", "other"] == {**found["other", LOGGED], "of": "it", "to": "other"}
    assert found["it", PERSON]["all"]["mean"] > found["it", EXECUTED]["all"]["mean"]  # that is why a person took over
