"""One fine-tuning on the lock-step arm, from demonstrations to a policy that does without help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import torch

from cadenza.finetuning.arm import VECTORS, LockstepArm
from cadenza.finetuning.person import Manners, Person
from cadenza.finetuning.rollout import Episode, Pilot, Terms, run_episode
from learning.cloning.loss import CloningLoss
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig, DecoderKind
from learning.replay.mix import Mixed
from learning.replay.store import Store
from learning.sac.agent import Agent
from learning.sac.settings import Agg, Objective, Settings
from spec.action import ActionSpace
from spec.arrays import Bool, Float, Float32

_DEMONSTRATIONS, _TRAINING, _TRIALS = 51_000_000, 52_000_000, 53_000_000
"""Scenes of the three kinds, far apart, so that none is met twice."""
_SCENES = 10_000
"""Of one seed."""
GAMMA = 0.995
UTD = 0.25
"""Updates for each robot step."""
_ACTOR_EVERY = 4
"""Updates of the critics for each of the actor: what a new motion came to is known before the next is tried."""
_CAPACITY = 100_000
_WARMUP = Settings(
    objective=Objective.BC, bc_initial=1.0, bc_final=1.0, actor_lr=1e-3, ramp=50, batch=256, h=4, critics=2
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What every method is given alike."""

    demonstrations: int = 40
    warmup_updates: int = 600
    robot_steps: int = 6000
    """The person's included."""
    limit_s: float = 6.2
    """Time the policy has for the task."""
    helped_s: float = 12.2
    """After this time an episode is given up, though a person helps."""
    points: int = 4
    """Evaluations on the way."""
    episodes: int = 100
    """Of the evaluations at the beginning and at the end."""
    episodes_between: int = 40
    """Of those on the way."""
    exploration: float = 0.5
    """Share of the policy's own spread that it explores with."""
    step_s: float = 0.1
    history: int = 2
    manners: Manners = field(default_factory=Manners)


@dataclass(frozen=True, slots=True)
class Point:
    """What an evaluation, and the learning since the last one, showed."""

    robot_steps: int
    success: float
    """Of the deterministic policy, nobody helping."""
    time_s: float
    """Mean of the successes [s]; 0 where there are none."""
    episodes: int
    interventions: float
    """Share of the episodes since the last point in which a person stepped in; NaN before the first."""
    human: float
    """Share of the robot steps since then that a person drove; NaN likewise."""
    learned: dict[str, float]
    """Means of what the updates since then said."""


def covered(objective: Objective) -> int:
    """Action numbers that the entropy term of a method covers: six joints, and one or all steps of a chunk."""
    return 6 * (1 if objective is Objective.SINGLE else 4)


def settings_of(objective: Objective, seed: int, plan: Plan) -> Settings:
    """How each method learns: alike in all that they share.

    ``seed`` shares out 1 between cloning and the critics' advice; its shares are in the proportion of ``chunk``.
    """
    cloning = {Objective.BC: 1.0, Objective.SEED: 0.15 / 1.15}.get(objective, 0.15)
    actor_every = 1 if objective is Objective.BC else _ACTOR_EVERY
    return Settings(
        objective=objective,
        h=4,
        gamma=GAMMA,
        critics=4,
        critic_hidden=128,
        agg=Agg.MIN,
        ema=0.02,
        actor_lr=3e-4 if objective is not Objective.BC else 5e-4,
        ramp=200 * actor_every,
        anneal=max(1, round(UTD * plan.robot_steps)),
        actor_ema=0.005,
        critic_lr=1e-3,
        value_low=-3.5,
        value_high=2.6,
        temperature=1e-2,
        temperature_lr=1e-2,
        target_entropy=-0.7 * covered(objective),
        bc_initial=cloning,
        bc_final=cloning,
        bc_loss=CloningLoss.NLL if objective is not Objective.BC else CloningLoss.MSE,
        batch=256,
        utd=UTD,
        actor_every=actor_every,
        critic_warmup=1000 if objective is not Objective.BC else 0,
        seed=seed,
    )


def actor_config(joints: tuple[str, ...], plan: Plan) -> ActorConfig:
    """A small actor for low-dimensional observations."""
    return ActorConfig(
        joints=joints,
        vectors=VECTORS,
        obs_history_length=plan.history,
        obs_step_s=plan.step_s,
        action_space=ActionSpace.JOINT_DELTA,
        act_chunk_size=4,
        act_step_s=plan.step_s,
        decoder=DecoderKind.PARALLEL,
        act_dim_model=64,
        act_n_heads=4,
        act_dim_feedforward=128,
        act_n_encoder_layers=1,
        act_n_decoder_layers=1,
        act_dropout=0.0,
        act_pre_norm=True,
        latent_dim=128,
    )


class Bench:
    """The arm, the person, and the warm-up that all methods of one seed begin with."""

    def __init__(self, arm: LockstepArm, plan: Plan, seed: int) -> None:
        self.arm, self.plan, self.seed = arm, plan, seed
        self.config = actor_config(arm.robot.follower.names, plan)
        person = Person(arm, plan.manners)
        terms = self.terms(4)
        self.demonstrations: list[Episode] = []
        for number in range(plan.demonstrations):
            rng = np.random.default_rng((seed, _DEMONSTRATIONS, number))
            scene = _DEMONSTRATIONS + seed * _SCENES + number
            self.demonstrations.append(run_episode(arm, None, person, replace(terms, limit=terms.helped), scene, rng))
        self._weights = self._cloned()

    def terms(self, executed: int) -> Terms:
        """Of an episode in which ``executed`` steps of a chunk are executed."""
        plan = self.plan
        limit, helped = round(plan.limit_s / plan.step_s), round(plan.helped_s / plan.step_s)
        return Terms(self.config.action_space, plan.history, executed, limit, helped, gamma=GAMMA)

    def actor(self) -> SequenceActor:
        """As the warm-up left it."""
        actor = SequenceActor(self.config)
        actor.load_state_dict(self._weights)
        return actor

    def store(self, window: int, *, demonstrations: bool) -> Store:
        """In memory, for windows of so many steps."""
        store = Store.in_memory(self.config, window, _CAPACITY)
        for episode in self.demonstrations if demonstrations else ():
            store.append(episode.rows)
        return store

    def _cloned(self) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            actor = SequenceActor(self.config)
        rows = [episode.rows for episode in self.demonstrations]
        states = np.concatenate([r.state for r in rows])
        actions = np.concatenate([r.action[r.acted] for r in rows])
        _scale(actor, states, actions)
        agent, store = Agent(actor, _WARMUP.model_copy(update={"seed": self.seed})), self.store(4, demonstrations=True)
        for update in range(self.plan.warmup_updates):
            rng = np.random.default_rng((self.seed, update))
            agent.update(store.examples.draw(rng, _WARMUP.batch), update)
        return {name: tensor.clone() for name, tensor in actor.state_dict().items()}


def _scale(actor: SequenceActor, states: Float32, actions: Float32, room: float = 1.1) -> None:
    """Normalise states by their spread; let actions be half again as large as nearly all of those shown."""
    norm = actor.normalization
    with torch.no_grad():
        norm.state_mean.copy_(torch.from_numpy(states.mean(0)))
        norm.state_std.copy_(torch.from_numpy(states.std(0)).clamp_min(0.01))
        half = torch.from_numpy(np.percentile(np.abs(actions), 99, axis=0).astype(np.float32)).clamp_min(0.02) * room
        norm.action_low.copy_(-half)
        norm.action_high.copy_(half)


def pilot(actor: SequenceActor, exploration: float = 0.0, rng: np.random.Generator | None = None) -> Pilot:
    """The actor as it drives; deterministic without ``rng``."""
    config = actor.config

    @torch.inference_mode()
    def drive(states: Float32, mask: Bool) -> Float:
        noise = None
        if rng is not None:
            drawn = exploration * rng.standard_normal((1, config.act_chunk_size, config.action_dim))
            noise = torch.from_numpy(drawn.astype(np.float32))
        actions = actor(torch.from_numpy(states)[None], {}, torch.from_numpy(mask)[None], noise)
        return np.asarray(actions[0].numpy(), dtype=np.float64)

    return drive


def evaluate(bench: Bench, actor: SequenceActor, executed: int, episodes: int, first: int = 0) -> list[Episode]:
    """The deterministic policy alone, in scenes that no learning sees."""
    return [
        run_episode(
            bench.arm, pilot(actor), None, bench.terms(executed), _TRIALS + first + number, np.random.default_rng(0)
        )
        for number in range(episodes)
    ]


def fine_tune(bench: Bench, settings: Settings, progress: Callable[[int], None]) -> Iterator[Point]:
    """Fine-tune one policy, and say every so often how it does.

    Args:
        bench: where, and from what.
        settings: how; objectives that score one action also execute one of each chunk.
        progress: is told the robot steps so far.
    """
    plan, actor = bench.plan, bench.actor()
    executed = settings.h if settings.objective in {Objective.CHUNK, Objective.BC} else 1
    agent = Agent(actor, settings)
    driver = agent.averaged
    online = bench.store(settings.window, demonstrations=False)
    mixed = Mixed(bench.store(settings.window, demonstrations=True), online)
    person, terms = Person(bench.arm, plan.manners), bench.terms(executed)
    update, steps, due = 0, 0, plan.robot_steps / plan.points
    yield _point(evaluate(bench, driver, executed, plan.episodes), 0, [], [], plan.step_s)
    lived: list[Episode] = []
    said: list[dict[str, float]] = []
    for number in count():
        rng = np.random.default_rng((settings.seed, _TRAINING, number))
        scene = _TRAINING + settings.seed * _SCENES + number
        lived.append(run_episode(bench.arm, pilot(driver, plan.exploration, rng), person, terms, scene, rng))
        online.append(lived[-1].rows)
        steps += lived[-1].steps
        while update < _due(steps, settings, plan):
            drawn = np.random.default_rng((settings.seed, update))
            said.append(agent.update(mixed.draw(drawn, settings.batch), update))
            update += 1
        progress(steps)
        if steps >= due:
            last = steps >= plan.robot_steps
            episodes = plan.episodes if last else plan.episodes_between
            yield _point(evaluate(bench, driver, executed, episodes), steps, lived, said, plan.step_s)
            lived, said = [], []
            due += plan.robot_steps / plan.points
            if last:
                return


def _due(steps: int, settings: Settings, plan: Plan) -> float:
    """Updates that so many robot steps pay for: ``utd`` each, and ``critic_warmup`` on top, spread over the run.

    The actor joins in when the first ``critic_warmup`` are done, after 2,400 of 6,000 steps: the critics have then
    seen what the cloned policy does, and how it fails, before their advice moves it.
    """
    return settings.critic_warmup * min(1.0, steps / plan.robot_steps) + steps * settings.utd


def _point(
    trials: list[Episode], steps: int, lived: list[Episode], said: list[dict[str, float]], step_s: float
) -> Point:
    done = [trial.steps for trial in trials if trial.success]
    total = sum(episode.steps for episode in lived)
    keys = {key for one in said for key in one}
    return Point(
        robot_steps=steps,
        success=len(done) / len(trials),
        time_s=float(np.mean(done)) * step_s if done else 0.0,
        episodes=len(trials),
        interventions=float(np.mean([episode.interventions > 0 for episode in lived])) if lived else float("nan"),
        human=sum(episode.human for episode in lived) / total if total else float("nan"),
        learned={key: float(np.mean([one[key] for one in said if key in one])) for key in sorted(keys)},
    )
