"""Inference on real graphs in ONNX Runtime: what is asked of the policy, what is refused, what is on record."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle

from controller.workers.control_process import chunk_of
from controller.workers.inference import Inference, Refusal
from controller.workers.policy import Policy
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import ChunkRecord, FrameHeader, Mode, TickRecord
from episodes.windows import history, samples_of_chunks
from episodes.writer import EpisodeWriter, Header
from export.bundle import Bundle, write_bundle
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.observation import decode_jpeg, encode_jpeg, policy_image, policy_state
from spec.robot import Robot
from spec.robotfile import load_robot

JOINTS = 6
MS = 1_000_000


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"), {"control.rate_hz": "200"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, robot: Robot) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", robot.follower.names)


class Stream:
    """Ticks at 200 Hz and pictures at 30 Hz of an arm that moves, on a clock of its own."""

    def __init__(self) -> None:
        self.number = 0
        self.ticks: list[TickRecord] = []
        self.frames: list[tuple[FrameHeader, bytes]] = []

    def tick(self, mode: Mode = Mode.POLICY, fresh: bool = True) -> TickRecord:
        self.number += 1
        record = TickRecord(tick=self.number, now_ns=1000 * MS + self.number * 5 * MS, joints=JOINTS, mode=int(mode))
        rng = np.random.default_rng(self.number)
        record.position[:JOINTS] = rng.uniform(-1, 1, JOINTS).tolist()
        record.sent[:JOINTS] = rng.uniform(-1, 1, JOINTS).tolist()
        record.fresh[:] = [int(fresh)] * 16
        self.ticks.append(record)
        return record

    def frame(self, captured_ns: int) -> tuple[FrameHeader, bytes]:
        sequence = len(self.frames)
        image = np.random.default_rng(sequence).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        jpeg = encode_jpeg(image, 90)
        self.frames.append((FrameHeader(sequence=sequence, captured_ns=captured_ns, size=len(jpeg)), jpeg))
        return self.frames[-1]


def run(inference: Inference, stream: Stream, ticks: int, mode: Mode = Mode.POLICY) -> list[ChunkRecord | Refusal]:
    """A policy step every 20 ticks, a picture every 7."""
    answers: list[ChunkRecord | Refusal] = []
    for _ in range(ticks):
        record = stream.tick(mode)
        inference.see_ticks([record])
        if record.tick % 7 == 1:
            inference.see_frame("top", *stream.frame(record.now_ns - 20 * MS))
        if record.tick % 20 == 0:
            answers.append(inference.step(record.now_ns + 2 * MS))
    return answers


def chunks(answers: list[ChunkRecord | Refusal]) -> list[ChunkRecord]:
    assert all(isinstance(answer, ChunkRecord) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, ChunkRecord)]


def test_a_chunk_says_what_it_was_made_of(robot: Robot, bundle: Bundle) -> None:
    stream = Stream()
    made = chunks(run(Inference(robot, Policy(bundle)), stream, 100))
    assert [chunk.sequence for chunk in made] == [0, 1, 2, 3, 4]
    for chunk in made:
        tick = stream.ticks[chunk.tick - 1]
        assert chunk.observed_ns == tick.now_ns
        header, _ = stream.frames[chunk.frames[0]]
        assert header.captured_ns == max(
            h.captured_ns for h, _ in stream.frames if h.captured_ns + 20 * MS <= tick.now_ns
        )
        missing = min(0, chunk.sequence + 1 - 3) * 0.001
        expected = np.array(tick.position[:JOINTS]) + 0.01 * np.arange(1, 9)[:, None] + missing
        assert np.allclose(np.reshape(chunk.targets[:48], (8, 6)), expected, atol=1e-6)
        assert (chunk.weights, chunk.length, chunk.joints, chunk.step_ns) == (7, 8, 6, 100 * MS)


def test_deltas_start_from_the_target_that_stood(robot: Robot, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "delta", robot.follower.names, space=ActionSpace.JOINT_DELTA, history=1)
    stream = Stream()
    (chunk,) = chunks(run(Inference(robot, Policy(bundle)), stream, 20))
    tick = stream.ticks[chunk.tick - 1]
    steps = np.array(tick.position[:JOINTS]) + 0.01 * np.arange(1, 9)[:, None]
    expected = np.array(tick.sent[:JOINTS]) + np.cumsum(steps, axis=0)
    assert np.allclose(np.reshape(chunk.targets[:48], (8, 6)), expected, atol=1e-5)


def test_another_hand_on_the_arm_begins_a_new_history(robot: Robot, bundle: Bundle) -> None:
    stream, inference = Stream(), Inference(robot, Policy(bundle))
    run(inference, stream, 100)
    run(inference, stream, 1, Mode.EASE_IN)
    (chunk,) = chunks(run(inference, stream, 20))
    tick = stream.ticks[chunk.tick - 1]
    assert np.isclose(chunk.targets[0], tick.position[0] + 0.01 - 0.002, atol=1e-6)


def test_blind_steps_are_refused(robot: Robot, bundle: Bundle) -> None:
    inference, stream = Inference(robot, Policy(bundle)), Stream()
    assert inference.step(1000 * MS) == Refusal("joints", "no reading yet")
    inference.see_ticks([stream.tick()])
    assert inference.step(1006 * MS) == Refusal("camera", "top: no picture yet")
    inference.see_frame("top", *stream.frame(1005 * MS))
    assert isinstance(inference.step(1006 * MS), ChunkRecord)
    assert inference.step(1007 * MS) == Refusal("joints", "no new reading since the last step")
    for _ in range(11):
        inference.see_ticks([stream.tick(fresh=False)])
    refusal = inference.step(stream.ticks[-1].now_ns + MS)
    assert isinstance(refusal, Refusal)
    assert refusal.text.startswith("shoulder_pan: last read")
    for _ in range(60):
        inference.see_ticks([stream.tick()])
    refusal = inference.step(stream.ticks[-1].now_ns)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "camera"
    assert "old" in refusal.text
    inference.see_frame("top", FrameHeader(captured_ns=stream.ticks[-1].now_ns), b"no picture at all")
    refusal = inference.step(stream.ticks[-1].now_ns)
    assert isinstance(refusal, Refusal)
    assert "not a readable JPEG" in refusal.text


def test_a_policy_that_says_nan_reaches_the_loop_that_latches_a_fault_on_it(robot: Robot, tmp_path: Path) -> None:
    """Dropped here, the arm would only hold, and nobody would be told why."""
    bundle = write_tiny_bundle(tmp_path / "nan", robot.follower.names, ramp=float("nan"))
    made = chunks(run(Inference(robot, Policy(bundle)), Stream(), 60))
    assert [chunk.sequence for chunk in made] == [0, 1, 2]
    assert all(np.isnan(chunk_of(chunk).targets).all() for chunk in made)


def test_a_feature_that_is_nan_never_enters_the_history(robot: Robot, bundle: Bundle) -> None:
    policy, stream = Policy(bundle), Stream()
    inference, encode, calls = Inference(robot, policy), policy.encode, itertools.count()

    def overheard(state: np.ndarray, images: dict[str, np.ndarray]) -> np.ndarray:
        return encode(state, images) * (np.nan if next(calls) == 1 else 1)

    policy.encode = overheard  # type: ignore[method-assign,assignment]
    made = chunks(run(inference, stream, 60))
    assert [bool(np.isfinite(chunk_of(chunk).targets).all()) for chunk in made] == [True, False, True]


def test_a_history_may_reach_far_back(robot: Robot, tmp_path: Path) -> None:
    """Frames 0.3 s apart at ten policy steps a second: too few steps were kept, and old frames always masked."""
    bundle = write_tiny_bundle(tmp_path / "far", robot.follower.names)
    far = bundle.manifest.observation.model_copy(update={"step_s": 0.3})
    inference = Inference(
        robot, Policy(replace(bundle, manifest=bundle.manifest.model_copy(update={"observation": far})))
    )
    stream = Stream()
    last = chunks(run(inference, stream, 260))[-1]
    assert np.isclose(last.targets[0], stream.ticks[last.tick - 1].position[0] + 0.01, atol=1e-6)


def test_a_restarted_worker_goes_on_counting(robot: Robot, bundle: Bundle) -> None:
    inference = Inference(robot, Policy(bundle))
    inference.continue_from(41)
    assert chunks(run(inference, Stream(), 40))[-1].sequence == 42


def test_what_the_policy_saw_is_rebuilt_bit_for_bit_from_the_log(robot: Robot, bundle: Bundle, tmp_path: Path) -> None:
    """Steps are refused and histories broken on the way; the log alone must tell the same story."""
    stream, policy = Stream(), Policy(bundle)
    inference = Inference(robot, policy)
    live: list[tuple[np.ndarray, np.ndarray]] = []
    decode = policy.decode

    calls = itertools.count()

    def overheard(features: np.ndarray, mask: np.ndarray, noise: None) -> np.ndarray:
        if next(calls) == 4:  # refused by the loop: it must not count as seen
            return np.full((8, JOINTS), np.nan)
        live.append((features.copy(), mask.copy()))
        return decode(features, mask)

    policy.decode = overheard  # type: ignore[method-assign]
    answers = run(inference, stream, 130) + run(inference, stream, 33, Mode.EASE_IN) + run(inference, stream, 150)
    for _ in range(12):
        inference.see_ticks([stream.tick(fresh=False)])
    answers += [inference.step(stream.ticks[-1].now_ns + MS), *run(inference, stream, 100)]
    made = [answer for answer in answers if isinstance(answer, ChunkRecord)]
    assert len(made) < len(answers)

    path = tmp_path / "a.mcap"
    with EpisodeWriter(path, Header(robot, bundle=bundle.manifest)) as writer:
        writer.ticks(b"".join(map(bytes, stream.ticks)))
        for header, jpeg in stream.frames:
            writer.frame("top", jpeg, header.captured_ns, header.sequence)
        for chunk in made:
            writer.chunk(chunk)
        writer.close(Outcome.SUCCESS, Termination.DONE)

    episode = read_episode(path)
    samples = samples_of_chunks(episode, ("top",))
    rebuilt = np.stack(
        [
            policy.encode(
                policy_state(episode.ticks["position"][tick], episode.ticks["velocity"][tick], ("position",)),
                {
                    "top": policy_image(
                        decode_jpeg(episode.frames["top"].jpeg[frame]), bundle.manifest.observation.cameras["top"]
                    )
                },
            )
            for tick, frame in zip(samples.tick, samples.frames["top"], strict=True)
        ]
    )
    index, mask = history(samples.observed_ns, np.arange(len(samples)), 3, 100 * MS, samples.segment)
    assert len(samples) == len(live) == len(made) - 1
    assert not mask.all()
    for row, (features, live_mask) in enumerate(live):
        assert np.array_equal(mask[row], live_mask)
        assert np.array_equal(np.where(mask[row][:, None], rebuilt[index[row]], 0), features)


def test_graphs_that_do_not_keep_their_promise_are_refused(robot: Robot, bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest.model_copy(update={"feature_dim": bundle.manifest.feature_dim + 1})
    files = {name: (bundle.folder / name).read_bytes() for name in manifest.files}
    with pytest.raises(SpecError, match="tiny"):
        Policy(write_bundle(tmp_path / "dim", manifest, files)).warm_up()
    swapped = bundle.manifest.model_copy(update={"encoder": "decoder.onnx", "decoder": "encoder.onnx"})
    with pytest.raises(SpecError, match="inputs"):
        Policy(write_bundle(tmp_path / "swap", swapped, files))
