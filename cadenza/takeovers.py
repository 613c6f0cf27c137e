"""Judging takeovers by what is on record: how soon, within which limits, how smoothly, and back with what.

Nothing is taken from what was intended. An input is what the ticks show of it: the order, the button that went down,
the sample whose residual is above its threshold. The hand at the leader arm is on record as events, so that a trip with
nobody there is known for what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.reader import Episode
from episodes.records import Driver, Flag, Mode, Order
from spec.arrays import Bool, Float, Int
from spec.errors import CadenzaError
from spec.robot import Robot
from spec.teleop import Button

HAND = "hand"
"""Kind of the events that say whether a hand is at the leader arm: ON or OFF."""
ON, OFF = "on", "off"
REARM_NS = 500_000_000
"""Force counts after the leader was left alone for so long [ns]."""
_TOLERANCE = {"velocity": 1.001, "acceleration": 1.001, "jerk": 1.01}
"""Rounding of finite differences; each difference costs some figures."""
_EPSILON_RAD = 1e-9


class Means(StrEnum):
    """How a person asks for the arm."""

    FORCE = "force"
    ORDER = "order"
    BUTTON = "button"


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """What counts of one episode."""

    name: str
    robot: Robot
    ticks: npt.NDArray[Any]
    """As in :class:`episodes.reader.Episode`."""
    observed_ns: Mapping[int, int]
    """Instant of the observation of each chunk, by its sequence."""
    hand: tuple[tuple[int, bool], ...]
    """When a hand came to the leader arm, and when it left [ns]."""

    @property
    def joints(self) -> int:
        return len(self.robot.follower.joints)

    def flagged(self, flag: Flag) -> Bool:
        return np.asarray((self.ticks["flags"] & int(flag)) != 0)

    def hand_at(self, now_ns: int) -> bool:
        """Whether somebody was at the leader arm."""
        return next((there for when, there in reversed(self.hand) if when <= now_ns), False)


def log_of(episode: Episode) -> Log:
    """Raises CadenzaError for a file without robot, or without ticks."""
    if not len(episode.ticks):
        raise CadenzaError(f"{episode.path}: holds no ticks")
    hand = [(event.time_ns, event.text == ON) for event in episode.events if event.kind == HAND]
    return Log(
        episode.path.name,
        episode.robot(),
        episode.ticks,
        {chunk.sequence: chunk.observed_ns for chunk in episode.chunks},
        tuple(sorted(hand)),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A person asked for the arm while the policy drove."""

    log: int
    tick: int
    """Index of the tick that first shows it."""
    means: Means
    reaction: int | None
    """Ticks until a person drove: 0 in the same one; None: never."""
    refused: bool
    hand: bool
    """Somebody was at the leader arm."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A person gave the arm back."""

    log: int
    tick: int
    to_blend_s: float | None
    """Until the policy was followed again; None: not before the end, or the next takeover."""
    to_policy_s: float | None
    """Until it drove alone."""
    stale_chunks: int
    """Chunks taken after the release whose observation is from before it, and ticks that followed none taken since."""


def asked_for(log: Log, number: int = 0) -> list[Asked]:
    """Every input that asks for the arm while the policy drives, with what came of it."""
    ticks = log.ticks
    driver = ticks["driver"]
    by_human = np.flatnonzero(driver == Driver.HUMAN)
    refused = log.flagged(Flag.TAKEOVER_REFUSED)
    found = []
    for means, shown in ((Means.ORDER, _ordered(log)), (Means.BUTTON, _pressed(log)), (Means.FORCE, _pulled(log))):
        for tick in np.flatnonzero(shown).tolist():
            if tick == 0 or driver[tick - 1] != Driver.POLICY:
                continue
            after = by_human[by_human >= tick]
            reaction = int(after[0] - tick) if len(after) else None
            there = log.hand_at(int(ticks["now_ns"][tick]))
            found.append(Asked(number, tick, means, reaction, bool(refused[tick]), there))
    return sorted(found, key=lambda asked: asked.tick)


def _ordered(log: Log) -> Bool:
    return np.asarray(log.flagged(Flag.ORDERED) & (log.ticks["order"] == Order.TAKE_OVER))


def _pressed(log: Log) -> Bool:
    """Ticks whose sample shows TAKE or TOGGLE going down."""
    news = np.flatnonzero(log.flagged(Flag.NEW_TELEOP))
    buttons = log.ticks["buttons"][news]
    down = buttons[1:] & ~buttons[:-1] & int(Button.TAKE | Button.TOGGLE)
    shown = np.zeros(len(log.ticks), dtype=np.bool_)
    shown[news[1:][down != 0]] = True
    return shown


def _pulled(log: Log) -> Bool:
    """Ticks whose sample shows a residual above its threshold, after half a second of mirroring below all of them."""
    teleop, shown = log.robot.teleop, np.zeros(len(log.ticks), dtype=np.bool_)
    if teleop is None or not teleop.force or teleop.takeover is None:
        return shown
    rules, names, ticks = teleop.takeover, log.robot.follower.names, log.ticks
    far = np.array([rules.position[name] for name in names])
    strong = np.array([rules.current[name] for name in names])
    columns = ("human_goal", "human", "human_velocity", "human_effort")
    goal, position, velocity, current = (ticks[column][:, : log.joints] for column in columns)
    with np.errstate(invalid="ignore"):
        residual = np.abs(goal - position - rules.lag_s * velocity)
        above = ((residual > far) | (np.abs(current) > strong)).any(axis=1)
    mirroring = np.isfinite(goal).all(axis=1)
    quiet_ns, heard_ns = -1, -1
    for tick in np.flatnonzero(log.flagged(Flag.NEW_TELEOP)).tolist():
        read_ns = int(ticks["teleop_ns"][tick])
        if read_ns <= heard_ns:
            continue
        if not mirroring[tick] or read_ns - heard_ns > teleop.stale_ms * 1e6:
            quiet_ns = -1
        if mirroring[tick] and above[tick]:
            shown[tick] = 0 <= quiet_ns <= read_ns - REARM_NS
            quiet_ns = -1
        elif mirroring[tick] and quiet_ns < 0:
            quiet_ns = read_ns
        heard_ns = read_ns
    return shown


def given_back(log: Log, number: int = 0) -> list[Returned]:
    """Every release, with what the policy drove on with."""
    ticks = log.ticks
    taken = np.flatnonzero(log.flagged(Flag.TAKEN_OVER))
    found = []
    for tick in np.flatnonzero(log.flagged(Flag.RELEASED)).tolist():
        end = int(taken[taken > tick][0]) if (taken > tick).any() else len(ticks)
        since = slice(tick, end)
        driver, mode = ticks["driver"][since], ticks["mode"][since]
        followed = np.flatnonzero(driver == Driver.POLICY)
        alone = np.flatnonzero((driver == Driver.POLICY) & (mode == Mode.POLICY))
        seconds = (ticks["now_ns"][since] - ticks["now_ns"][tick]) * 1e-9
        found.append(
            Returned(
                number,
                tick,
                float(seconds[followed[0]]) if len(followed) else None,
                float(seconds[alone[0]]) if len(alone) else None,
                _stale(log, tick, end),
            )
        )
    return found


def _stale(log: Log, release: int, end: int) -> int:
    """See :attr:`Returned.stale_chunks`."""
    ticks, released_ns = log.ticks, int(log.ticks["now_ns"][release])
    news = log.flagged(Flag.NEW_CHUNK)
    stale, fresh = 0, False
    for tick in range(release + 1, end):
        if news[tick]:
            observed_ns = log.observed_ns.get(int(ticks["arrived"][tick]))
            if observed_ns is None or observed_ns < released_ns:
                stale += 1
            else:
                fresh = True
        if ticks["driver"][tick] == Driver.POLICY and not fresh:
            stale += 1
    return stale


@dataclass(frozen=True, slots=True, eq=False)
class Violations:
    """Where a command left the robot's limits."""

    ticks: int
    """Ticks with any."""
    worst: Mapping[str, float]
    """Largest share of each limit that was used; for position how far outside [rad]."""
    first: str
    """Episode, tick and joint of the first one; empty where there is none."""


def violations(log: Log) -> Violations:
    """Hold position and its finite differences against the limits of the robot file."""
    limits, period = log.robot.limits(), 1.0 / log.robot.control.rate_hz
    bounds = {
        "velocity": limits.velocity * period,
        "acceleration": limits.acceleration * period**2,
        "jerk": limits.jerk * period**3,
    }
    bad = np.zeros((len(log.ticks), log.joints), dtype=np.bool_)
    worst = dict.fromkeys(("position", *bounds), 0.0)
    for rows in motions(log):
        motion = log.ticks["limited"][rows, : log.joints]
        # A motion that begins outside, where somebody had put the arm, may only come back in.
        outside = np.maximum(np.minimum(limits.lower, motion[0]) - motion, motion - np.maximum(limits.upper, motion[0]))
        worst["position"] = max(worst["position"], float(outside.max()))
        bad[rows] |= outside > _EPSILON_RAD
        for order, (name, bound) in enumerate(bounds.items(), start=1):
            if len(rows) > order:
                used = np.abs(np.diff(motion, order, axis=0)) / bound
                worst[name] = max(worst[name], float(used.max()))
                bad[rows[order:]] |= used > _TOLERANCE[name]
    where = np.argwhere(bad)
    first = ""
    if len(where):
        tick, joint = where[0].tolist()
        first = f"{log.name}, tick {log.ticks['tick'][tick]}, {log.robot.follower.names[joint]}"
    return Violations(int(bad.any(axis=1).sum()), worst, first)


def motions(log: Log) -> list[Int]:
    """Indices of ticks between which the command is one motion: what never left is none, and where the servos were
    made to hold anew it began anew."""
    unsent = np.append(log.flagged(Flag.UNSENT)[1:], False)
    finite = np.isfinite(log.ticks["limited"][:, : log.joints]).all(axis=1)
    given = np.flatnonzero(finite & ~log.flagged(Flag.WRITE_FAILED) & ~unsent)
    if not len(given):
        return []
    engaged = np.flatnonzero(log.flagged(Flag.ENGAGED))
    heard = np.flatnonzero(~log.flagged(Flag.STALE_JOINT))
    begins = [heard[heard >= tick][0] for tick in engaged.tolist() if (heard >= tick).any()]
    return [rows for rows in np.split(given, np.unique(np.searchsorted(given, begins))) if len(rows)]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Command steps and changes of acceleration, in shares of what velocity and jerk limit allow; flat, all joints."""

    switch: Float
    """While the arm changed hands, to the person or back."""
    policy: Float
    """While the policy drove and nothing changed."""
    switch_jerk: Float
    policy_jerk: Float


def steps(log: Log) -> Steps:
    """Of one episode, shapes (steps, joints): from each tick to the next."""
    limits, period = log.robot.limits(), 1.0 / log.robot.control.rate_hz
    window, plain = switching(log), _plain(log)
    found: list[list[Float]] = [[], [], [], []]
    for rows in motions(log):
        whole = np.diff(rows) == 1
        for order, bound, place in ((1, limits.velocity * period, 0), (3, limits.jerk * period**3, 2)):
            if len(rows) <= order:
                continue
            motion = log.ticks["limited"][rows, : log.joints]
            used = np.abs(np.diff(motion, order, axis=0)) / bound
            ends = rows[order:]
            if order == 1:
                used, ends = used[whole], ends[whole]
            found[place].append(used[window[ends]])
            found[place + 1].append(used[plain[ends] & ~window[ends]])
    empty = np.empty((0, log.joints))
    switch, policy, switch_jerk, policy_jerk = (np.concatenate([empty, *parts]) for parts in found)
    return Steps(switch, policy, switch_jerk, policy_jerk)


def switching(log: Log) -> Bool:
    """Ticks in which the arm changes hands: from the takeover to the end of the blend, and from the release until the
    policy drives alone."""
    mode, driver = log.ticks["mode"], log.ticks["driver"]
    window = np.zeros(len(mode), dtype=np.bool_)
    for flag, settled in (
        (Flag.TAKEN_OVER, mode == Mode.HUMAN),
        (Flag.RELEASED, (mode == Mode.POLICY) & (driver == Driver.POLICY)),
    ):
        for tick in np.flatnonzero(log.flagged(flag)).tolist():
            after = np.flatnonzero(settled[tick:])
            window[tick : tick + int(after[0]) + 1 if len(after) else len(mode)] = True
    return window


def _plain(log: Log) -> Bool:
    """Ticks in which the policy drives, as it did in the one before."""
    drives = (log.ticks["mode"] == Mode.POLICY) & (log.ticks["driver"] == Driver.POLICY)
    return np.asarray(drives & np.append(False, drives[:-1]))
