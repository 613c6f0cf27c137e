"""Fine-tuning on the lock-step arm: what an episode leaves behind, when the person steps in, what the bench says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cadenza.commands import bench_learning
from cadenza.finetuning.arm import VECTORS, LockstepArm
from cadenza.finetuning.person import Manners, Person
from cadenza.finetuning.rollout import Episode, Terms, run_episode
from cadenza.finetuning.series import Run, load_run, save_run, verdicts
from cadenza.finetuning.trial import Bench, Plan, Point, fine_tune, settings_of
from learning.replay.rewards import taken_over, taking_over_costs
from learning.sac.settings import Objective
from spec.action import ActionSpace
from spec.arrays import Bool, Float, Float32
from spec.errors import MisfitError, SpecError
from spec.robotfile import load_robot

TERMS = Terms(ActionSpace.JOINT_DELTA, history=2, executed=4, limit=30, helped=60, progress=0.0)
BRISK = Manners(pace=1.0, tremble=0.0, hesitates=0.0)


@pytest.fixture(scope="module")
def arm() -> Iterator[LockstepArm]:
    arm = LockstepArm(load_robot(Path("robots/virtual.yaml")), 0.1)
    yield arm
    arm.close()


def _still(states: Float32, mask: Bool) -> Float:
    return np.zeros((4, 6))


def _episode(arm: LockstepArm, terms: Terms = TERMS, manners: Manners = BRISK) -> Episode:
    return run_episode(arm, _still, Person(arm, manners), terms, 3, np.random.default_rng(0))


def test_a_policy_that_does_nothing_is_relieved_and_blamed(arm: LockstepArm) -> None:
    episode = _episode(arm, replace(TERMS, cut=0.0))
    rows = episode.rows
    assert episode.done, "the person does it"
    assert not episode.success, "but not the policy"
    assert episode.interventions == 1
    first = int(np.argmax(rows.expert))
    assert 10 <= first <= 20, "after about a second and a half in which nothing came nearer"
    assert rows.reward[first - 1] == -1.0
    assert rows.terminated[first - 1]
    assert rows.breaks[first - 1]
    assert rows.reward[len(rows) - 2] == 1.0
    assert rows.terminated[len(rows) - 2]
    assert not rows.reward[:-2][np.arange(len(rows) - 2) != first - 1].any()


def test_nobody_steps_in_without_a_person(arm: LockstepArm) -> None:
    episode = run_episode(arm, _still, None, TERMS, 3, np.random.default_rng(0))
    assert episode.steps == TERMS.limit
    assert not episode.rows.terminated.any(), "time that runs out is no end of the task"
    assert not episode.rows.expert.any()


def test_an_episode_repeats_to_the_bit(arm: LockstepArm) -> None:
    one, other = _episode(arm), _episode(arm)
    assert np.array_equal(one.rows.state, other.rows.state)
    assert np.array_equal(one.rows.action, other.rows.action)
    assert np.array_equal(one.rows.reward, other.rows.reward)


def test_the_progress_reward_is_a_potential(arm: LockstepArm) -> None:
    """Discounted, it adds up to what there was to do at first, however the arm got there."""
    plain = run_episode(arm, None, Person(arm, BRISK), TERMS, 5, np.random.default_rng(0))
    terms = replace(TERMS, progress=0.5)
    shaped = run_episode(arm, None, Person(arm, BRISK), terms, 5, np.random.default_rng(0))
    more = (shaped.rows.reward - plain.rows.reward).astype(np.float64)
    total = float((more * terms.gamma ** np.arange(len(more))).sum())
    arm.reset(5)
    assert shaped.done
    assert total == pytest.approx(terms.progress * arm.remaining_s(), rel=1e-4)


def test_rows_keep_what_the_policy_asked_for(arm: LockstepArm) -> None:
    """A jump that the envelope cuts short: what was executed would hide from the critics what asking too much does."""
    asked = np.zeros((4, 6))
    asked[0, 0] = 0.5

    def jumps(states: Float32, mask: Bool) -> Float:
        return asked

    episode = run_episode(arm, jumps, None, replace(TERMS, limit=4), 3, np.random.default_rng(0))
    assert episode.limited
    commanded = episode.rows.state[:, :6] + episode.rows.state[:, 6:12]
    target = commanded[0] + asked[0]
    assert np.allclose(episode.rows.action[:4], target - commanded[:4], atol=1e-5)
    assert episode.rows.action[1, 0] > 0.1, "it still asks for the rest"
    assert episode.rows.reward[0] < 0


def test_the_policy_sees_a_history_with_its_beginning_masked(arm: LockstepArm) -> None:
    seen: list[tuple[Float32, Bool]] = []

    def looks(states: Float32, mask: Bool) -> Float:
        seen.append((states, mask))
        return np.zeros((4, 6))

    run_episode(arm, looks, None, replace(TERMS, limit=5), 3, np.random.default_rng(0))
    assert [mask.tolist() for _, mask in seen] == [[False, True], [True, True]]
    assert all(states.shape == (2, 6 + sum(VECTORS.values())) for states, _ in seen)


def test_only_takeovers_from_the_policy_cost_it(arm: LockstepArm) -> None:
    rows = _episode(arm, replace(TERMS, cut=0.0, blame=0.0)).rows
    failed = taken_over(rows)
    assert failed.sum() == 1
    costly = taking_over_costs(rows, 0.7)
    assert np.allclose(costly.reward - rows.reward, np.where(failed, -0.7, 0.0))
    demonstration = run_episode(arm, None, Person(arm, BRISK), TERMS, 3, np.random.default_rng(0)).rows
    assert not taken_over(demonstration).any()


def test_a_whole_fine_tuning_in_small(arm: LockstepArm) -> None:
    plan = Plan(demonstrations=1, warmup_updates=2, robot_steps=20, points=1, episodes=1, limit_s=1.0)
    plan = replace(plan, helped_s=1.5, manners=BRISK)
    bench = Bench(arm, plan, seed=0)
    for objective in Objective:
        settings = settings_of(objective, 0, plan).model_copy(update={"batch": 4, "utd": 0.05})
        settings = settings.model_copy(update={"critic_warmup": min(1, settings.critic_warmup)})
        first, last = fine_tune(bench, settings, lambda steps: None)
        assert first.robot_steps == 0
        assert last.robot_steps >= plan.robot_steps
        assert math.isnan(first.interventions)
        assert 0.0 <= last.human <= 1.0
        assert ("q" in last.learned) == (objective is not Objective.BC)


# -- what the bench says of it


def _run(objective: Objective, seed: int, before: float, after: float) -> Run:
    early = Point(1000, 0.5 * (before + after), 4.0, 40, 0.4, 0.2, {"q": 0.5, "entropy": -20.0})
    return Run(
        objective,
        seed,
        (
            Point(0, before, 4.5, 100, math.nan, math.nan, {}),
            early,
            replace(early, robot_steps=4000, success=after, interventions=0.1),
        ),
    )


def _written(folder: Path, *runs: Run) -> None:
    for run in runs:
        save_run(folder, run, Plan(), settings_of(run.objective, run.seed, Plan()))


def test_a_run_is_found_again_and_no_other(tmp_path: Path) -> None:
    run, settings = _run(Objective.CHUNK, 0, 0.4, 1.0), settings_of(Objective.CHUNK, 0, Plan())
    assert load_run(tmp_path, Plan(), settings) is None
    _written(tmp_path, run)
    found = load_run(tmp_path, Plan(), settings)
    assert found is not None
    assert found.points[1:] == run.points[1:]
    assert math.isnan(found.points[0].interventions)
    with pytest.raises(MisfitError, match="other settings"):
        load_run(tmp_path, Plan(limit_s=9.0), settings)
    (tmp_path / "chunk-0.json").write_text("{")
    with pytest.raises(SpecError, match="not the result of a run"):
        load_run(tmp_path, Plan(), settings)


def test_every_bar_is_judged() -> None:
    good = [_run(Objective.CHUNK, 0, 0.5, 0.97), _run(Objective.SEED, 0, 0.5, 0.6), _run(Objective.BC, 0, 0.5, 0.7)]
    assert all(verdict.held for verdict in verdicts(good))
    for bad, missed in (
        (_run(Objective.CHUNK, 0, 0.7, 0.97), "success after warm-up"),
        (_run(Objective.CHUNK, 0, 0.5, 0.94), "chunk: success"),
    ):
        assert [v.name for v in verdicts([bad]) if not v.held] == [missed]
    behind = [_run(Objective.CHUNK, 0, 0.5, 0.96), _run(Objective.BC, 0, 0.5, 0.96)]
    assert [v.name for v in verdicts(behind) if not v.held] == ["chunk against bc"]


def test_the_command_goes_on_from_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _written(tmp_path, _run(Objective.CHUNK, 0, 0.4, 1.0), _run(Objective.BC, 0, 0.4, 0.6))
    command = ["--out", str(tmp_path), "--methods", "chunk", "bc", "--seeds", "1", "--json"]
    assert bench_learning.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert [bar["held"] for bar in report["bars"]] == [True] * 4
    assert json.loads((tmp_path / "results.json").read_text()) == report
    assert (tmp_path / "learning.png").stat().st_size > 10_000
    _written(tmp_path, _run(Objective.CHUNK, 0, 0.4, 0.9))
    assert bench_learning.main(command) == 1


@pytest.mark.parametrize("bad", [["--seeds", "0"], ["--steps", "0"], ["--episodes", "0"], ["--first-seed", "-1"]])
def test_what_makes_no_sense_is_refused(bad: list[str], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=bad[0]):
        bench_learning.main(["--out", str(tmp_path), *bad])
