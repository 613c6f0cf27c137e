"""Replaying the decisions of an episode: equal bits whatever happened, and the first tick named where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_life import Life, machine

from cadenza.cli import main
from controller import planning, takeover
from controller.authority import Bounds
from controller.replay import replay
from episodes.reader import read_episode
from episodes.records import Flag, Mode, Order
from episodes.writer import EpisodeWriter, Header
from spec.errors import CadenzaError

ORDERS = {3: Order.START, 10: Order.MARK, 900: Order.CLEAR_FAULT, 905: Order.START, 1400: Order.MARK}


@pytest.mark.parametrize("rehearsed", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_an_eventful_life_is_bit_equal(seed: int, rehearsed: bool, tmp_path: Path) -> None:
    """Also where every tick was decided for nothing before: the replay does not do that."""
    orders = {**ORDERS, 500: Order.TAKE_OVER, 620: Order.RELEASE, 1500: Order.HOLD, 1520: Order.START}
    life = Life(seed, orders)
    life.arm.waits = rehearsed
    life.live(2000)
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert (verdict.first, verdict.gaps) == (None, ())
    assert verdict.before == 0
    assert verdict.compared == verdict.ticks == len(life.ticks)
    assert verdict.states == 2


def test_such_lives_hold_everything_that_can_happen() -> None:
    """Else the test above would prove less than it says."""
    flags, modes = Flag.NONE, set()
    for seed in range(12):
        life = Life(seed, {**ORDERS, 500: Order.TAKE_OVER, 620: Order.RELEASE}).live(1600)
        for tick in life.ticks:
            flags |= Flag(tick.flags)
            modes.add(Mode(tick.mode))
    assert modes == set(Mode)
    never = Flag.WORKSPACE | Flag.COLLISION | Flag.STALE_CAMERA | Flag.STALE_TELEOP
    assert {flag for flag in Flag if flag and not flags & flag} <= {*never}


@pytest.mark.parametrize("seed", range(4))
def test_a_recording_may_begin_at_any_time(seed: int, tmp_path: Path) -> None:
    """Chunks alive then are on record, and so is the state: nothing before it is needed."""
    life = Life(seed, {3: Order.START, 700: Order.TAKE_OVER, 750: Order.MARK, 1100: Order.MARK}).live(1500)
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap", begin=700)))
    assert verdict.equal, verdict
    numbers = [tick.tick for tick in life.ticks[700:]]
    assert verdict.before == numbers.index(life.states[0][0]) + 1
    assert verdict.compared == len(numbers) - verdict.before
    assert verdict.states == 1


def test_a_refused_engagement_and_a_fault_at_the_end(tmp_path: Path) -> None:
    life = Life(1, {3: Order.START}, calm=True)
    life.arm.refuses_hold = True
    life.live(50)
    assert life.ticks[-1].mode == Mode.FAULT
    assert any(tick.flags & Flag.ENGAGE_FAILED for tick in life.ticks)
    assert replay(read_episode(life.episode(tmp_path / "a.mcap"))).equal


@pytest.mark.parametrize(
    ("holder", "name", "value", "field"),
    [
        (planning, "GENTLE", 0.2, "limited"),
        (takeover, "STIFFNESS", 41.0, "asked"),
        (takeover, "COAST", 0, "asked"),
        (Bounds, "hold_ticks", None, None),
    ],
)
def test_one_changed_constant_is_found_and_its_tick_named(
    holder: object, name: str, value: float, field: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(3, {**ORDERS, 500: Order.TAKE_OVER, 620: Order.RELEASE}).live(1600)
    path = life.episode(tmp_path / "a.mcap")
    if value is None:  # bounds of the ladder are made from the robot file
        of = Bounds.of
        monkeypatch.setattr(Bounds, "of", lambda control, arm: of(control, arm)._replace(hold_ticks=3))
    else:
        monkeypatch.setattr(holder, name, value)
    verdict = replay(read_episode(path))
    assert verdict.first is not None
    assert not verdict.equal
    assert verdict.differing >= 1
    assert verdict.first.tick in {tick.tick for tick in life.ticks}
    if field is not None:
        assert verdict.first.field.startswith(field)


def test_the_first_tick_that_differs_is_the_one_named(tmp_path: Path) -> None:
    life = Life(5, {3: Order.START, 10: Order.MARK}, calm=True).live(700)
    changed = life.ticks[512]
    changed.limited[1] += 1e-15
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap")))
    assert verdict.first is not None
    assert (verdict.first.tick, verdict.first.field) == (changed.tick, "limited of j1")
    assert (verdict.differing, verdict.compared) == (1, len(life.ticks))


def test_lost_ticks_are_told_and_a_later_state_is_a_new_beginning(tmp_path: Path) -> None:
    life = Life(2, {3: Order.START, 10: Order.MARK, 400: Order.MARK}, calm=True).live(700)
    lost = range(200, 205)
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap", without=lost)))
    assert verdict.first is None
    assert not verdict.equal
    marked = next(k for k, tick in enumerate(life.ticks) if tick.tick == life.states[1][0])
    assert verdict.compared == len(life.ticks) - (marked + 1 - 200)
    (gap,) = verdict.gaps
    assert gap.startswith(f"tick {life.ticks[200].tick}: 5 ticks are not on record; {marked + 1 - 205} ticks behind it")


def test_a_chunk_that_is_not_on_record_is_named(tmp_path: Path) -> None:
    life = Life(2, {3: Order.START, 10: Order.MARK}, calm=True).live(300)
    first = next(tick for tick in life.ticks if tick.flags & (Flag.NEW_CHUNK | Flag.CHUNK_REFUSED))
    verdict = replay(read_episode(life.episode(tmp_path / "a.mcap", chunks=False)))
    assert verdict.gaps[0].startswith(f"tick {first.tick}: chunk {first.arrived} came, but is not on record")
    assert not verdict.equal


def test_what_cannot_be_replayed_says_why(tmp_path: Path) -> None:
    life = Life(2, {3: Order.START}, calm=True).live(300)
    with pytest.raises(CadenzaError, match="no state on record"):
        replay(read_episode(life.episode(tmp_path / "a.mcap", begin=100)))
    life.states.append((life.ticks[150].tick, f'{{"version": 99, "tick": {life.ticks[150].tick}}}'))
    with pytest.raises(CadenzaError, match=r"no state on record.*another version"):
        replay(read_episode(life.episode(tmp_path / "b.mcap", begin=100)))
    life.states = [(life.ticks[150].tick, "{")]
    with pytest.raises(CadenzaError, match=r"no state on record.*cannot be read"):
        replay(read_episode(life.episode(tmp_path / "d.mcap", begin=100)))
    with EpisodeWriter(tmp_path / "c.mcap", Header(machine())):
        pass
    with pytest.raises(CadenzaError, match="no ticks"):
        replay(read_episode(tmp_path / "c.mcap"))


def test_the_command_tells_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Life(2, {3: Order.START, 10: Order.MARK}).live(300)
    whole.episode(tmp_path / "good" / "a.mcap")
    assert main(["replay", str(tmp_path / "good"), "--ticks"]) == 0
    assert f"{len(whole.ticks)} of {len(whole.ticks)} ticks bit-equal" in capsys.readouterr().out
    whole.episode(tmp_path / "late" / "a.mcap", begin=100)
    assert main(["replay", str(tmp_path / "late"), "--ticks"]) == 2
    assert "no state on record" in capsys.readouterr().out
    whole.ticks[200].asked[0] += 1e-9
    whole.episode(tmp_path / "bad" / "a.mcap")
    assert main(["replay", str(tmp_path), "--ticks"]) == 1
    assert f"tick {whole.ticks[200].tick}: asked of j0: logged" in capsys.readouterr().out
