"""Whatever is asked, the links keep apart, and off the table: measured with a MuJoCo of the test's own."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.clearance import Clearance
from controller.commanded import Commanded
from controller.curve import Motion
from controller.envelope import Envelope, Step
from controller.kinematics import Kinematics
from controller.surroundings import BULGE, DETOUR
from spec.arrays import Float
from spec.errors import MisfitError, SpecError
from spec.robot import Collision
from spec.robotfile import load_robot

ROBOTS = Path(__file__).parents[2] / "robots"
ROBOT = load_robot(ROBOTS / "virtual.yaml")
LIMITS = ROBOT.limits()
MARGIN = 0.005
SHARES = st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6)
STILL = (0.0,) * 6


class Ruler:
    """Distances of the Koch's links from each other and from the table; the pairs that count are written out here."""

    def __init__(self) -> None:
        drawing = mujoco.MjSpec.from_file(str(ROBOT.model))
        drawing.worldbody.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1.0, 1.0, 0.1])
        self.model = drawing.compile()
        self.data = mujoco.MjData(self.model)
        hand = ("gripper_base", "jaw", "finger")
        named = [("table", "upper_arm"), ("table", "forearm"), *(("table", name) for name in hand)]
        named += [(low, high) for low in ("base", "column", "shoulder") for high in ("forearm", *hand)]
        named += [(low, high) for low in ("upper_arm", "forearm") for high in hand]
        self.pairs = [tuple(self.model.geom(name).id for name in pair) for pair in named]
        self.names = named

    def nearest(self, pose: tuple[float, ...] | Float) -> float:
        """The smallest of all distances [m]."""
        return float(min(self.all(pose)))

    def all(self, pose: tuple[float, ...] | Float) -> list[float]:
        self.data.qpos[:] = pose
        mujoco.mj_forward(self.model, self.data)
        return [mujoco.mj_geomDistance(self.model, self.data, a, b, 1.0, None) for a, b in self.pairs]


RULER = Ruler()
ENVELOPE = Envelope.of(ROBOT)


def _pose(shares: list[float]) -> tuple[float, ...]:
    lower, upper = LIMITS.lower, LIMITS.upper
    return tuple((lower + np.array(shares) * (upper - lower)).tolist())


def _ticks(envelope: Envelope, now: Commanded, asked: tuple[float, ...], ticks: int) -> list[Step]:
    steps = []
    for _ in range(ticks):
        steps.append(envelope.follow(now, Motion(asked, STILL)))
        now = steps[-1].commanded
    return steps


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(SHARES, st.integers(1, 40)), min_size=1, max_size=12))
def test_wherever_the_arm_is_sent_nothing_comes_nearer_than_the_margin(targets: list[tuple[list[float], int]]) -> None:
    now = ENVELOPE.standing(tuple(LIMITS.home.tolist()))
    for shares, ticks in targets:
        for step in _ticks(ENVELOPE, now, _pose(shares), ticks):
            now = step.commanded
            assert RULER.nearest(now.position) >= MARGIN


def test_ten_thousand_ticks_all_over_the_range_keep_the_margin() -> None:
    rng = np.random.default_rng(7)
    now = ENVELOPE.standing(tuple(LIMITS.home.tolist()))
    nearest, stopped, moved = 1.0, 0, 0.0
    for _ in range(500):
        before = now.position
        for step in _ticks(ENVELOPE, now, _pose(rng.random(6).tolist()), 20):
            now = step.commanded
            nearest = min(nearest, RULER.nearest(now.position))
            stopped += step.collision
        moved += float(np.abs(np.subtract(now.position, before)).sum())
    assert nearest >= MARGIN
    assert stopped > 500  # it was put to the test
    assert moved > 100.0  # and the arm was not simply stuck


def test_a_command_into_the_table_stops_above_it_and_says_why() -> None:
    now, flagged = ENVELOPE.standing(tuple(LIMITS.home.tolist())), False
    below = (0.0, 0.55, 1.2, -0.9, 0.0, -0.35)
    assert min(RULER.all(below)[:5]) < -0.01
    for step in _ticks(ENVELOPE, now, below, 200):
        now, flagged = step.commanded, flagged or step.collision
    assert flagged
    assert now.at_rest
    assert MARGIN <= RULER.nearest(now.position) < MARGIN + 0.02


def test_what_holds_the_arm_back_is_named() -> None:
    below = Motion((0.0, 0.55, 1.2, -0.9, 0.0, -0.35), STILL)
    home = ENVELOPE.standing(tuple(LIMITS.home.tolist()))
    pinned = _ticks(ENVELOPE, home, below.position, 200)[-1].commanded
    assert ENVELOPE.hindrance(home, below) == ""  # not here
    assert ENVELOPE.hindrance(pinned, below) == "the collision check: table under the arm and jaw"
    assert ENVELOPE.hindrance(pinned, home.motion) == ""
    assert Envelope(LIMITS, 0.01).hindrance(home, below) == ""


def test_from_too_near_the_way_out_is_open_and_the_way_further_in_is_not() -> None:
    inside = (0.0, 0.5, 1.0, -0.9, 0.0, -0.35)
    deeper, home = (0.0, 0.5, 1.1, -0.9, 0.0, -0.35), tuple(LIMITS.home.tolist())
    start = ENVELOPE.standing(inside)
    assert max(start.short) > BULGE
    for step in _ticks(ENVELOPE, start, deeper, 50):
        assert RULER.nearest(step.commanded.position) >= RULER.nearest(inside) - 1e-9
    depth = RULER.nearest(inside)
    out = _ticks(ENVELOPE, start, home, 200)
    for step in out:
        now = RULER.nearest(step.commanded.position)
        assert now >= min(depth, MARGIN) - 1e-6
        depth = now
    assert out[-1].commanded.position == pytest.approx(home, abs=1e-6)
    assert not out[-1].commanded.short


def test_one_joint_that_leads_further_in_does_not_pin_the_others() -> None:
    """From this pose the way to the start pose lowered the wrist by 6 mrad while the elbow rose: nothing moved."""
    now = ENVELOPE.standing((0.0, 0.502, 0.962, -1.394, -0.002, -0.348))
    home, nearest = Motion(tuple(LIMITS.home.tolist()), STILL), RULER.nearest(now.position)
    for _ in range(300):
        now = ENVELOPE.follow(now, home, gentle=True).commanded
        assert RULER.nearest(now.position) > nearest - DETOUR - 1e-6
        nearest = min(MARGIN, max(nearest, RULER.nearest(now.position)))
    assert np.abs(np.subtract(now.position, home.position)).max() < 1e-3


@pytest.mark.parametrize("wrist", [-1.44, -1.467, -1.5])
def test_an_arm_that_lies_folded_up_without_torque_finds_home(wrist: float) -> None:
    """Half a minute without power and the links of the virtual Koch lay in one another: it never came home again."""
    now = ENVELOPE.standing((-0.002, 0.6, 1.067, wrist, -0.198, -0.385))
    home, before = Motion(tuple(LIMITS.home.tolist()), STILL), np.array(RULER.all(now.position))
    assert (before < 0.0).sum() > 3
    for _ in range(300):
        now = ENVELOPE.follow(now, home, gentle=True).commanded
        here = np.array(RULER.all(now.position))
        assert (here > np.minimum(before, MARGIN) - DETOUR - 1e-6).all()
        before = np.maximum(before, here)
    assert np.abs(np.subtract(now.position, home.position)).max() < 1e-3
    assert not now.short


def test_the_pairs_and_their_distances_are_those_of_the_ruler() -> None:
    kinematics = Kinematics(ROBOT.model or Path(), ROBOT.follower.names, table=True)
    clearance, rng = Clearance(kinematics), np.random.default_rng(0)
    assert len(clearance.pairs) == len(RULER.pairs)
    for _ in range(200):
        pose = rng.uniform(LIMITS.lower, LIMITS.upper)
        kinematics.put(pose)
        assert sorted(clearance.distances(range(len(clearance.pairs)))) == pytest.approx(sorted(RULER.all(pose)))


def test_no_distance_changes_faster_than_its_levers_say() -> None:
    kinematics = Kinematics(ROBOT.model or Path(), ROBOT.follower.names, table=True)
    clearance, rng = Clearance(kinematics), np.random.default_rng(1)
    which = range(len(clearance.pairs))
    for _ in range(500):
        one = rng.uniform(LIMITS.lower, LIMITS.upper)
        other = one + rng.normal(0.0, 0.1, 6)
        kinematics.put(one)
        before = np.array(clearance.distances(which))
        kinematics.put(other)
        changed = np.abs(np.array(clearance.distances(which)) - before)
        assert (changed <= clearance.levers @ np.abs(other - one) + 1e-5).all()


class Thorough(Envelope):
    """Trusts no bound: looks at every pair on every way."""

    def _plainly_inside(self, moved: Commanded) -> bool:
        return False

    def _surveyed(self, moved: Commanded) -> tuple[Commanded, list[float], list[int]]:
        seen, reach, _ = super()._surveyed(
            self.standing(moved.position)._replace(**dict(list(moved._asdict().items())[:4]))
        )
        return seen, reach, list(self._around.everything)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(SHARES, st.integers(1, 40)), min_size=1, max_size=6))
def test_the_bounds_that_save_time_never_change_a_command(targets: list[tuple[list[float], int]]) -> None:
    thorough, home = Thorough.of(ROBOT), tuple(LIMITS.home.tolist())
    quick, slow = ENVELOPE.standing(home), thorough.standing(home)
    for shares, ticks in targets:
        for one, other in zip(
            _ticks(ENVELOPE, quick, _pose(shares), ticks), _ticks(thorough, slow, _pose(shares), ticks), strict=True
        ):
            quick, slow = one.commanded, other.commanded
            assert quick[:3] == slow[:3]


def test_a_fresh_envelope_goes_on_bit_for_bit() -> None:
    """A replay begins in the middle, with scratch memory of its own."""
    rng, now = np.random.default_rng(3), ENVELOPE.standing(tuple(LIMITS.home.tolist()))
    for _ in range(40):
        asked = _pose(rng.random(6).tolist())
        fresh = Envelope.of(ROBOT)
        steps = _ticks(ENVELOPE, now, asked, 10)
        assert _ticks(fresh, now, asked, 10) == steps
        now = steps[-1].commanded


def test_a_model_in_which_nothing_can_collide_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "arm.xml"
    model.write_text((ROBOT.model or Path()).read_text().replace('group="3"', 'group="2"'))
    kinematics = Kinematics(model, ROBOT.follower.names)
    with pytest.raises(MisfitError, match="the geoms of group 3"):
        Clearance(kinematics)


def test_without_a_table_only_the_links_count() -> None:
    free = Envelope.of(ROBOT.model_copy(update={"workspace": None, "collision": Collision(margin=MARGIN, table=False)}))
    now, below = free.standing(tuple(LIMITS.home.tolist())), (0.0, 0.5, 1.05, -0.9, 0.0, -0.35)
    assert _ticks(free, now, below, 200)[-1].commanded.position == pytest.approx(below, abs=1e-6)


def test_a_collision_check_without_a_model_is_one_line() -> None:
    with pytest.raises(SpecError, match="collision needs model"):
        load_robot(ROBOTS / "virtual.yaml", {"model": "null", "workspace": "null"})
