"""A state put on record and read back goes on exactly as the one that never left the tick."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from duo import HOME, Duo, machine
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.authority import Authority
from controller.commanded import Commanded
from controller.curve import Cubic, Motion, curve_through
from controller.decide import Command, Decide, Inputs
from controller.schedule import MAX_ALIVE, Mix, Schedule, Track
from controller.snapshot import STATE, VERSION, restored, written
from controller.state import State
from controller.takeover import NOBODY
from controller.wiring.topics import STATES, topics
from episodes.messages import CARRIED_CHUNKS
from episodes.records import MAX_CHUNK, Order
from episodes.schema.cadenza_pb2 import Event
from spec.arrays import frozen
from spec.chunk import Chunk
from spec.errors import SpecError
from spec.robot import MAX_JOINTS, ChunkMode, Control, Robot
from spec.robotfile import load_robot
from spec.teleop import Button


class Recorded(Decide):
    """Keeps what it was asked and what it said."""

    __slots__ = ("log",)
    log: list[tuple[State, Inputs, int, State, Command]]

    def __call__(self, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Command]:
        after, command = super().__call__(state, inputs, now_ns)
        kept = Inputs(
            *(np.array(getattr(inputs, name)) for name in ("position", "velocity", "effort", "fresh")),
            inputs.fault,
            inputs.chunk,
            inputs.order,
            inputs.engagement,
            inputs.unsent,
            inputs.human,
        )
        self.log.append((state, kept, now_ns, after, command))
        return after, command


def _recorded(robot: Robot) -> tuple[Duo, Recorded]:
    duo, decide = Duo(robot, every=2), Recorded.of(robot)
    assert isinstance(decide, Recorded)
    decide.log = []
    duo.lockstep._decide = decide
    return duo, decide


def _check(decide: Recorded, robot: Robot, ticks: list[int]) -> None:
    """From each of these ticks on, the state on record leads to the same commands to the bit."""
    chunks = {inputs.chunk.sequence: inputs.chunk for _, inputs, *_ in decide.log if inputs.chunk is not None}
    fresh = Decide.of(robot)
    for tick in ticks:
        text = written(tick, decide.log[tick][3])
        number, state = restored(text, chunks, robot.control)
        assert number == tick
        assert written(tick, state) == text
        for _, inputs, now_ns, _, command in decide.log[tick + 1 : tick + 150]:
            state, again = fresh(state, inputs, now_ns)
            assert again == command


happenings = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(list(Order))),
        st.sampled_from([Button.NONE, Button.TAKE, Button.TOGGLE]),
        st.sampled_from(["fine", "silent", "push", "deaf"]),
        st.booleans(),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(happenings, st.sampled_from(list(ChunkMode)), st.booleans())
def test_any_state_on_record_goes_on_to_the_bit(
    what: list[tuple[Order | None, Button, str, bool, int]], mode: ChunkMode, taken: bool
) -> None:
    robot = machine(mode=mode)
    duo, decide = _recorded(robot)
    duo.hand = lambda t: 0.3 * math.sin(3.0 * t)
    if taken:
        duo.taken()
    else:
        duo.driving()
    for number, (order, press, wrong, policy, ticks) in enumerate(what):
        duo.weights = 7 + number % 2
        duo.policy, duo.silent, duo.push = policy, wrong == "silent", 0.2 if wrong == "push" else 0.0
        heard = np.array([wrong != "deaf", True])
        for tick in range(ticks):
            duo.tick(order if tick == 0 else None, press if tick == 0 else Button.NONE, heard=heard)
    _check(decide, robot, [*range(0, len(decide.log), 29), len(decide.log) - 30])


@pytest.mark.parametrize("mode", list(ChunkMode))
def test_the_first_tick_the_middle_of_a_blend_and_the_last_can_all_be_begun_from(mode: ChunkMode) -> None:
    robot = machine(mode=mode)
    duo, decide = _recorded(robot)
    duo.taken()
    duo.tick(press=Button.RELEASE)
    duo.ticks(60)
    _check(decide, robot, list(range(0, len(decide.log), 3)))


def test_the_state_before_the_first_tick_can_be_written() -> None:
    state = Decide.of(machine()).initial()
    assert restored(written(-1, state), {}, machine().control) == (-1, state)


def test_what_cannot_be_restored_is_said_in_one_line() -> None:
    robot = machine()
    duo, decide = _recorded(robot)
    duo.driving()
    text = written(7, duo.lockstep.state)
    with pytest.raises(SpecError, match="needs this chunk"):
        restored(text, {}, robot.control)
    chunks = {inputs.chunk.sequence: inputs.chunk for _, inputs, *_ in decide.log if inputs.chunk is not None}
    broken: list[dict[str, Any] | list[int] | str] = [[], "x", {}, {**json.loads(text), "version": VERSION + 1}]
    document = json.loads(text)
    broken += [{name: value for name, value in document.items() if name != gone} for gone in document]
    for part in ("authority", "schedule", "person"):
        broken += [
            {**document, part: {name: value for name, value in document[part].items() if name != gone}}
            for gone in document[part]
        ]
    broken.append({**document, "surprise": 1})
    for wrong in broken:
        with pytest.raises(SpecError):
            restored(json.dumps(wrong), chunks, robot.control)
    with pytest.raises(SpecError):
        restored("{", chunks, robot.control)


def test_the_text_is_plain_json() -> None:
    duo, _ = _recorded(machine())
    text = written(1, duo.driving().lockstep.state)
    assert "\n" not in text
    json.loads(text, parse_constant=pytest.fail)


def test_the_longest_state_has_its_room_before_it_is_sent() -> None:
    """Every joint there may be, every chunk, things in the way all around, a person just taking over: no tick makes
    room for it."""
    rng, late_ns = np.random.default_rng(0), 10**17

    def numbers(count: int) -> tuple[float, ...]:
        return tuple(rng.uniform(-3.0, 3.0, count).tolist())

    motion = Motion(numbers(MAX_JOINTS), numbers(MAX_JOINTS))
    cubic = Cubic(late_ns, late_ns, tuple(rng.uniform(-3.0, 3.0, (MAX_JOINTS, 4)).tolist()))
    curve = curve_through(rng.uniform(-1.0, 1.0, (MAX_CHUNK, MAX_JOINTS)), 0.1)
    tracks = tuple(
        Track(10**7 + k, 10**6, late_ns, 100_000_000, late_ns, late_ns, numbers(MAX_JOINTS), curve)
        for k in range(MAX_ALIVE)
    )
    joints = {name: numbers(MAX_JOINTS) for name in ("position", "velocity", "acceleration", "seen", "use")}
    commanded = Commanded(**joints, short=numbers(401), room=numbers(401))
    state = State(
        stale=(10**6,) * MAX_JOINTS,
        now_ns=late_ns,
        authority=Authority(),
        schedule=Schedule(tracks, Mix.of(tracks, Control()), late_ns, cubic, cubic, 10**7),
        commanded=commanded,
        sent=commanded,
        person=NOBODY._replace(position=motion.position, velocity=motion.velocity, hand=motion, fade=cubic),
    )
    event = Event(time_ns=late_ns, source="control", kind=STATE, text=written(10**9, state)).SerializeToString()
    assert 32768 < len(event) < topics(load_robot(Path("robots/virtual.yaml")))[STATES].first_bytes


def test_an_episode_carries_every_chunk_that_a_state_can_need() -> None:
    """In mode open_loop the chunk in use may be as many older than the newest as it has actions."""
    duo = Duo(machine(mode=ChunkMode.OPEN_LOOP, open_loop_steps=MAX_CHUNK))
    duo.policy, oldest = False, 0
    duo.tick(Order.START)
    for tick in range(1500):
        sent = None
        if tick % 20 == 0:
            targets = frozen(np.full((MAX_CHUNK, 2), HOME))
            sent = Chunk(duo.sequence, duo.lockstep.now_ns, 100_000_000, targets)
        duo.tick(sent=sent)
        needed = json.loads(written(tick, duo.lockstep.state))["schedule"]["tracks"]
        oldest = max([oldest, *(duo.sequence - track[0] for track in needed)])
    assert 32 < oldest <= CARRIED_CHUNKS
