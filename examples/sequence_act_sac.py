"""The sequence actor and its losses on one page: run ``python examples/sequence_act_sac.py``.

It takes a configuration and a batch in the names of the seed document, and prints what that document's section on test
results shows: the shape of a chunk, its joint log-probability, and the actor's loss. Then it learns from the batch.
"""

from __future__ import annotations

import torch

from learning.sac.seed_batch import actor_losses, batch_of_seed, history_of_seed
from learning.sac.seed_config import agent_of_seed

CONFIG = {
    "use_act_actor": True,
    "use_sequence_act_actor": True,
    "input_features": {"observation.state": {"shape": [12]}},
    "output_features": {"action": {"shape": [4]}},
    "dataset_stats": {
        "observation.state": {"min": [0.0] * 12, "max": [1.0] * 12},
        "action": {"min": [-1.0] * 4, "max": [1.0] * 4},
    },
    "obs_history_length": 3,
    "act_chunk_size": 5,
    "act_dim_model": 128,
    "act_n_heads": 4,
    "act_dim_feedforward": 256,
    "act_n_encoder_layers": 2,
    "act_n_decoder_layers": 2,
    "latent_dim": 64,
    "num_critics": 2,
    "temperature_init": 0.01,
    "bc_initial_weight": 0.5,
    "bc_final_weight": 0.1,
    "bc_decay_steps": 1000,
}


def main(rows: int = 2, seed: int = 0) -> dict[str, float]:
    """Returns the losses of the first update."""
    torch.manual_seed(seed)
    agent = agent_of_seed(CONFIG)
    config = agent.actor.config
    frames = [{"observation.state": torch.rand(rows, 12)} for _ in range(config.obs_history_length)]
    batch = {
        "state": frames,
        "expert_action_sequences": torch.rand(rows, config.act_chunk_size, 4) - 0.5,
        "training_step": 500,
    }

    now = history_of_seed(frames, config)
    with torch.no_grad():
        actions, log_prob, _ = agent.actor.sample(now.state, now.images, now.mask, return_sequence=True)
        first, first_log_prob, _ = agent.actor.sample(now.state, now.images, now.mask, return_sequence=False)
    losses = actor_losses(agent, batch)
    print(f"chunk of actions        {tuple(actions.shape)}")
    print(f"joint log-probability   {tuple(log_prob.shape)}  {log_prob.mean():.4f}")
    print(f"first action            {tuple(first.shape)}  its log-probability {tuple(first_log_prob.shape)}")
    print(f"actor loss              {losses['loss_actor']:.4f}")
    print(f"  = {1 - losses['bc_weight']:.3f} x policy   {losses['loss_policy']:.4f}")
    print(f"  + {losses['bc_weight']:.3f} x cloning  {losses['loss_bc']:.4f}")

    # For the critics a batch also holds what was done, what came of it, and what was seen then.
    batch |= {
        "action": actions[:, 0],
        "reward": torch.zeros(rows),
        "next_state": frames,
        "done": torch.zeros(rows),
    }
    learned = agent.update(batch_of_seed(batch, config), batch["training_step"])
    print(f"critic loss             {learned['critic_loss']:.4f}, temperature {learned['alpha']:.4f}")
    return losses


if __name__ == "__main__":
    main()
