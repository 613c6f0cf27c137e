"""Another policy beside the one that drives, on real graphs and without processes: loaded, tried, taken or refused."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_controller_inference import JOINTS, MS, Stream
from tiny_bundle import write_tiny_bundle

from controller.exploration import Exploration
from controller.workers.control_process import chunk_of
from controller.workers.exchange import Exchange, News, Wanted
from controller.workers.inference import Inference
from controller.workers.loading import Load, Loading
from controller.workers.look import Look
from controller.workers.mind import Mind
from controller.workers.policy import Policy
from episodes.records import ChunkRecord, Mode
from export.bundle import Bundle, write_bundle
from spec.action import ActionSpace
from spec.errors import SpecError
from spec.files import sha256_of
from spec.manifest import MANIFEST_FILE, Manifest
from spec.robot import Robot
from spec.robotfile import load_robot

CHUNKS = 4
TRIAL = 3 + CHUNKS
"""The tiny policy's history reaches 0.3 s back, which is three steps after its first look; then chunks are compared."""
Bundles = Callable[..., Bundle]


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"), {"control.rate_hz": "200", "control.swap.chunks": str(CHUNKS)})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, robot: Robot) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("first") / "tiny", robot.follower.names)


@pytest.fixture
def bundles(tmp_path: Path, robot: Robot) -> Bundles:
    def write(weights: int = 8, **kinds: object) -> Bundle:
        folder = tmp_path / f"weights-{weights:06d}"
        return write_tiny_bundle(folder, robot.follower.names, weights=weights, **kinds)  # type: ignore[arg-type]

    return write


class Rig:
    """A policy step every 100 ms, as the process takes them."""

    def __init__(
        self, robot: Robot, first: Bundle, calibration: str | None = None, explore: Exploration | None = None
    ) -> None:
        self.inference = Inference(robot, Policy(first), explore)
        self.exchange = Exchange(robot, self.inference, calibration, self._started)
        self.stream = Stream()
        self.paused = False
        self.chunks: list[ChunkRecord] = []
        self.news: list[News] = []
        self.requests = 0
        self.hold_back = False
        self.loads: list[Loading] = []

    def _started(self, load: Load) -> Loading:
        loading = Loading(load)
        loading._thread.join()
        self.loads.append(loading)
        return loading

    def want(self, bundle: Bundle, **kinds: bool) -> None:
        self.requests += 1
        digest = sha256_of(bundle.folder / MANIFEST_FILE)
        self.exchange.want(Wanted(self.requests, bundle.folder, bundle.manifest.weights, digest, **kinds))

    def pause(self, paused: bool) -> None:
        self.exchange.paused(paused)
        self.paused = paused

    def steps(self, count: int, mode: Mode = Mode.POLICY) -> None:
        for _ in range(count):
            for _ in range(20):
                tick = self.stream.tick(mode)
                self.inference.see_ticks([tick])
            self.inference.see_frame("top", *self.stream.frame(tick.now_ns - 20 * MS))
            self.exchange.turn()
            if self.paused:
                self.exchange.step_aside(tick.now_ns + 2 * MS)
            else:
                answer = self.inference.step(tick.now_ns + 2 * MS)
                assert isinstance(answer, ChunkRecord)
                self.chunks.append(answer)
                self.exchange.stepped()
            self.news += self.exchange.news()

    @property
    def kinds(self) -> list[str]:
        return [news.kind for news in self.news]

    @property
    def versions(self) -> list[int]:
        return [chunk.weights for chunk in self.chunks]


def test_new_weights_drive_after_their_trial_from_a_chunk_on(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, first)
    rig.steps(5)
    rig.want(bundles(ramp=0.02))
    rig.steps(TRIAL + 3)
    assert rig.kinds == ["swap_trial", "swap"]
    assert rig.versions == [7] * (5 + TRIAL) + [8] * 3
    assert [chunk.sequence for chunk in rig.chunks] == list(range(len(rig.chunks)))
    assert rig.news[1].distance.chunks == CHUNKS
    # Ramps of 0.01 and 0.02 a step are 0.01 · k apart at action k of 8.
    assert np.allclose(rig.news[1].distance.largest, 0.08, atol=1e-6)
    assert np.allclose(rig.news[1].distance.rms, 0.01 * np.sqrt(np.mean(np.arange(1, 9) ** 2)), atol=1e-6)
    assert rig.news[1].text.startswith("weights 7 -> 8: 4 chunks apart by 0.050 rad RMS (")


def test_what_explores_is_compared_by_what_it_means_and_goes_on_exploring(
    robot: Robot, first: Bundle, bundles: Bundles
) -> None:
    """The noise is far beyond what a candidate may be apart; it touches neither the trial nor the histories."""
    second, explore = bundles(ramp=0.02), Exploration(1.0, 5)
    quiet, loud = Rig(robot, first), Rig(robot, first, explore=explore)
    for rig in (quiet, loud):
        rig.steps(5)
        rig.want(second)
        rig.steps(TRIAL + 3)
    assert loud.kinds == ["swap_trial", "swap"]
    assert loud.news == quiet.news
    assert loud.versions == quiet.versions
    for mean, drawn in zip(quiet.chunks, loud.chunks, strict=True):
        noise = np.subtract(drawn.targets[: 8 * JOINTS], mean.targets[: 8 * JOINTS]).reshape(8, JOINTS)
        assert np.allclose(noise, explore.noise(drawn.sequence, 8, JOINTS), atol=1e-6)


def test_from_its_first_chunk_on_it_says_what_it_would_say_had_it_always_driven(
    robot: Robot, first: Bundle, bundles: Bundles
) -> None:
    """Else the log would not tell what it saw."""
    second = bundles(ramp=0.02, history=5)
    rig, alone = Rig(robot, first), Rig(robot, second)
    rig.steps(8)
    alone.steps(8)
    rig.want(second)
    rig.steps(14)
    alone.steps(14)
    swapped = [k for k, chunk in enumerate(rig.chunks) if chunk.weights == 8]
    assert swapped[0] == 8 + 5 + CHUNKS
    for k in swapped:
        assert list(rig.chunks[k].targets) == list(alone.chunks[k].targets)


def test_another_history_and_another_chunk_length_are_welcome(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, first)
    rig.steps(2)
    rig.want(bundles(history=1, chunk=12))
    rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_trial", "swap"]
    assert rig.chunks[-1].length == 12


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ({"ramp": float("nan")}, "says NaN, after 0 chunks"),
        ({"ramp": 0.3}, "rad from what drives, at most"),
        ({"ramp": 0.08}, "0.35 rad RMS from what drives over 4 chunks, at most 0.30 rad"),
    ],
)
def test_what_is_too_far_from_what_drives_never_drives(
    robot: Robot, first: Bundle, bundles: Bundles, kinds: dict[str, float], why: str, paused: bool
) -> None:
    rig = Rig(robot, first)
    rig.steps(2)
    rig.want(bundles(**kinds))
    rig.pause(paused)
    rig.steps(TRIAL + 3)
    assert rig.kinds == ["swap_trial", "swap_refused"]
    assert why in rig.news[1].text
    assert rig.news[1].text.endswith("weights 7 go on")
    rig.pause(False)
    rig.steps(2)
    assert set(rig.versions) == {7}
    assert not rig.exchange.busy


def test_a_joint_with_a_small_range_has_a_small_bound(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    narrow = robot.model_copy(
        update={"control": robot.control.model_copy(update={"swap": robot.control.swap.model_copy(
            update={"max_share": 0.04, "rms_rad": 1.0}
        )})}
    )  # fmt: skip
    rig = Rig(narrow, first)
    rig.steps(2)
    rig.want(bundles(ramp=0.0185))  # 0.068 at most; the gripper may differ by 0.04 · 1.57 = 0.063
    rig.steps(TRIAL + 1)
    assert rig.news[-1].text.startswith("weights 8: gripper: 0.07 rad from what drives, at most 0.06 rad")


def _altered(bundle: Bundle) -> Bundle:
    path = bundle.folder / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return bundle


def _rewritten(bundle: Bundle) -> Bundle:
    """Whole in itself, but not what was looked at."""
    write_tiny_bundle(bundle.folder, bundle.manifest.joints, weights=8, ramp=0.5)
    return bundle


def _no_graph(bundle: Bundle) -> Bundle:
    files = dict.fromkeys(bundle.manifest.files, b"garbage")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return write_bundle(bundle.folder, bundle.manifest.model_copy(update={"files": digests}), files)


def _with(bundle: Bundle, change: Callable[[Manifest], Manifest]) -> Bundle:
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
    return write_bundle(bundle.folder, change(bundle.manifest), files)


def _slower(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"action": manifest.action.model_copy(update={"step_s": 0.2})})


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_altered, "altered: the manifest says"),
        (_no_graph, "not a usable ONNX graph"),
        (lambda b: _with(b, lambda m: m.model_copy(update={"joints": m.joints[::-1]})), "do not fit the robot's"),
        (lambda b: _with(b, lambda m: m.model_copy(update={"calibration": "0" * 64})), "trained under calibration"),
        (lambda b: _with(b, _slower), "action.step_s is 0.2, that of the policy that drives 0.1"),
        (lambda b: _with(b, lambda m: m.model_copy(update={"feature_dim": 9})), "tiny"),
    ],
)
def test_what_is_not_whole_or_does_not_fit_never_gets_a_trial(
    robot: Robot, first: Bundle, bundles: Bundles, spoil: Callable[[Bundle], Bundle], why: str
) -> None:
    rig = Rig(robot, first, calibration="1" * 64)
    rig.steps(1)
    rig.want(spoil(bundles()))
    rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_refused"]
    assert why in rig.news[0].text
    assert set(rig.versions) == {7}


def test_a_bundle_that_changed_since_it_was_looked_at_is_refused(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig, bundle = Rig(robot, first), bundles()
    digest = sha256_of(bundle.folder / MANIFEST_FILE)
    _rewritten(bundle)
    rig.exchange.want(Wanted(1, bundle.folder, 8, digest))
    rig.steps(TRIAL + 2)
    assert "altered: it was" in rig.news[0].text
    assert set(rig.versions) == {7}


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ({"space": ActionSpace.JOINT_DELTA}, "action space is joint_delta"),
        ({"cameras": ()}, r"cameras is [], that of"),
        ({"weights": 7, "ramp": 0.02}, "other content under the number that drives"),
        ({"weights": 7}, "drives already"),
    ],
)
def test_what_cannot_take_over_is_refused(
    robot: Robot, first: Bundle, bundles: Bundles, kinds: dict[str, object], why: str
) -> None:
    rig = Rig(robot, first)
    rig.steps(1)
    rig.want(bundles(**kinds))
    rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_refused"]
    assert why in rig.news[0].text
    assert set(rig.versions) == {7}


def test_a_second_candidate_takes_the_place_of_the_first(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, first)
    rig.steps(2)
    rig.want(bundles(8))
    rig.steps(TRIAL - 1)
    rig.want(bundles(9, ramp=0.02))
    rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_trial", "swap_refused", "swap_trial", "swap"]
    assert (rig.news[1].request, rig.news[3].request) == (1, 2)
    assert set(rig.versions) == {7, 9}


def test_back_to_what_drove_before_with_the_next_chunk(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig, alone = Rig(robot, first), Rig(robot, first)
    rig.want(bundles(ramp=0.02))
    rig.steps(10)
    assert rig.versions[-1] == 8
    loads = len(rig.loads)
    rig.want(first, back=True)
    rig.steps(4)
    alone.steps(14)
    assert rig.kinds == ["swap_trial", "swap", "rollback"]
    assert rig.versions[-4:] == [7] * 4
    assert len(rig.loads) == loads, "it stays in memory"
    for mine, theirs in zip(rig.chunks[-4:], alone.chunks[-4:], strict=True):
        assert list(mine.targets) == list(theirs.targets), "as if it had driven all along"


def test_back_to_what_a_dead_process_had_in_memory(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, bundles(ramp=0.3))
    rig.steps(5)
    rig.want(first, back=True)  # far from what drives, which is why one goes back
    rig.steps(2)
    assert rig.kinds == ["rollback"]
    assert rig.versions == [8] * 5 + [7] * 2


def test_back_to_what_is_gone_from_the_disk_is_refused(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig, gone = Rig(robot, first), bundles(3)
    wanted = Wanted(1, gone.folder / "gone", 3, None, back=True)
    rig.exchange.want(wanted)
    rig.steps(2)
    assert rig.kinds == ["swap_refused"]
    assert set(rig.versions) == {7}


def test_between_episodes_it_is_tried_without_leaving_a_trace(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    """The arm stands, nobody follows a chunk; the next episode begins with the new weights."""
    second = bundles(ramp=0.02)
    rig = Rig(robot, first)
    rig.steps(5)
    rig.pause(True)
    rig.want(second)
    rig.steps(CHUNKS + 1, Mode.HOLD)
    assert rig.kinds == ["swap_trial", "swap"]
    rig.pause(False)
    rig.steps(2, Mode.EASE_IN)
    rig.steps(4)
    assert rig.versions == [7] * 5 + [8] * 6
    assert np.isfinite(chunk_of(rig.chunks[-1]).targets).all()


def test_a_trial_goes_on_in_the_next_episode(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    second = bundles(ramp=0.02)
    rig = Rig(robot, first)
    rig.pause(True)
    rig.want(second)
    rig.steps(CHUNKS - 1, Mode.EASE_IN)
    rig.pause(False)
    rig.steps(6)
    assert rig.kinds == ["swap_trial", "swap"]
    assert rig.news[1].distance.chunks == CHUNKS
    assert rig.versions == [7] * 4 + [8] * 2, "its history must be whole"


def test_steps_in_which_what_drives_says_nan_do_not_count(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, first)
    rig.steps(1)
    think = rig.inference.mind.think
    calls = iter(range(100))

    def sick(look: Look, noise: None) -> np.ndarray:
        targets = think(look, noise)
        return np.full_like(targets, np.nan) if next(calls) == 5 else targets

    rig.inference.mind.think = sick  # type: ignore[method-assign]
    rig.want(bundles(ramp=0.02))
    rig.steps(TRIAL)
    assert rig.kinds == ["swap_trial"]
    rig.steps(1)
    assert rig.kinds == ["swap_trial", "swap"]
    assert rig.news[1].distance.chunks == CHUNKS


def test_a_load_that_blows_up_in_some_new_way_is_a_refusal(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig = Rig(robot, first)

    def broken(_load: Load) -> Loading:
        def load() -> Policy:
            raise MemoryError

        loading = Loading(load)
        loading._thread.join()
        return loading

    rig.exchange._start = broken
    rig.want(bundles())
    rig.steps(2)
    assert "cannot be loaded: MemoryError" in rig.news[0].text


def test_a_run_that_is_nice_itself_loads_as_nicely(
    robot: Robot, first: Bundle, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load ended without a word, and took the process with it, as only root may be less nice again."""

    def set_priority(_which: int, _thread: int, nice: int) -> None:
        if nice < 12:
            raise PermissionError

    monkeypatch.setattr(os, "getpriority", lambda _which, _thread: 12)
    monkeypatch.setattr(os, "setpriority", set_priority)
    rig = Rig(robot, first)
    rig.steps(1)
    rig.want(bundles(ramp=0.02))
    rig.steps(TRIAL + 1)
    assert rig.kinds == ["swap_trial", "swap"]


def test_a_candidate_that_thinks_too_long_gets_no_trial(
    robot: Robot, first: Bundle, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It thought between the chunks of the policy that drives, and made every one of them late."""
    rig = Rig(robot, first)
    rig.steps(1)
    for weights, seconds in ((8, [9.0, 0.06, 0.07]), (9, [9.0, 0.04, 9.0])):
        readings = chain.from_iterable((0.0, second) for second in seconds)
        monkeypatch.setattr(time, "thread_time", partial(next, readings))
        rig.want(bundles(weights, ramp=0.02))
        rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_refused", "swap_trial", "swap"]
    why = "thinks for 60 ms, at most 50 ms (0.5 of a policy step): what drives would lose chunks"
    assert rig.news[0].text == f"weights 8: {why}; weights 7 go on"
    assert set(rig.versions) == {7, 9}


def test_what_drove_before_is_gone_back_to_however_slow_it_is(
    robot: Robot, first: Bundle, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(robot, bundles())
    monkeypatch.setattr(time, "thread_time", partial(next, count(0.0, 5.0)))
    rig.want(first, back=True)
    rig.steps(2)
    assert rig.kinds == ["rollback"]


@pytest.mark.parametrize("paused", [False, True])
def test_a_candidate_that_grows_slow_in_its_trial_is_refused_at_the_third_slow_look(
    robot: Robot, first: Bundle, bundles: Bundles, paused: bool
) -> None:
    """One slow look or two may be another program's."""
    rig = Rig(robot, first)
    rig.pause(paused)
    rig.want(bundles(ramp=0.02))
    rig.exchange.turn()
    assert rig.exchange._trial is not None
    seconds = iter([0.01, 0.3, 0.3, 0.01, 0.3, 0.3, 0.07])
    readings = chain.from_iterable((0.0, second) for second in seconds)
    rig.exchange._trial._clock = partial(next, readings)
    rig.exchange._trial._bounds = robot.control.swap.model_copy(update={"chunks": 100})
    rig.steps(6)
    assert rig.kinds == ["swap_trial"]
    rig.steps(2)
    assert rig.kinds == ["swap_trial", "swap_refused"]
    assert "weights 8: thinks for 70 ms, at most 50 ms" in rig.news[1].text
    assert rig.versions == ([] if paused else [7] * 8)


def test_a_graph_that_breaks_on_what_the_arm_sees_is_a_refusal(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    """It ran on the zeros it was warmed up with; in its trial it took the policy that drives down with it."""
    rig = Rig(robot, first)
    rig.want(bundles())
    rig.steps(1)
    assert rig.exchange._trial is not None

    def broken(*_: object) -> None:
        raise RuntimeError("indices element\nout of data bounds")

    rig.exchange._trial.policy.decode = broken  # type: ignore[method-assign,assignment]
    rig.steps(2)
    assert rig.kinds == ["swap_trial", "swap_refused"]
    assert "does not run: RuntimeError: indices element out of data bounds" in rig.news[1].text
    assert rig.versions == [7] * 3


def test_what_runs_is_what_was_hashed(bundles: Bundles) -> None:
    """Files were hashed, and then opened once more by their names."""
    bundle = bundles()
    whole = bundle.decoder.read_bytes()
    bundle.decoder.write_bytes(whole + b" ")
    with pytest.raises(SpecError, match=r"decoder\.onnx.*altered: the manifest says"):
        Policy(bundle)
    bundle.decoder.unlink()
    with pytest.raises(SpecError, match="cannot be read"):
        Policy(bundle)


def test_weights_outside_of_what_was_hashed_never_run(bundles: Bundles) -> None:
    bundle = bundles()
    model = onnx.load(bundle.encoder)
    onnx.save(model, bundle.encoder, save_as_external_data=True, location="beside.bin", size_threshold=0)
    assert (bundle.folder / "beside.bin").exists()
    content = bundle.encoder.read_bytes()
    files = {**bundle.manifest.files, bundle.manifest.encoder: hashlib.sha256(content).hexdigest()}
    with pytest.raises(SpecError, match="not a usable ONNX graph"):
        Policy(replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files})))


@pytest.mark.parametrize("when", ["loading", "shadow"])
def test_what_is_not_wanted_any_more_is_forgotten(robot: Robot, first: Bundle, bundles: Bundles, when: str) -> None:
    rig = Rig(robot, first)
    rig.want(bundles(ramp=0.02))
    rig.steps(2 if when == "shadow" else 0)
    rig.exchange.forget(2)
    assert rig.exchange.busy
    rig.exchange.forget(1)
    rig.exchange.forget(1)
    rig.steps(TRIAL + 2)
    assert rig.kinds == ["swap_trial", "swap_refused"][when == "loading" :]
    assert set(rig.versions) == {7}


def test_chunks_are_made_while_another_policy_is_loaded(robot: Robot, first: Bundle, bundles: Bundles) -> None:
    rig, gate = Rig(robot, first), threading.Event()

    def slowly(load: Load) -> Loading:
        return Loading(lambda: (gate.wait(30), load())[1])

    rig.exchange._start = slowly
    rig.want(bundles(ramp=0.02))
    rig.steps(6)
    assert (rig.kinds, rig.versions) == ([], [7] * 6)
    gate.set()
    assert rig.exchange._loading is not None
    rig.exchange._loading._thread.join()
    rig.steps(TRIAL + 1)
    assert rig.kinds == ["swap_trial", "swap"]


def test_a_mind_shares_its_policy_but_not_its_memories(robot: Robot, first: Bundle) -> None:
    policy, stream = Policy(first), Stream()
    inference = Inference(robot, policy)
    other = Mind(policy)
    for _ in range(3):
        for _ in range(20):
            tick = stream.tick()
            inference.see_ticks([tick])
        inference.see_frame("top", *stream.frame(tick.now_ns))
        inference.step(tick.now_ns + MS)
    assert inference.newest is not None
    alone = other.think(inference.newest[0])
    assert np.allclose(alone, inference.newest[1] - 0.002, atol=1e-6)  # two frames of three are missing
    assert alone.shape == (8, JOINTS)
