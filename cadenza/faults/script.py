"""Everybody around the loop of a lock-step case: the policy, a person at the leader arm, and the operator."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from cadenza.faults.afflicted import swapped_in_s
from cadenza.faults.cases import Case, Trouble, random_of
from cadenza.faults.kinds import CHUNK, LATENCY_S, STEP_S
from controller.clock import Clock
from controller.state import State
from episodes.records import Mode, Order, TickRecord
from spec.arrays import Float, frozen
from spec.chunk import Chunk
from spec.robot import Robot
from spec.teleop import TeleopSample

START_S = 0.05
"""When the operator starts the arm [s]."""
CALM_S = 0.4
"""After the last fault the operator looks for so long before they say anything [s]."""
AGAIN_S = 0.5
"""The policy has to drive for so long at the end [s]."""
GIVES_UP_S = 14.0
"""So long after the last fault the operator ends a run in which the policy does not drive again [s]."""
BY_HAND = "move it inside by hand"
"""What the driver says of a joint that hangs outside its limits: without power every joint sags, some of them there."""
BY_SWITCH = "switch its power off and on"
"""And of a servo that has an error and holds all the same: an XL430 after too little voltage."""
_BOOT_S = 0.5
"""A servo that came to power is there after a quarter of a second [s]."""
_WORD_S = 1.5
"""From one word of the operator to the next, where the first changed nothing [s]."""
_SAMPLE_S = 0.02
_STEP_NS, _LATENCY_NS = round(STEP_S * 1e9), round(LATENCY_S * 1e9)


class Hand(Protocol):
    """The operator's, at the arm."""

    def lift(self, asked: bool) -> None:
        """It may lift what nothing holds, and carry it until the servos do; told whether the loop asked for it."""
        ...

    def switch(self) -> None:
        """Switch the servos' power off and on, and support the arm until they hold."""
        ...


class Script:
    """Implements :class:`controller.loop.Inbox` on a virtual clock.

    Args:
        case: what goes wrong, and when.
        robot: whose arm it is.
        clock: virtual; the run begins now.
        state: of the loop, at any time.
        hand: the operator's.
    """

    def __init__(self, case: Case, robot: Robot, clock: Clock, state: Callable[[], State], hand: Hand) -> None:
        self._case, self._clock, self._state, self._hand = case, clock, state, hand
        self._by_hand = self._by_switch = False
        self._began_ns = clock.now_ns()
        self._period_s = robot.control.period_ns * 1e-9
        self._policy = Policy(case, robot, self._began_ns)
        self._person = Person(case, self._began_ns)
        self._orders = deque(sorted(_orders(case), key=lambda one: one[0]))
        self._calm_s = case.ends_s + CALM_S
        if case.person is not None:
            self._calm_s = max(self._calm_s, case.person[1] + CALM_S)
        self._mode, self._driven_s, self._spoke_s = Mode.IDLE, 0.0, -math.inf
        self.word_s: float | None = None
        """When the operator first said a word after the last fault [s]; None: none was needed."""
        self.again_s: float | None = None
        """When the policy drove again, or was found to drive still [s]; None: it did not."""
        self.switched_s: list[float] = []
        """When the operator switched the servos' power off and on [s]."""
        self.ended = False

    @property
    def now_s(self) -> float:
        """Since the run began [s]."""
        return (self._clock.now_ns() - self._began_ns) * 1e-9

    @property
    def calm_s(self) -> float:
        """From then on all is well, and the operator sees to it that the policy drives [s]."""
        return self._calm_s

    @property
    def delivered(self) -> list[tuple[float, str]]:
        """Instant of every chunk that came [s], and which kind of fault spoilt it; "" where none did."""
        return self._policy.delivered

    def heard(self, record: TickRecord) -> None:
        """Take in what the loop did in a tick."""
        self._mode = Mode(record.mode)
        self._driven_s = self._driven_s + self._period_s if self._mode is Mode.POLICY else 0.0
        self._person.sees(record)

    def told(self, line: str) -> None:
        """Read what the loop says: it may want something done by hand."""
        self._by_hand |= BY_HAND in line
        self._by_switch |= BY_SWITCH in line

    def chunk(self) -> Chunk | None:
        return self._policy.chunk(self._clock.now_ns())

    def human(self) -> TeleopSample | None:
        return self._person.sample(self._clock.now_ns())

    def order(self) -> Order | None:
        now_s = self.now_s
        if self._orders and self._orders[0][0] <= now_s:
            return self._orders.popleft()[1]
        return None if now_s < self._calm_s or self.ended else self._word(now_s)

    def _word(self, now_s: float) -> Order | None:
        """The operator's, after the last fault: clear what is latched, start what rests, stop when all is well."""
        if self._mode is Mode.POLICY and self.again_s is None:
            self.again_s = now_s
        if self._driven_s >= AGAIN_S or now_s > self._calm_s + GIVES_UP_S:
            self.ended = True
            return Order.STOP
        if now_s < self._spoke_s + _WORD_S:
            return None
        order = None
        if self._mode is Mode.FAULT and self._by_switch:
            self._hand.switch()
            self.switched_s.append(now_s)
            self._spoke_s, self._by_switch = now_s - (_WORD_S - _BOOT_S), False
        elif self._mode is Mode.FAULT:
            self._hand.lift(self._by_hand)
            order, self._by_hand = Order.CLEAR_FAULT, False
        elif self._mode is Mode.IDLE or (self._mode is Mode.HOLD and self._state().authority.resting):
            order = Order.START
        elif self._mode is Mode.HUMAN:
            order = Order.RELEASE
        if order is not None:
            # A fault is cleared and the arm started in one breath.
            self._spoke_s = now_s - (_WORD_S - 0.3 if order is Order.CLEAR_FAULT else 0.0)
            self.word_s = now_s if self.word_s is None else self.word_s
        return order


def _orders(case: Case) -> Iterable[tuple[float, Order]]:
    yield START_S, Order.START
    if case.person is not None:
        yield case.person[0], Order.TAKE_OVER
        yield case.person[1], Order.RELEASE
    sayable = [order for order in Order if order is not Order.STOP]
    for trouble in case.troubles:
        if trouble.kind == "swapped":  # somebody who has not looked which servo it is
            impatient_s = 0.5 * (swapped_in_s(trouble) + trouble.ends_s)
            yield impatient_s, Order.CLEAR_FAULT
            yield impatient_s + 0.05, Order.START
        if trouble.kind == "odd_orders":
            rng = random_of(int(trouble.values["seed"]))
            for _ in range(int(rng.integers(2, 9))):
                yield trouble.at_s + float(rng.uniform(0.0, trouble.for_s)), sayable[int(rng.integers(len(sayable)))]


class Policy:
    """Waves every joint about the start pose, gently, and is afflicted by the faults of chunks."""

    def __init__(self, case: Case, robot: Robot, began_ns: int) -> None:
        rng, limits = random_of(case.seed, 1), robot.limits()
        joints = len(limits.home)
        self._began_ns, self._limits = began_ns, limits
        self._amplitude, self._hz = rng.uniform(0.05, 0.35, joints), rng.uniform(0.15, 0.5, joints)
        # Towards the inside where the start pose is near a limit.
        self._side = np.where(limits.home > 0.5 * (limits.lower + limits.upper), -1.0, 1.0)
        self._troubles = [t for t in case.troubles if "chunk" in t.kind]
        self._sequence, self._next_ns = 0, began_ns
        self._under_way: deque[tuple[int, Chunk, str]] = deque()
        self._last: Chunk | None = None
        self.delivered: list[tuple[float, str]] = []

    def chunk(self, now_ns: int) -> Chunk | None:
        """What has come by now, the newest; the others it has overtaken."""
        while self._next_ns <= now_ns:
            self._make(self._next_ns)
            self._next_ns += _STEP_NS
        arrived = None
        while self._under_way and self._under_way[0][0] <= now_ns:
            arrived = self._under_way.popleft()
        if arrived is None:
            return None
        self.delivered.append(((now_ns - self._began_ns) * 1e-9, arrived[2]))
        return arrived[1]

    def _make(self, observed_ns: int) -> None:
        now_s = (observed_ns - self._began_ns) * 1e-9
        self._sequence += 1
        due = (observed_ns - self._began_ns + _STEP_NS * np.arange(1, CHUNK + 1)) * 1e-9
        wave = self._amplitude * (1.0 - np.cos(2.0 * math.pi * self._hz * due[:, None]))
        chunk = Chunk(self._sequence, observed_ns, _STEP_NS, frozen(self._limits.home + self._side * wave))
        arrives_ns, spoilt = observed_ns + _LATENCY_NS, ""
        for trouble in self._troubles:
            if not trouble.at(now_s):
                continue
            if trouble.kind == "no_chunk":
                return
            if trouble.kind == "late_chunk":
                arrives_ns += round(float(trouble.values["ms"]) * 1e6)
            elif not spoilt:  # broken in one way it need not be broken in another
                chunk, spoilt = self._spoilt(trouble, chunk), trouble.kind
        self._last = self._last if spoilt else chunk
        self._under_way.append((arrives_ns, chunk, spoilt))

    def _spoilt(self, trouble: Trouble, chunk: Chunk) -> Chunk:
        """What a broken policy says instead."""
        values, targets = trouble.values, chunk.targets.copy()
        rng = random_of(int(values.get("seed", 0)), chunk.sequence)
        at = chunk.observed_ns
        match trouble.kind:
            case "chunk_shape":
                shapes = (np.empty((0, targets.shape[1])), targets[0], np.zeros((2000, targets.shape[1])))
                targets = shapes[int(rng.integers(len(shapes)))]
            case "chunk_step":
                return Chunk(chunk.sequence, at, 0, chunk.targets)
            case "chunk_joints":
                joints = int(rng.choice([0, 1, targets.shape[1] - 1, targets.shape[1] + 1]))
                targets = np.zeros((CHUNK, joints))
            case "chunk_nonfinite":
                targets[chunk.sequence % CHUNK, int(values["joint"])] = float(values["value"])
            case "chunk_future":
                at += 5_000_000_000
            case "chunk_stale":
                if rng.random() < 0.5 and self._last is not None:
                    return self._last
                at -= 30_000_000_000
            case "chunk_range":
                targets[:, int(values["joint"])] = 9.0 if values["side"] == "+" else -9.0
            case "chunk_far":
                targets = targets + rng.uniform(-2.5, 2.5, targets.shape[1])
        return Chunk(chunk.sequence, at, chunk.step_ns, frozen(np.asarray(targets, dtype=np.float64)))


class Person:
    """Whoever is at the leader arm: holds it where the arm is, and moves it while they have it."""

    def __init__(self, case: Case, began_ns: int) -> None:
        self._turn, self._began_ns = case.person, began_ns
        self._troubles = [t for t in case.troubles if t.kind in {"lost_device", "device_garbage"}]
        rng = random_of(case.seed, 2)
        self._hz, self._reach = float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.1, 0.3))
        self._sequence, self._next_ns, self._taken_ns = 0, began_ns, 0
        self._pose: Float | None = None

    def sees(self, record: TickRecord) -> None:
        """Follow the arm with the leader until it is taken."""
        by_person = record.mode in {Mode.HUMAN, Mode.BLEND} and record.driver == 2
        if not by_person:
            pose = np.array(record.limited[: record.joints])
            self._pose = pose if np.isfinite(pose).all() else None
            self._taken_ns = record.now_ns

    def sample(self, now_ns: int) -> TeleopSample | None:
        """One fifty times a second, from somebody who is there at all."""
        if self._turn is None or now_ns < self._next_ns or self._pose is None:
            return None
        self._next_ns = now_ns + round(_SAMPLE_S * 1e9)
        self._sequence += 1
        since_s = (now_ns - self._taken_ns) * 1e-9
        phase = 2.0 * math.pi * self._hz * since_s
        away = -self._reach * (1.0 - math.cos(phase))
        speed = -self._reach * 2.0 * math.pi * self._hz * math.sin(phase)
        joints = len(self._pose)
        nothing = (0.0,) * joints
        sample = TeleopSample(
            self._sequence,
            now_ns,
            tuple((self._pose + away).tolist()),
            (speed,) * joints,
            nothing,
            (math.nan,) * joints,
        )
        for trouble in self._troubles:
            if trouble.at((now_ns - self._began_ns) * 1e-9):
                if trouble.kind == "lost_device":
                    return None
                sample = _garbled(sample, random_of(int(trouble.values["seed"]), self._sequence))
        return sample


def _garbled(sample: TeleopSample, rng: np.random.Generator) -> TeleopSample:
    """What a broken device may say: numbers that are none, angles no arm has, times that are not now."""
    joints = len(sample.position)
    wild = float(rng.choice([math.nan, math.inf, 1e300, 50.0, -3.0]))
    which = int(rng.integers(4))
    if which == 0:
        return sample._replace(position=(wild,) * joints)
    if which == 1:
        return sample._replace(velocity=(wild,) * joints)
    if which == 2:
        return sample._replace(read_ns=sample.read_ns + int(rng.integers(-(10**10), 10**10)))
    return sample._replace(position=tuple(rng.uniform(-3.0, 3.0, joints).tolist()), buttons=int(rng.integers(16)))
