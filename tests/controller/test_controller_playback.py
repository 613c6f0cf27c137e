"""A recorded motion as chunks: led in, paused, interrupted, taken over, and played to its end all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from controller_plant import robot
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_life import machine

from controller.decide import Decide
from controller.lockstep import Lockstep
from controller.state import Command
from controller.workers.playback import (
    LENGTH,
    RAMP_NS,
    STEP_S,
    Motion,
    Pace,
    Playback,
    read_motion,
    write_motion,
)
from episodes.records import Driver, Mode, Order
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.errors import SpecError
from spec.robot import ChunkMode, Robot
from spec.teleop import TeleopSample

RATE_HZ = 200
EVERY = round(STEP_S * RATE_HZ)
SECONDS = np.arange(0.0, 3.0, 0.005)


def motion(speed: float = 1.0) -> Motion:
    """Begins and ends at a standstill, away from home; up to 1.2 rad/s and 4 rad/s² between."""
    u = SECONDS / SECONDS[-1]
    bump = np.sin(np.pi * u) ** 2
    return Motion(SECONDS, frozen(np.stack([0.5 - 1.1 * bump, -0.2 + 0.8 * bump], axis=1)), speed)


@dataclass
class Played:
    """An arm in virtual time that is fed a playback's chunks, a tick at a time."""

    robot: Robot
    playback: Playback
    arm: Lockstep = field(init=False)
    commands: list[Command] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    paces: list[Pace] = field(default_factory=list)
    sequence: int = 0

    def __post_init__(self) -> None:
        def follow(target: Float | None) -> tuple[Float, Float]:
            return (self.arm.position if target is None else target), np.zeros(2)

        self.arm = Lockstep(Decide.of(self.robot), RATE_HZ, follow, np.array([0.1, 0.3]))

    def tick(self, order: Order | None = None, human: TeleopSample | None = None, feed: bool = True) -> Command:
        chunk, now = None, self.arm.now_ns
        if feed and self.commands and len(self.commands) % EVERY == 0 and self.commands[-1].position is not None:
            last = self.commands[-1]
            assert last.position is not None
            observed = self.times[-1]
            targets = self.playback.step(observed, last.driver, np.array(last.position))
            assert targets.shape == (LENGTH, 2)
            chunk = Chunk(self.sequence, observed, round(STEP_S * 1e9), frozen(targets))
            self.sequence += 1
            self.paces += self.playback.paces
            self.playback.paces.clear()
        self.commands.append(self.arm.step(chunk, order, human=human))
        self.times.append(now)
        return self.commands[-1]

    def run(self, ticks: int, order: Order | None = None, **more: Callable[[int], TeleopSample | None]) -> None:
        human = more.get("human", lambda _now: None)
        for number in range(ticks):
            self.tick(order if number == 0 else None, human(self.arm.now_ns))

    def until_finished(self, ticks: int = 6000) -> None:
        while not self.playback.finished:
            self.tick()
            assert len(self.commands) < ticks, "never finished"

    def seconds(self) -> Float:
        """Time of the recording at every tick."""
        now, out = np.array(self.times), np.zeros(len(self.times))
        for pace in self.paces:
            out[now >= pace.at_ns] = pace.seconds(now[now >= pace.at_ns])
        return out

    def moved(self) -> Float:
        return np.array([c.position for c in self.commands if c.position is not None])


def playing(speed: float = 1.0, machine: Robot | None = None) -> Played:
    base = machine or robot()
    control = base.control.model_copy(update={"mode": ChunkMode.LATEST})
    base = base.model_copy(update={"control": control})
    return Played(base, Playback(motion(speed), base.limits()))


def within_limits(played: Played) -> None:
    moved, limits = played.moved(), played.robot.limits()
    rates = np.diff(moved, axis=0) * RATE_HZ
    assert (np.abs(rates) <= limits.velocity * (1 + 1e-6)).all()
    assert (np.abs(np.diff(rates, axis=0)) * RATE_HZ <= limits.acceleration * (1 + 1e-3)).all()


@pytest.mark.parametrize("speed", [0.3, 1.0, 1.5])
def test_it_leads_in_and_follows_to_a_fraction_of_an_encoder_tick(speed: float) -> None:
    played = playing(speed)
    played.run(1, Order.START)
    played.until_finished()
    within_limits(played)
    seconds = played.seconds()
    following = np.flatnonzero((seconds > 0.0) & (seconds < SECONDS[-1]))
    sent = np.array([played.commands[k].position for k in following])
    wanted = motion().at(seconds[following])
    assert np.abs(sent - wanted).max() < 2 * np.pi / 4096
    took = (following[-1] - following[0]) / RATE_HZ
    assert took == pytest.approx(SECONDS[-1] / speed + 0.5 * RAMP_NS * 1e-9, abs=0.05)


def test_a_pause_is_a_standstill_and_not_a_jerk() -> None:
    played = playing()
    played.run(1, Order.START)
    while played.seconds()[-1] < 1.0 if played.commands else True:
        played.tick()
    played.playback.standing = True
    played.run(300)
    stood = played.moved()[-100:]
    assert np.abs(np.diff(stood, axis=0)).max() < 1e-9
    assert played.commands[-1].mode is Mode.POLICY  # it stands because it is told to, not for want of chunks
    played.playback.standing = False
    played.until_finished()
    within_limits(played)
    assert np.abs(played.moved()[-1] - motion().position[-1]).max() < 1e-6


def test_after_a_hold_it_is_led_in_again_and_goes_on_where_it_was() -> None:
    played = playing()
    played.run(1, Order.START)
    while played.seconds()[-1] < 1.0:
        played.tick()
    at = played.seconds()[-1] + LENGTH * STEP_S  # as far as the last chunk reaches
    for _ in range(800):  # its chunks do not come for longer than there is motion left: the arm brakes and holds
        played.tick(feed=False)
    assert played.commands[-1].mode is Mode.HOLD
    played.until_finished()
    within_limits(played)
    interrupted = [pace for pace in played.paces if not pace.over_ns]
    assert len(interrupted) == 1
    assert interrupted[0].at_s == pytest.approx(at, abs=2 * STEP_S)
    assert np.abs(played.moved()[-1] - motion().position[-1]).max() < 1e-6


def test_a_person_takes_it_over_and_gives_it_back() -> None:
    played = playing(machine=machine())
    number = 0

    def hand(now_ns: int) -> TeleopSample:
        nonlocal number
        number += 1
        place = tuple((played.moved()[-1] + 0.002).tolist()) if number > 1 else tuple(played.arm.position.tolist())
        return TeleopSample(number, now_ns - 1_000_000, place, (0.4, 0.4), (0.0, 0.0), (np.nan, np.nan))

    played.run(1, Order.START)
    while played.seconds()[-1] < 1.0:
        played.tick()
    played.run(1, human=hand)
    played.run(120, Order.TAKE_OVER, human=hand)
    assert played.commands[-1].driver is Driver.HUMAN
    taken = played.moved()[-1]
    played.run(1, Order.RELEASE, human=hand)
    played.until_finished()
    within_limits(played)
    assert np.abs(taken - motion().at(np.array([1.2]))[0]).max() > 0.05  # it was led elsewhere
    assert np.abs(played.moved()[-1] - motion().position[-1]).max() < 1e-6


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 2.0), st.booleans()), min_size=1, max_size=8),
)
def test_the_time_of_a_recording_never_runs_back_nor_jumps(changes: list[tuple[float, float, bool]]) -> None:
    pace, now = Pace(0, 0.0, 0.0, 0.0, 0), 0
    for seconds, to, at_once in changes:
        times = now + np.linspace(0, seconds * 1e9, 400).astype(np.int64)
        run = pace.seconds(times)
        assert (np.diff(run) >= -1e-12).all()
        assert (np.diff(run) <= 2.0 * np.diff(times) * 1e-9 + 1e-9).all()
        now = int(times[-1])
        after = Pace(now, float(run[-1]), pace.rate_at(now), to, 0 if at_once else RAMP_NS)
        assert float(after.seconds(np.array([now]))[0]) == float(run[-1])
        if not at_once:  # the rate goes on from where it was
            soon = after.seconds(np.array([now, now + 1_000_000]))
            assert (soon[1] - soon[0]) * 1e3 == pytest.approx(pace.rate_at(now), abs=1e-3)
        pace = after


def test_a_motion_travels_through_a_file(tmp_path: Path) -> None:
    path = write_motion(motion(0.5), tmp_path / "a" / "motion.npz")
    back = read_motion(path)
    assert back.speed == 0.5
    assert np.array_equal(back.seconds, SECONDS)
    assert np.array_equal(back.position, motion().position)
    for content in (b"", b"no motion", path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(SpecError, match="holds no motion") as caught:
            read_motion(path)
        assert "\n" not in str(caught.value)
