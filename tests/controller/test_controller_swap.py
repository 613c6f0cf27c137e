"""From one policy to another while the arm moves: the tick's side of it, in lock-step with a perfect servo."""

from __future__ import annotations

import numpy as np
import pytest
from controller_plant import STEP_NS, sine
from duo import Duo, machine
from hypothesis import given
from hypothesis import strategies as st

from controller.curve import Motion
from controller.schedule import SWAP_STEPS, Schedule, taken, target
from episodes.records import Flag, Mode, Order
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.robot import ChunkMode, Control
from spec.teleop import Button

MODES = list(ChunkMode)
PERIOD_NS = 5_000_000
APART = 0.15


def _bend(duo: Duo, since: int) -> float:
    """Largest acceleration of the commands since a tick, as differences [rad/s²]."""
    moved = duo.positions[since - 2 :]
    return float(np.abs(np.diff(moved, n=2, axis=0)).max() / (PERIOD_NS * 1e-9) ** 2)


def _boundary(mode: ChunkMode, weights: int) -> tuple[Duo, int]:
    """A policy that wants one place and from some chunk on another; with ``weights`` as the new version."""
    duo = Duo(machine(mode=mode))
    duo.curve = lambda _t: 0.3
    duo.driving()
    duo.ticks(100)
    assert duo.commands[-1].weights == 7
    since = len(duo.commands)
    duo.curve, duo.weights = (lambda _t: 0.3 + APART), weights
    duo.ticks(300)
    return duo, since


@pytest.mark.parametrize("mode", MODES)
def test_a_swap_bends_the_motion_less_than_an_ordinary_boundary_of_the_same_size(mode: ChunkMode) -> None:
    ordinary, since = _boundary(mode, 7)
    swapped, _ = _boundary(mode, 8)
    assert 0.5 < _bend(swapped, since) < _bend(ordinary, since)
    assert not (swapped.flags[since:] & Flag.LIMITED).any()
    assert np.allclose(swapped.positions[-1], 0.3 + APART, atol=1e-6)
    fast = np.abs(np.diff(swapped.positions[since:], axis=0)).max() / (PERIOD_NS * 1e-9)
    assert fast < 2.0 * APART / (SWAP_STEPS * STEP_NS * 1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_every_tick_names_the_version_it_follows(mode: ChunkMode) -> None:
    duo, since = _boundary(mode, 8)
    numbers = [command.weights for command in duo.commands[since:]]
    first = numbers.index(8)
    assert set(numbers[:first]) <= {7}
    assert set(numbers[first:]) == {8}
    # open_loop lets the chunk in use finish its turn: the version that waits is not the one that drives.
    assert first <= (80 if mode is ChunkMode.OPEN_LOOP else 20)
    assert np.allclose(duo.positions[since : since + first], 0.3, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_back_at_once(mode: ChunkMode) -> None:
    """A rollback in the middle of a swap: no faster than a swap either, and nothing is left of the other."""
    duo = Duo(machine(mode=mode))
    duo.curve = lambda _t: 0.3
    duo.driving()
    since = len(duo.commands)
    duo.curve, duo.weights = (lambda _t: 0.3 + APART), 8
    duo.ticks(100)
    duo.curve, duo.weights = (lambda _t: 0.3), 7
    duo.ticks(20 * SWAP_STEPS + 100)
    ordinary, since_then = _boundary(mode, 7)
    assert _bend(duo, since) < 2.0 * _bend(ordinary, since_then)
    assert duo.commands[-1].weights == 7
    assert np.allclose(duo.positions[-1], 0.3, atol=1e-6)


def _lent(weights: int) -> Duo:
    duo = Duo()
    duo.hand = lambda t: 0.05 * np.sin(2.0 * t)
    duo.taken()
    duo.curve = sine(0.3)
    duo.ticks(60)
    duo.weights = weights
    duo.ticks(200)
    return duo


def test_a_person_who_drives_does_not_notice() -> None:
    same, other = _lent(7), _lent(8)
    assert other.commands[-1].mode is Mode.HUMAN
    assert [command.position for command in same.commands] == [command.position for command in other.commands]
    assert (other.commands[-1].weights, other.commands[-201].weights) == (8, 7)
    other.tick(press=Button.RELEASE)
    other.until(Mode.POLICY, 200)
    assert other.commands[-1].weights == 8


def test_an_arm_that_is_held_follows_no_version() -> None:
    duo = Duo().driving()
    duo.policy = False
    duo.until(Mode.HOLD, 400)
    assert (duo.tick().chunk, duo.tick().weights) == (-1, 0)
    duo.policy, duo.weights = True, 8
    duo.tick(Order.START)
    duo.until(Mode.POLICY, 400)
    assert duo.commands[-1].weights == 8


@pytest.mark.parametrize("mode", MODES)
@given(
    seed=st.integers(0, 2**31),
    versions=st.lists(st.integers(0, 2), min_size=3, max_size=8),
    steps=st.integers(1, 6),
)
def test_no_version_is_averaged_with_another_and_nothing_jumps(
    mode: ChunkMode, seed: int, versions: list[int], steps: int
) -> None:
    rng = np.random.default_rng(seed)
    control = Control(mode=mode, open_loop_steps=steps)
    schedule, last = Schedule(), Motion((0.0, 0.0), (0.0, 0.0))
    for tick in range(20 * len(versions)):
        now = tick * PERIOD_NS
        if tick % 20 == 0:
            number = tick // 20
            made = Chunk(number, now, STEP_NS, frozen(rng.uniform(-0.5, 0.5, (6, 2))), versions[number])
            schedule = taken(schedule, made, now)
        schedule, motion = target(schedule, control, now, last)
        assert motion is not None
        assert schedule.mix is not None
        assert len({track.weights for track in schedule.mix.tracks}) == 1
        expected = last.after(PERIOD_NS * 1e-9)
        # The curve between two actions d <= 1 rad apart and the fade of as much both have at most 6 d / T² over a step
        # T of 0.1 s; a jump would be many times what that moves in 5 ms off going straight on.
        assert _apart(motion.position, expected.position) < 0.5 * (600.0 + 600.0) * (PERIOD_NS * 1e-9) ** 2
        last = motion


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _settled(versions: list[int], mode: ChunkMode) -> Float:
    """Where the target is once a constant 0.5 of the last version has been said for long enough."""
    control, schedule = Control(mode=mode), Schedule()
    motion: Motion | None = Motion((0.0, 0.0), (0.0, 0.0))
    for tick in range(20 * len(versions) + 20 * SWAP_STEPS):
        now = tick * PERIOD_NS
        if tick % 20 == 0:
            number = min(tick // 20, len(versions) - 1)
            said = np.full((10, 2), 0.5 if versions[number] == versions[-1] else -0.5)
            schedule = taken(schedule, Chunk(tick, now, STEP_NS, frozen(said), versions[number]), now)
        schedule, motion = target(schedule, control, now, Motion((0.0, 0.0), (0.0, 0.0)))
    assert motion is not None
    return np.array(motion.position)


@pytest.mark.parametrize("mode", [ChunkMode.ENSEMBLE, ChunkMode.LATEST, ChunkMode.FIRST])
def test_after_the_fade_only_the_new_one_is_heard(mode: ChunkMode) -> None:
    assert np.allclose(_settled([1, 1, 1, 2], mode), 0.5, atol=1e-9)
