"""No input, however wild, moves the command outside its limits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from controller_plant import MODEL, robot, sine
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.commanded import Commanded
from controller.curve import Motion
from controller.envelope import FOLLOWED_RAD, Envelope, Step
from controller.kinematics import Kinematics
from controller.planning import GENTLE
from spec.braking import LONGEST_STOP_S, stopping_time
from spec.errors import MisfitError, SpecError
from spec.robot import Arm, Limits

PERIOD = 0.005
LIMITS = robot().limits()
ENVELOPE = Envelope(LIMITS, PERIOD)
TOLERANCE = 1e-6

anything = st.one_of(
    st.floats(-2.0, 2.0),
    st.floats(-1.6, -1.4),  # near a limit
    st.floats(1.4, 1.6),
    st.floats(allow_nan=True, allow_infinity=True),
)
speeds = st.one_of(st.floats(-10.0, 10.0), st.just(0.0), st.floats(allow_nan=True, allow_infinity=True))
asks = st.lists(
    st.tuples(st.tuples(anything, anything), st.tuples(speeds, speeds), st.integers(1, 60), st.booleans()),
    min_size=1,
    max_size=12,
)


def _drive(envelope: Envelope, start: Commanded, asked: list[tuple[Motion, int, bool]]) -> list[Step]:
    steps, now = [], start
    for motion, ticks, gentle in asked:
        for _ in range(ticks):
            steps.append(envelope.follow(now, motion, gentle=gentle))
            now = steps[-1].commanded
    return steps


def _check_rates(start: Commanded, steps: list[Step], limits: Limits = LIMITS, period: float = PERIOD) -> None:
    """Against the limits: what the command says of itself, and the finite differences of the positions sent."""
    path = [start, *[step.commanded for step in steps]]
    position = np.array([c.position for c in path])
    velocity = np.array([c.velocity for c in path])
    acceleration = np.array([c.acceleration for c in path])
    assert np.isfinite(position).all()
    assert (np.abs(velocity) <= limits.velocity * (1 + TOLERANCE)).all()
    assert (np.abs(acceleration) <= limits.acceleration * (1 + TOLERANCE)).all()
    assert (np.abs(np.diff(acceleration, axis=0)) <= limits.jerk * period * (1 + TOLERANCE)).all()
    still = np.repeat(position[:1], 3, axis=0)  # it stood there before
    position = np.concatenate([still, position])
    assert (np.abs(np.diff(position, axis=0)) <= limits.velocity * period * (1 + TOLERANCE)).all()
    assert (np.abs(np.diff(position, 2, axis=0)) <= limits.acceleration * period**2 * (1 + TOLERANCE)).all()
    assert (np.abs(np.diff(position, 3, axis=0)) <= limits.jerk * period**3 * (1 + 1e-3)).all()


@settings(max_examples=150, deadline=None)
@given(asks, st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)))
def test_whatever_is_asked_every_limit_holds(
    asked: list[tuple[tuple[float, float], tuple[float, float], int, bool]], where: tuple[float, float]
) -> None:
    start = ENVELOPE.standing(where)
    steps = _drive(ENVELOPE, start, [(Motion(p, v), ticks, gentle) for p, v, ticks, gentle in asked])
    _check_rates(start, steps)
    position = np.array([step.commanded.position for step in steps])
    assert (position >= LIMITS.lower - TOLERANCE).all()
    assert (position <= LIMITS.upper + TOLERANCE).all()


@pytest.mark.parametrize("rate_hz", [50.0, 200.0, 500.0])
def test_a_long_wild_walk_stays_within_limits_at_every_rate(rate_hz: float) -> None:
    envelope = Envelope(LIMITS, 1.0 / rate_hz)
    rng = np.random.default_rng(3)
    start = now = envelope.standing((0.0, 0.0))
    steps = []
    for tick in range(4000):
        if tick % int(rng.integers(1, 40)) == 0:
            asked = Motion(tuple(rng.uniform(-2, 2, 2).tolist()), tuple(rng.uniform(-5, 5, 2).tolist()))
        steps.append(envelope.follow(now, asked))
        now = steps[-1].commanded
    _check_rates(start, steps, period=1.0 / rate_hz)
    assert np.abs([step.commanded.position for step in steps]).max() <= 1.5 + TOLERANCE


def test_a_smooth_path_is_followed_without_lag_and_without_a_flag() -> None:
    amplitude, hertz = 0.6, 0.5
    curve = sine(amplitude, hertz)
    rate = 2.0 * math.pi * hertz
    now = ENVELOPE.standing((0.0, 0.0))
    worst = 0.0
    for tick in range(1, 800):
        t = tick * PERIOD
        s = min(1.0, t)
        ramp, ramp_rate = s * s * (3.0 - 2.0 * s), 6.0 * s * (1.0 - s)  # eased into, so that even the start is possible
        speed = ramp * amplitude * rate * math.cos(rate * t) + ramp_rate * curve(t)
        step = ENVELOPE.follow(now, Motion((ramp * curve(t),) * 2, (speed,) * 2))
        assert not step.limited
        now = step.commanded
        worst = max(worst, abs(now.position[0] - ramp * curve(t)))
    assert worst < 1e-3  # an encoder tick is 1.5e-3


def test_a_jump_is_followed_by_a_fast_limited_motion_that_arrives_and_stays() -> None:
    now = ENVELOPE.standing((0.0, 0.0))
    asked = Motion((1.0, -1.0), (0.0, 0.0))
    assert ENVELOPE.follow(now, asked).limited
    for _ in range(120):  # rest to rest over 1 rad at these limits: 0.5 s
        now = ENVELOPE.follow(now, asked).commanded
    assert now.position == pytest.approx((1.0, -1.0), abs=1e-9)
    assert not ENVELOPE.follow(now, asked).limited


def test_an_asked_position_outside_stops_at_the_limit_and_says_so() -> None:
    now = ENVELOPE.standing((0.0, 0.0))
    for _ in range(400):
        step = ENVELOPE.follow(now, Motion((9.0, -9.0), (2.0, -2.0)))
        assert step.limited
        now = step.commanded
    assert now.position == pytest.approx((1.5, -1.5), abs=1e-3)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_target_that_claims_a_speed_it_does_not_have_takes_nobody_over_the_limit(side: float) -> None:
    """Each such target could be passed through; chasing it for ever overshoots by 0.09 rad if nothing checks."""
    now, asked = ENVELOPE.standing((0.0, 0.0)), Motion((1.425 * side, 0.0), (2.5 * side, 0.0))
    furthest = 0.0
    for _ in range(200):
        now = ENVELOPE.follow(now, asked).commanded
        furthest = max(furthest, side * now.position[0])
    assert 1.425 < furthest <= 1.5 + TOLERANCE


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_brakes(bad: float) -> None:
    now = ENVELOPE.standing((0.0, 0.0))
    for _ in range(40):
        now = ENVELOPE.follow(now, Motion((1.0, 1.0), (0.0, 0.0))).commanded
    assert now.velocity[0] > 1.0
    start, steps = now, []
    for _ in range(60):
        step = ENVELOPE.follow(now, Motion((bad, 0.0), (0.0, 0.0)))
        assert not step.finite
        steps.append(step)
        now = step.commanded
    assert now.at_rest
    assert now.position[0] < start.position[0] + 0.3


def test_braking_ends_at_rest_within_its_bound_and_then_does_nothing() -> None:
    """From full speed: v/a + a/j = 3/25 + 25/600 s = 162 ms, 33 ticks."""
    now = ENVELOPE.standing((-1.5, -1.5))
    for _ in range(60):
        now = ENVELOPE.follow(now, Motion((1.4, 1.4), (0.0, 0.0))).commanded
    assert now.velocity[0] > 2.9
    for _ in range(34):
        now = ENVELOPE.brake(now)
    assert now.at_rest
    assert ENVELOPE.brake(now) is now


def _powers_of_ten(lowest: float, highest: float) -> st.SearchStrategy[float]:
    return st.floats(lowest, highest).map(lambda exponent: 10.0**exponent)


shares = st.floats(-1.0, 1.0)


def _limits_of_a_file(lower: float, travel: float, velocity: float, acceleration: float, jerk: float) -> Limits:
    """Of a robot with one joint.

    Raises:
        ValidationError: a robot file may not say so.
    """
    rates = {"velocity": velocity, "acceleration": acceleration, "jerk": jerk}
    joint = {"id": 1, "model": "XL330-M288", "position": (lower, lower + travel), "home": lower, **rates}
    return Limits.of(Arm.model_validate({"serial": "a", "port": "p", "calibration": "c", "joints": {"a": joint}}))


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(
        st.floats(-4.0, 4.0), _powers_of_ten(-6, 4), _powers_of_ten(-2, 2), _powers_of_ten(-2, 4), _powers_of_ten(-2, 8)
    ),
    _powers_of_ten(0.0, 3.3),
    shares,
    st.lists(st.tuples(st.floats(-0.2, 1.2), shares, st.integers(1, 20), st.booleans()), min_size=1, max_size=5),
)
def test_every_robot_file_that_loads_can_be_followed_and_braked(
    of_joint: tuple[float, float, float, float, float],
    rate_hz: float,
    where: float,
    asked: list[tuple[float, float, int, bool]],
) -> None:
    """Limits of a millionth ended the control process, in ruckig or dividing by zero; a jerk of 0.01 stopped nothing.

    Braking may begin while the joint still gains speed: until it is at full speed for a moment, acceleration goes down
    from no more than √(2vj), which is what can be gained between full speed one way and full speed the other.
    """
    try:
        limits = _limits_of_a_file(*of_joint)
    except ValidationError:
        reject()
    lower, travel, velocity, acceleration, jerk = of_joint
    envelope = Envelope(limits, 1.0 / rate_hz)
    now = envelope.standing((lower + abs(where) * travel,))
    asks = [(Motion((lower + p * travel,), (v * velocity,)), ticks, gentle) for p, v, ticks, gentle in asked]
    now = _drive(envelope, now, asks)[-1].commanded
    longest = stopping_time(velocity, acceleration, jerk) + min(acceleration, math.sqrt(2.0 * velocity * jerk)) / jerk
    assert longest <= 2.0 * LONGEST_STOP_S
    for _ in range(math.ceil(longest * rate_hz) + 1):
        now = envelope.brake(now)
    assert now.at_rest


def test_a_target_too_far_for_any_plan_brakes() -> None:
    """Was a ValueError: ruckig answers with a number that its own enumeration lacks."""
    now = ENVELOPE.standing((1e6, 0.0))
    assert ENVELOPE.follow(now, Motion((0.0, 0.0), (0.0, 0.0))).commanded == now


def test_the_way_home_is_gentle() -> None:
    now, fastest, hardest = ENVELOPE.standing((-1.0, 1.0)), 0.0, 0.0
    for _ in range(1200):
        now = ENVELOPE.follow(now, Motion((0.2, 0.2), (0.0, 0.0)), gentle=True).commanded
        fastest = max(fastest, *map(abs, now.velocity))
        hardest = max(hardest, *map(abs, now.acceleration))
    assert now.position == pytest.approx((0.2, 0.2), abs=1e-9)
    assert fastest <= GENTLE * 3.0 + TOLERANCE
    assert hardest <= GENTLE * 25.0 + TOLERANCE


def test_from_outside_the_limits_the_way_leads_only_inwards() -> None:
    now = ENVELOPE.standing((1.8, -1.8))
    before = now.position
    for _ in range(300):
        now = ENVELOPE.follow(now, Motion((1.0, -1.0), (0.0, 0.0))).commanded
        assert now.position[0] <= before[0] + 1e-12
        assert now.position[1] >= before[1] - 1e-12
        before = now.position
    assert now.position == pytest.approx((1.0, -1.0), abs=1e-6)


def test_the_same_motion_is_planned_alike_by_a_fresh_planner() -> None:
    """The planner's scratch memory must not be state: replay starts with an empty one."""
    used, rng = Envelope(LIMITS, PERIOD), np.random.default_rng(1)
    now = used.standing((0.0, 0.0))
    for _ in range(200):
        asked = Motion(tuple(rng.uniform(-2, 2, 2).tolist()), tuple(rng.uniform(-3, 3, 2).tolist()))
        step = used.follow(now, asked)
        assert Envelope(LIMITS, PERIOD).follow(now, asked) == step
        now = step.commanded


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Envelope, Kinematics]:
    """The two-link arm, kept at x ≥ 0.05 and z ≥ -0.08."""
    model = tmp_path_factory.mktemp("model") / "arm.xml"
    model.write_text(MODEL)
    kinematics = Kinematics(model, ("j0", "j1"))
    box = np.array([[0.05, 0.5], [-0.5, 0.5], [-0.08, 0.5]])
    return Envelope(LIMITS, PERIOD, kinematics, box), kinematics


@settings(max_examples=40, deadline=None)
@given(asked=asks)
def test_the_tool_stays_in_its_box(
    boxed: tuple[Envelope, Kinematics], asked: list[tuple[tuple[float, float], tuple[float, float], int, bool]]
) -> None:
    envelope, kinematics = boxed
    start = envelope.standing((0.0, 0.0))
    steps = _drive(envelope, start, [(Motion(p, v), ticks, gentle) for p, v, ticks, gentle in asked])
    _check_rates(start, steps)
    for step in steps:
        x, _, z = kinematics.tool(step.commanded.position)
        assert x >= 0.05 - 1e-3  # the bulge of the braking arc, see the module
        assert z >= -0.08 - 1e-3


def test_a_way_out_of_the_box_stops_before_it_and_says_why(boxed: tuple[Envelope, Kinematics]) -> None:
    envelope, kinematics = boxed
    now = envelope.standing((0.0, 0.0))
    seen = False
    for _ in range(400):
        step = envelope.follow(now, Motion((1.2, 0.0), (0.0, 0.0)))
        seen, now = seen or step.workspace, step.commanded
    assert seen
    assert -0.08 - 1e-6 <= kinematics.tool(now.position)[2] < -0.06  # near the wall, inside


def test_from_outside_the_box_the_way_in_is_open_and_the_way_out_is_not(boxed: tuple[Envelope, Kinematics]) -> None:
    envelope, kinematics = boxed
    outside = (1.0, 0.0)
    assert kinematics.tool(outside)[2] == pytest.approx(-0.2 * math.sin(1.0))
    now = envelope.standing(outside)
    assert now.outside > 0.08
    for _ in range(200):
        now = envelope.follow(now, Motion((1.3, 0.0), (0.0, 0.0))).commanded
    assert now.position == pytest.approx(outside, abs=1e-3)
    for _ in range(400):
        now = envelope.follow(now, Motion((0.0, 0.0), (0.0, 0.0))).commanded
    assert now.position == pytest.approx((0.0, 0.0), abs=1e-6)
    assert now.outside == 0.0


class Thorough(Envelope):
    """Trusts no bound: works every braking path out."""

    def _plainly_inside(self, moved: Commanded) -> bool:
        return False


@settings(max_examples=40, deadline=None)
@given(asked=asks)
def test_the_bounds_that_save_time_never_change_a_command(
    boxed: tuple[Envelope, Kinematics], asked: list[tuple[tuple[float, float], tuple[float, float], int, bool]]
) -> None:
    envelope, kinematics = boxed
    thorough = Thorough(LIMITS, PERIOD, kinematics, np.array([[0.05, 0.5], [-0.5, 0.5], [-0.08, 0.5]]))
    wishes = [(Motion(p, v), ticks, gentle) for p, v, ticks, gentle in asked]
    quick = _drive(envelope, envelope.standing((0.0, 0.0)), wishes)
    slow = _drive(thorough, thorough.standing((0.0, 0.0)), wishes)
    assert [step.commanded[:4] for step in quick] == [step.commanded[:4] for step in slow]


def test_the_tool_is_never_faster_than_its_levers_say(boxed: tuple[Envelope, Kinematics]) -> None:
    kinematics, rng = boxed[1], np.random.default_rng(0)
    assert kinematics.levers == pytest.approx((0.2, 0.1))
    for _ in range(200):
        a, b = rng.uniform(-3, 3, (2, 2))
        moved = np.linalg.norm(np.subtract(kinematics.tool(a), kinematics.tool(b)))
        assert moved <= np.dot(kinematics.levers, np.abs(a - b)) + 1e-12


def test_a_command_within_a_tick_of_what_was_asked_counts_as_followed() -> None:
    now = ENVELOPE.standing((0.0, 0.0))
    assert not ENVELOPE.follow(now, Motion((FOLLOWED_RAD / 2, 0.0), (0.0, 0.0))).limited
    assert ENVELOPE.follow(now, Motion((2 * FOLLOWED_RAD, 0.0), (0.0, 0.0))).limited


def test_kinematics_names_the_file_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "arm.xml"
    path.write_text(MODEL)
    with pytest.raises(MisfitError, match="has no joint 'elbow'"):
        Kinematics(path, ("j0", "elbow"))
    path.write_text(MODEL.replace('name="tool"', 'name="tip"'))
    with pytest.raises(MisfitError, match="has no site 'tool'"):
        Kinematics(path, ("j0", "j1"))
    path.write_text("<mujoco><nonsense/></mujoco>")
    with pytest.raises(SpecError, match="cannot read the model") as refused:
        Kinematics(path, ("j0", "j1"))
    assert "\n" not in str(refused.value)
