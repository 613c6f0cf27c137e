"""Rows of real episode files: what the live policy saw and did is what is learned from."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import synthetic_episodes as synthetic
import torch
from tiny_bundle import write_tiny_bundle

from controller.workers.inference import Inference, Refusal
from controller.workers.policy import Policy
from episodes.outcome import Outcome, Termination
from episodes.records import ChunkRecord, Driver, FrameHeader, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from export.bundle import Bundle
from learning.cloning.windows import Demonstrations, Labels
from learning.network.config import ActorConfig, Convolution
from learning.replay.cut import Source, rows_of_episode
from learning.replay.store import Store
from spec.action import ActionSpace
from spec.calibration import Calibration, JointCalibration
from spec.errors import CadenzaError, MisfitError
from spec.manifest import ImageInput, StateFeature
from spec.observation import encode_jpeg

MS, JOINTS = 1_000_000, 6


def config(**changes: object) -> ActorConfig:
    settings: dict[str, object] = {
        "joints": synthetic.robot().follower.names,
        "cameras": {"top": ImageInput(height=16, width=16)},
        "cnn": (Convolution(channels=2, kernel=3),),
        "obs_history_length": 3,
        "act_chunk_size": 4,
        "act_dim_model": 8,
        "act_n_heads": 2,
    }
    return ActorConfig(**{**settings, **changes})


class Live:
    """An arm at 200 Hz, pictures at 28 Hz, and the real inference beside it; what its decoder is given is overheard."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.policy = bundle, Policy(bundle)
        self.inference = Inference(synthetic.robot(), self.policy)
        self.ticks: list[TickRecord] = []
        self.frames: list[tuple[FrameHeader, bytes]] = []
        self.chunks: list[ChunkRecord] = []
        self.seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._windows: list[tuple[np.ndarray, np.ndarray]] = []
        self._rng = np.random.default_rng(0)
        decode, calls = self.policy.decode, itertools.count()

        def overheard(features: np.ndarray, mask: np.ndarray, noise: None) -> np.ndarray:
            self._windows.append((features.copy(), mask.copy()))
            return decode(features, mask) * (np.nan if next(calls) == 9 else 1.0)

        self.policy.decode = overheard  # type: ignore[method-assign]

    def run(self, ticks: int, mode: Mode = Mode.POLICY, driver: Driver = Driver.POLICY, fresh: bool = True) -> None:
        """The policy is asked every 20 ticks, now and then a tick late."""
        for _ in range(ticks):
            number = len(self.ticks) + 1
            record = TickRecord(
                tick=number, now_ns=1000 * MS + number * 5 * MS, joints=JOINTS, mode=mode, driver=driver
            )
            record.alpha = float(driver == Driver.HUMAN)
            for name in ("position", "sent", "human", "policy"):
                getattr(record, name)[:JOINTS] = self._rng.uniform(-1, 1, JOINTS).tolist()
            record.fresh[:] = [int(fresh)] * 16
            self.ticks.append(record)
            self.inference.see_ticks([record])
            if number % 7 == 1:
                self._picture(record.now_ns - 20 * MS)
            if number % 20 == number // 20 % 2:
                self._ask(record)

    def _picture(self, captured_ns: int) -> None:
        image = self._rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        header = FrameHeader(sequence=len(self.frames), captured_ns=captured_ns)
        self.frames.append((header, encode_jpeg(image, 90)))
        self.inference.see_frame("top", *self.frames[-1])

    def _ask(self, record: TickRecord) -> None:
        answer = self.inference.step(record.now_ns + 2 * MS)
        if not isinstance(answer, Refusal):
            self.chunks.append(answer)
            if np.isfinite(answer.targets[0]):
                self.seen[record.now_ns] = self._windows[-1]

    def write(self, path: Path) -> Path:
        with EpisodeWriter(path, Header(synthetic.robot(), bundle=self.bundle.manifest)) as writer:
            writer.ticks(b"".join(map(bytes, self.ticks)))
            for header, jpeg in self.frames:
                writer.frame("top", jpeg, header.captured_ns, header.sequence)
            for chunk in self.chunks:
                writer.chunk(chunk)
            writer.close(Outcome.SUCCESS, Termination.DONE)
        return path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Live, Path]:
    folder = tmp_path_factory.mktemp("live")
    bundle = write_tiny_bundle(folder / "tiny", synthetic.robot().follower.names)
    life = Live(bundle)
    life.run(30, Mode.EASE_IN, Driver.NONE)
    life.run(300)
    life.run(12, fresh=False)  # the policy is not asked
    life.run(108)
    life.run(110, Mode.HUMAN, Driver.HUMAN)
    life.run(73)
    life.run(4, Mode.HUMAN, Driver.HUMAN)  # a short grip between two of the policy's steps
    life.run(200)
    return life, life.write(folder / "live.mcap")


def test_a_window_is_what_the_live_policy_saw(live: tuple[Live, Path]) -> None:
    """To the last bit: encoded by the very graph, every window of the store is what the decoder was given."""
    life, path = live
    store = Store.in_memory(config(), 4, 1000)
    rows = rows_of_episode(path, config())
    store.append(rows)
    begins = np.flatnonzero(rows.acted)
    batch = store.windows(begins)
    assert len(begins) > 25
    assert not batch.now.mask.all()
    for number, row in enumerate(begins):
        features, mask = life.seen[int(rows.observed_ns[row])]
        assert np.array_equal(batch.now.mask[number].numpy(), mask)
        for slot in np.flatnonzero(mask):
            image = batch.now.images["top"][number, slot].numpy()
            encoded = life.policy.encode(batch.now.state[number, slot].numpy(), {"top": image})
            assert np.array_equal(encoded.ravel(), features[slot])


def test_cloning_from_a_live_log_sees_what_the_policy_saw(live: tuple[Live, Path]) -> None:
    """Pictures used to be those captured before the reading, whether or not they had come by then."""
    life, path = live
    data = Demonstrations([path], config(), Labels.SENT)
    window = data.windows(data.every(1))
    assert len(window) == len(life.seen)
    for number, (features, mask) in enumerate(life.seen.values()):
        assert np.array_equal(window.mask[number].numpy(), mask)
        for slot in np.flatnonzero(mask):
            image = window.images["top"][number, slot].numpy()
            encoded = life.policy.encode(window.state[number, slot].numpy(), {"top": image})
            assert np.array_equal(encoded.ravel(), features[slot])
    # The first step was taken on the way to the start pose, which is nobody's answer to a sight.
    assert not bool(window.action_mask[0].any())
    assert bool(window.action_mask[2:-5].all())


def test_cloning_needs_no_policy_on_record(tmp_path: Path) -> None:
    """A person alone at the arm: even steps, and what was sent."""
    path = tmp_path / "alone.mcap"
    with EpisodeWriter(path, Header(synthetic.robot())) as writer:
        for tick in range(200):
            record = TickRecord(tick=tick, now_ns=tick * 5 * MS, joints=JOINTS, mode=Mode.HUMAN, driver=Driver.HUMAN)
            for name in ("position", "sent", "human"):
                getattr(record, name)[:JOINTS] = [0.001 * tick] * JOINTS
            writer.tick(record)
            if tick % 7 == 0:
                writer.frame("top", encode_jpeg(np.full((9, 9, 3), tick, np.uint8), 95), tick * 5 * MS, tick)
        writer.close(Outcome.SUCCESS)
    window = Demonstrations([path], config(), Labels.SENT).windows(np.array([0, 2]))
    assert np.allclose(window.actions[1].numpy(), [[0.001 * tick] * JOINTS for tick in (60, 80, 100, 120)], atol=1e-6)
    assert int(window.images["top"][1, -1].float().mean()) == pytest.approx(35, abs=1)
    rows = rows_of_episode(path, config())
    assert rows.expert[rows.acted].all()
    with pytest.raises(CadenzaError, match="no plans to learn from; try --labels sent"):
        Demonstrations([path], config())


def test_rows_tell_who_drove_and_where_a_chunk_was_cut(live: tuple[Live, Path]) -> None:
    life, path = live
    rows = rows_of_episode(path, config())
    ticks = {record.now_ns: record for record in life.ticks}
    for row in np.flatnonzero(rows.acted):
        due = int(rows.observed_ns[row]) + 100 * MS
        by_human = ticks[due].driver == Driver.HUMAN
        # A person's action is what the arm did; the policy's is what it asked for, whatever the envelope made of it.
        told = ticks[due].sent if by_human else ticks[due].policy
        assert np.allclose(rows.action[row], told[:JOINTS], atol=1e-6)
        assert rows.expert[row] == by_human
        following = int(rows.observed_ns[row + 1]) + 100 * MS
        between = {ticks[t].driver for t in range(due, following + 1, 5 * MS) if t in ticks}
        if not rows.breaks[row]:
            assert len(between) == 1
            assert abs(int(rows.observed_ns[row + 1]) - due) <= 5 * MS
        elif rows.acted[row + 1] and int(rows.observed_ns[row + 1]) - due <= 50 * MS:
            assert len(between) == 2
    assert rows.expert.sum() == 5
    assert rows.terminated.sum() == 1
    assert rows.reward[rows.terminated].tolist() == [1.0] == rows.reward[rows.reward != 0].tolist()


def test_a_policy_that_was_not_asked_at_the_end_hides_how_it_ended(tmp_path: Path) -> None:
    life = Live(write_tiny_bundle(tmp_path / "tiny", synthetic.robot().follower.names))
    life.run(200)
    whole = rows_of_episode(life.write(tmp_path / "a.mcap"), config())
    life.run(60, fresh=False)
    hidden = rows_of_episode(life.write(tmp_path / "b.mcap"), config())
    assert (whole.terminated.sum(), whole.reward.sum()) == (1, 1.0)
    assert (hidden.terminated.sum(), hidden.reward.sum()) == (0, 0.0)
    assert len(hidden) - len(whole) <= 1


def test_a_demonstration_is_an_example_throughout(live: tuple[Live, Path]) -> None:
    life, path = live
    rows = rows_of_episode(path, config(), Source.DEMONSTRATION)
    assert np.array_equal(rows.expert, rows.acted)
    ticks = {record.now_ns: record for record in life.ticks}
    for row in np.flatnonzero(rows.acted):
        assert np.allclose(rows.action[row], ticks[int(rows.observed_ns[row]) + 100 * MS].sent[:JOINTS], atol=1e-6)
    assert rows.plan is None  # what a policy planned is nothing to learn from


@pytest.mark.parametrize("space", ActionSpace)
def test_plans_of_a_script_are_those_that_cloning_learns_from(space: ActionSpace, tmp_path: Path) -> None:
    path = synthetic.write_episode(tmp_path, 1, refused=(5,), steps=14)
    wanted = config(action_space=space)
    rows = rows_of_episode(path, wanted, Source.DEMONSTRATION)
    store = Store.in_memory(wanted, 2, 100)
    store.append(rows)
    batch = store.windows(np.flatnonzero(rows.acted))
    cloned = Demonstrations([path], wanted)
    labels = cloned.windows(cloned.every(1))
    planned = np.flatnonzero(rows.acted & (np.arange(len(rows)) != 5))
    at = torch.from_numpy(planned - (planned > 5))
    assert torch.allclose(batch.expert[torch.from_numpy(planned)], labels.actions[at], atol=1e-6)
    assert bool(batch.expert_mask[planned].all())
    assert batch.expert_mask[5].sum() == min(4, len(rows) - 1 - 5)  # no plan there: what was done stands for it
    assert torch.equal(batch.expert[5, 0], batch.actions[5, 0])


def test_state_and_deltas_are_the_live_ones(tmp_path: Path) -> None:
    path = synthetic.write_episode(tmp_path, 0)
    wanted = config(state=(StateFeature.POSITION, StateFeature.VELOCITY), action_space=ActionSpace.JOINT_DELTA)
    rows = rows_of_episode(path, wanted)
    assert rows.state.shape == (len(rows), 12)
    for row in range(len(rows) - 1):
        moved = synthetic.position_at(0.1 * (row + 1), 0) - synthetic.position_at(0.1 * row, 0)
        assert np.allclose(rows.action[row], moved, atol=1e-6)
    assert [int(image.mean()) for image in rows.images["top"]] == pytest.approx([10 + 15 * k for k in range(12)], abs=2)


def refusals(path: Path, **changes: object) -> str:
    with pytest.raises(CadenzaError) as error:
        rows_of_episode(path, config(**changes))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_what_does_not_belong_to_the_actor_is_refused(live: tuple[Live, Path], tmp_path: Path) -> None:
    _, path = live
    assert "joints" in refusals(path, joints=("a", "b"))
    assert "no pictures of camera 'wrist' (has: top)" in refusals(
        path, cameras={"wrist": ImageInput(height=9, width=9)}
    )
    assert "drove in joint_position" in refusals(path, action_space=ActionSpace.JOINT_DELTA)
    assert "steps of 0.1 s" in refusals(path, act_step_s=0.05)
    assert "wants cube" in refusals(path, vectors={"cube": 3})
    demo = synthetic.write_episode(tmp_path, 0)
    with pytest.raises(MisfitError, match="plans 6 actions"):
        rows_of_episode(demo, config(act_chunk_size=9), Source.DEMONSTRATION)


def test_an_episode_that_is_not_whole_is_refused(live: tuple[Live, Path], tmp_path: Path) -> None:
    _, path = live
    content = path.read_bytes()
    for name, part in {"a": content[: len(content) // 2], "b": content[:-30]}.items():
        cut = tmp_path / f"{name}.mcap"
        cut.write_bytes(part)
        assert "cadenza episodes recover" in refusals(cut)
        with pytest.raises(CadenzaError, match="cadenza episodes recover"):
            Demonstrations([cut], config(), Labels.SENT)
    none = tmp_path / "c.mcap"
    none.write_bytes(b"no episode")
    refusals(none)


def test_another_calibration_is_refused(tmp_path: Path) -> None:
    calibration = Calibration(
        serial="X",
        joints={
            "a": JointCalibration(id=1, model="xl330-m288", inverted=False, zero_ticks=2048, range_ticks=(0, 4095)),
        },
    )
    path = tmp_path / "a.mcap"
    with EpisodeWriter(path, Header(synthetic.robot(), calibration=calibration)) as writer:
        writer.frame("top", encode_jpeg(np.zeros((9, 9, 3), np.uint8), 90), 0, 0)
        writer.ticks(bytes(TickRecord(now_ns=1, joints=JOINTS, mode=Mode.POLICY)))
        writer.close(Outcome.SUCCESS)
    assert len(rows_of_episode(path, config(), calibration=calibration.digest())) == 0
    with pytest.raises(
        MisfitError, match=f"recorded under calibration {calibration.digest()[:12]}, the actor's is 0000"
    ):
        rows_of_episode(path, config(), calibration="0" * 64)
    assert Demonstrations([path], config(), Labels.SENT).calibration == calibration.digest()
    other = tmp_path / "b.mcap"
    with EpisodeWriter(
        other, Header(synthetic.robot(), calibration=calibration.model_copy(update={"serial": "Y"}))
    ) as writer:
        writer.frame("top", encode_jpeg(np.zeros((9, 9, 3), np.uint8), 90), 0, 0)
        writer.ticks(bytes(TickRecord(now_ns=1, joints=JOINTS, mode=Mode.POLICY)))
        writer.close(Outcome.SUCCESS)
    with pytest.raises(MisfitError, match=f"others under {calibration.digest()[:12]}"):
        Demonstrations([path, other], config(), Labels.SENT)
