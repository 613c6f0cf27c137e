"""The user's own names: configurations, batches, and the numbers that their document shows."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from learning.network.config import Activation
from learning.sac.agent import Agent
from learning.sac.seed_batch import actor_losses, batch_of_seed, history_of_seed
from learning.sac.seed_config import agent_of_seed, from_seed
from learning.sac.settings import Objective
from spec.errors import SpecError

EXAMPLE = Path(__file__).parents[2] / "examples" / "sequence_act_sac.py"
SMALL = {
    "use_sequence_act_actor": True,
    "input_features": {"observation.state": {"shape": [7]}, "observation.images.top": {"shape": [3, 48, 64]}},
    "output_features": {"action": {"shape": [2]}},
    "obs_history_length": 3,
    "act_chunk_size": 4,
    "act_dim_model": 16,
    "act_n_heads": 2,
    "act_dim_feedforward": 16,
    "act_n_encoder_layers": 1,
    "act_n_decoder_layers": 1,
    "latent_dim": 16,
}


def _frames(count: int, rows: int = 3) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return [
        {
            "observation.state": torch.randn(rows, 7, generator=generator),
            "observation.images.top": torch.rand(rows, 3, 48, 64, generator=generator),
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    return agent_of_seed(SMALL)


def test_the_documents_results(capsys: pytest.CaptureFixture[str]) -> None:
    """A chunk (2, 5, 4), its joint log-probability (2,), and a loss that is a number."""
    spec = importlib.util.spec_from_file_location("sequence_act_sac", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = example.main()
    said = capsys.readouterr().out
    assert "chunk of actions        (2, 5, 4)\njoint log-probability   (2,)" in said
    assert "first action            (2, 4)  its log-probability (2,)" in said
    assert losses["bc_weight"] == pytest.approx(0.5 * 0.2**0.5)
    mixed = (1.0 - losses["bc_weight"]) * losses["loss_policy"] + losses["bc_weight"] * losses["loss_bc"]
    assert losses["loss_actor"] == pytest.approx(mixed, abs=1e-6)
    assert all(math.isfinite(value) for value in losses.values())


def test_names_of_the_configuration() -> None:
    more = {
        "act_dropout": 0.2,
        "act_feedforward_activation": "gelu",
        "act_pre_norm": True,
        "discount": 0.9,
        "num_critics": 5,
        "temperature_init": 0.02,
        "bc_initial_weight": 0.7,
        "use_backup_entropy": True,
        "freeze_vision_encoder": True,
    }
    actor, settings = from_seed(SMALL | more, ("left", "right"))
    assert (actor.obs_history_length, actor.act_chunk_size, actor.act_dim_model) == (3, 4, 16)
    assert (actor.joints, actor.state_dim, actor.act_activation) == (("left", "right"), 7, Activation.GELU)
    assert actor.cameras["observation.images.top"].width == 64
    assert (settings.objective, settings.gamma, settings.critics) == (Objective.SEED, 0.9, 5)
    assert (settings.temperature, settings.bc_initial, settings.bc_final) == (0.02, 0.7, 0.01)
    assert settings.entropy_in_backup
    assert settings.freeze_encoder
    assert from_seed(SMALL)[1].temperature == 0.01


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"act_chunksize": 8}, "'act_chunksize': no counterpart here"),
        ({"shared_encoder": True}, "'shared_encoder': no counterpart here"),
        ({"use_sequence_act_actor": False}, "use_sequence_act_actor: False"),
        ({"act_n_heads": 3}, "not a multiple"),
        ({"num_critics": 1}, "critics: 1"),
        ({"input_features": {"observation.sound": {"shape": [4]}}}, "observation.sound"),
        ({"input_features": {"observation.state": {}}}, "needs a shape"),
        ({"output_features": {}}, "output_features"),
    ],
)
def test_configurations_without_a_counterpart_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        from_seed(SMALL | wrong)


def test_normalisation_comes_with_the_configuration() -> None:
    """It used to be off without a word where its statistics did not find their way into the policy."""
    stats = {
        "observation.state": {"min": [0.0] * 7, "max": [4.0] * 7},
        "observation.images.top": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]},
        "action": {"min": [-2.0, 0.0], "max": [2.0, 1.0]},
    }
    normalization = agent_of_seed(SMALL | {"dataset_stats": stats}).actor.normalization
    assert torch.equal(normalization.state(torch.tensor([0.0, 4.0] + [2.0] * 5)), torch.tensor([-1.0, 1.0] + [0.0] * 5))
    assert torch.equal(normalization.action(torch.tensor([2.0, 0.0])), torch.tensor([1.0, -1.0]))
    assert normalization.image_mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    for wrong in (
        {"action": {"min": [0.0], "max": [1.0]}},
        {"action": {"min": [0.0, 0.0], "max": [1.0]}},
        {"action": {"min": [0.0, 2.0], "max": [1.0, 1.0]}},
        {"action": {"min": [0.0, math.nan], "max": [1.0, 1.0]}},
        {"observation.images.top": {"mean": [0.0] * 3, "std": [0.0] * 3}},
        {"sound": {"min": [0.0], "max": [1.0]}},
        {"action": {}},
    ):
        with pytest.raises(SpecError, match="dataset_stats"):
            agent_of_seed(SMALL | {"dataset_stats": wrong})


def test_a_number_that_never_changed_is_normalised_to_a_number() -> None:
    """It was divided by a range of zero, and every loss was NaN."""
    stats = {
        "observation.state": {"min": [1.0] * 7, "max": [1.0] * 7},
        "action": {"min": [0.0, 0.5], "max": [1.0, 0.5]},
    }
    normalization = agent_of_seed(SMALL | {"dataset_stats": stats}).actor.normalization
    assert normalization.state(torch.ones(7)).tolist() == [0.0] * 7
    assert normalization.action(torch.tensor([1.0, 0.5])).tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


def test_short_histories_are_masked_and_long_ones_end_with_the_newest(agent: Agent) -> None:
    """Short ones used to be filled up in the caller's own list, and nobody could tell what was real."""
    config = agent.actor.config
    frames = _frames(2)
    history = history_of_seed(frames, config)
    assert len(frames) == 2
    assert history.mask.tolist() == [[False, True, True]] * 3
    assert torch.equal(history.state[:, 2], frames[1]["observation.state"])
    picture = history.images["observation.images.top"]
    assert (picture.shape, picture.dtype) == ((3, 3, 48, 64, 3), torch.uint8)
    assert picture[0, 2, 5, 6, 1] == round(float(frames[1]["observation.images.top"][0, 1, 5, 6]) * 255)
    frames = _frames(5)
    assert torch.equal(history_of_seed(frames, config).state[:, 0], frames[2]["observation.state"])


def test_examples_of_other_lengths_are_cut_or_masked_never_made_up(agent: Agent) -> None:
    batch = {"state": _frames(3), "training_step": 0}
    exact = actor_losses(agent, batch | {"expert_action_sequences": torch.full((3, 4, 2), 0.3)})
    longer = actor_losses(agent, batch | {"expert_action_sequences": torch.full((3, 9, 2), 0.3)})
    shorter = actor_losses(agent, batch | {"expert_action_sequences": torch.full((3, 2, 2), 0.3)})
    masked = batch | {
        "expert_action_sequences": torch.cat([torch.full((3, 2, 2), 0.3), torch.full((3, 2, 2), 9.0)], dim=1),
        "expert_action_mask": torch.tensor([[True, True, False, False]] * 3),
    }
    assert longer == exact
    assert shorter == actor_losses(agent, masked) != exact
    assert actor_losses(agent, batch)["loss_bc"] == 0.0


def test_a_batch_in_the_seeds_form_is_learned_from(agent: Agent) -> None:
    batch = {
        "state": _frames(3),
        "action": torch.zeros(3, 2),
        "reward": torch.tensor([0.0, 1.0, 0.0]),
        "next_state": _frames(3),
        "done": torch.tensor([0, 1, 0]),
        "expert_action_sequences": torch.zeros(3, 4, 2),
        "training_step": 7,
    }
    ours = batch_of_seed(batch, agent.actor.config)
    assert ours.bootstrap.tolist() == [True, False, True]
    assert ours.rewards.tolist() == [[0.0], [1.0], [0.0]]
    assert agent.update(ours, 7)["skipped"] == 0.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"actions": torch.zeros(3, 2)}, "'actions': no such key"),
        ({"reward": torch.zeros(2)}, "reward"),
        ({"state": []}, "holds no frame"),
        ({"state": [{"observation.state": torch.zeros(3, 7)}]}, "observation.images.top"),
        ({"expert_action_sequences": torch.zeros(2, 4, 2)}, "a row a state"),
        ({"expert_action_mask": torch.zeros(3, 9)}, "expert_action_mask"),
    ],
)
def test_batches_of_another_form_are_refused(agent: Agent, wrong: dict, said: str) -> None:
    """Half as many examples as states used to be repeated, against observations they had nothing to do with."""
    batch = {
        "state": _frames(3),
        "action": torch.zeros(3, 2),
        "reward": torch.zeros(3),
        "next_state": _frames(3),
        "done": torch.zeros(3),
        "expert_action_sequences": torch.zeros(3, 4, 2),
    }
    with pytest.raises(SpecError, match=said):
        batch_of_seed(batch | wrong, agent.actor.config)
