"""The shipped checkpoint still fits the robot, the scene and the program."""

from __future__ import annotations

from pathlib import Path

from synthetic_episodes import robot

from cadenza.commands.learn_eval import ActorPilot
from cadenza.evaluation import Delays, Evaluation
from learning.checkpoint import MODEL_FILE, load_checkpoint
from learning.cloning.samples import SAMPLES_FILE, load_samples

PUSH = Path(__file__).parents[2] / "assets" / "policy" / "push"


def test_it_can_be_exported_here() -> None:
    actor, config = load_checkpoint(PUSH)
    assert config.actor.joints == robot().follower.names
    assert set(config.actor.cameras) <= set(robot().cameras)
    windows = load_samples(PUSH / SAMPLES_FILE, config.actor)
    actions = actor(windows.state, windows.images, windows.mask)
    limits = robot().limits()
    assert bool((actions.detach().numpy() > limits.lower - 0.3).all())
    assert (PUSH / MODEL_FILE).stat().st_size < 5_000_000


def test_it_still_pushes_the_cube_home() -> None:
    """A change of scene, physics, picture or controller that the policy cannot live with shows here first."""
    actor, config = load_checkpoint(PUSH)
    evaluation = Evaluation(robot(), ActorPilot(actor), config.actor.observation(), config.actor.action(), Delays())
    done = sum(evaluation.trial(seed).success for seed in range(20_000, 20_005))
    evaluation.close()
    assert done >= 4
