"""What a bench of learning at work makes of its records: made by hand here, so that every figure is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from cadenza.online_bench import LEARNING, QUIET, Spoken, Witness, status_of
from cadenza.online_picture import draw_online
from cadenza.online_report import LEGS, bounds, figures, find
from cadenza.picture import save
from episodes.layout import wire_type
from episodes.outcome import Outcome, Termination
from episodes.reader import Episode
from episodes.records import Driver, Mode

ZERO = 5_000_000_000_000
S = 1_000_000_000


def _episode(number: int, begins_s: float, weights: list[tuple[int, float]], late_us: float = 20.0) -> Episode:
    """Four seconds at 100 Hz: a person drives from 1.0 to 2.0; ``weights`` says which version from when on [s]."""
    ticks = np.zeros(400, dtype=wire_type(6)[0])
    times = begins_s + 0.01 * np.arange(400)
    ticks["now_ns"] = ZERO + np.rint(times * 1e9).astype(np.int64)
    ticks["deadline_ns"], ticks["woke_ns"] = ticks["now_ns"], ticks["now_ns"] + round(late_us * 1e3)
    ticks["mode"], ticks["driver"] = Mode.POLICY, Driver.POLICY
    ticks["driver"][100:200] = Driver.HUMAN
    for version, since in weights:
        ticks["weights"][times >= since] = version
    return Episode(
        path=Path(f"episode-{number:06d}.mcap"),
        joints=("a",) * 6,
        ticks=ticks,
        frames={},
        chunks=(),
        events=(),
        facts={},
        labels={},
        result={"outcome": Outcome.SUCCESS, "termination": Termination.DONE},
        attachments={},
        damage="",
    )


def _at(seconds: float) -> int:
    return ZERO + round(seconds * S)


def _took(number: int, at: float, update: int) -> tuple[int, dict]:
    return _at(at), {"event": "episode", "path": f"/x/handed/episode-{number:06d}.mcap", "update": update}


def _made(weights: int, at: float, update: int) -> tuple[int, dict]:
    return _at(at), {"event": "weights", "weights": weights, "update": update}


@pytest.fixture
def seen() -> Witness:
    """Episode 0 waits until 1 is over; 1 is taken in at 10.5, learned from at 12, and drives in episode 2."""
    return Witness(
        closed={f"episode-{k:06d}.mcap": _at(4.0 + 6.0 * k) for k in range(4)},
        phases=[(_at(0.0), QUIET), (_at(10.05), LEARNING)],
        learner=[_took(0, 10.2, 0), _took(1, 10.5, 0), _made(2, 13.1, 8), _took(2, 16.5, 9), _made(3, 19.1, 20)],
        saved={2: _at(12.0), 3: _at(18.5)},
        offered={2: _at(13.0), 3: _at(19.0)},
        tried={2: _at(13.4), 3: _at(19.3)},
        swapped={1: _at(-3.0), 2: _at(14.0), 3: _at(20.0)},
        report={"ended": "complete", "run": {"weights": {"refused": []}}},
        status={"session": 0, "learner": 130},
    )


@pytest.fixture
def episodes() -> list[Episode]:
    return [
        _episode(0, 0.0, [(1, 0.0)]),
        _episode(1, 6.0, [(1, 0.0)]),
        _episode(2, 12.0, [(1, 0.0), (2, 14.2)], late_us=50.0),
        _episode(3, 18.0, [(2, 0.0), (3, 20.1)]),
    ]


def test_the_parts_of_a_reaction_are_those_that_were_seen(seen: Witness, episodes: list[Episode]) -> None:
    found = find(seen, episodes)
    first, second = found.reactions
    assert (first.episode, first.weights) == ("episode-000001", 2)
    assert [round(first.legs[leg], 3) for leg in LEGS] == [0.5, 1.5, 1.0, 0.4, 0.6, 0.2]
    assert first.total_s == pytest.approx(4.2)
    # The second was taken in at update 9, so weights of update 8 have learned nothing from it.
    assert (second.episode, second.weights) == ("episode-000002", 3)
    assert second.total_s == pytest.approx(4.1)


def test_episodes_name_who_drove(seen: Witness, episodes: list[Episode]) -> None:
    found = find(seen, episodes)
    assert [one.versions for one in found.episodes] == [(1,), (1,), (1, 2), (2, 3)]
    assert [one.phase for one in found.episodes] == [QUIET, QUIET, LEARNING, LEARNING]
    assert all(one.hand_s == pytest.approx(0.99) for one in found.episodes)
    assert found.swaps == ((2, 14.0), (3, 20.0))
    assert len(found.lateness_us[QUIET]) == len(found.lateness_us[LEARNING]) == 800
    assert len(found.lateness_us["around swaps"]) == 2 * 200 + 1
    assert figures(found, seen)["lateness_us"][LEARNING]["p50"] == pytest.approx(35.0, abs=15.1)


def test_a_sound_run_keeps_every_bound(seen: Witness, episodes: list[Episode], tmp_path: Path) -> None:
    found = find(seen, episodes)
    kept = bounds(found, seen)
    assert all(bound.held for bound in kept), kept
    save(draw_online(found, kept), tmp_path / "online.png")
    assert (tmp_path / "online.png").stat().st_size > 10_000


def _broken(seen: Witness, episodes: list[Episode]) -> list[str]:
    return [bound.name for bound in bounds(find(seen, episodes), seen) if not bound.held]


def test_each_bound_can_be_broken(seen: Witness, episodes: list[Episode]) -> None:
    episodes[3].ticks["skipped"][5] = 1
    assert _broken(seen, episodes) == ["ticks missed with learner and swaps"]
    episodes[0].ticks["skipped"][5] = 1  # as many without: then it is the machine
    assert _broken(seen, episodes) == []
    seen.report["run"]["weights"]["refused"] = ["weights 4: too far"]
    assert _broken(seen, episodes) == ["swaps refused"]
    seen.report["run"]["weights"]["refused"] = []
    seen.status["learner"] = -9
    assert _broken(seen, episodes) == ["both ended in order"]
    seen.status["learner"] = 130
    episodes[3].ticks["weights"] = 1
    assert _broken(seen, episodes) == ["weight versions that drove", "episodes driven by older weights than there were"]


def test_nothing_learned_is_no_crash(seen: Witness, episodes: list[Episode]) -> None:
    seen.saved, seen.offered, seen.tried, seen.swapped, seen.learner = {}, {}, {}, {}, []
    for episode in episodes:
        episode.ticks["weights"] = 1
    found = find(seen, episodes)
    assert found.reactions == ()
    draw_online(found, bounds(found, seen))
    assert figures(found, seen)["reaction_s"] == {}


def test_a_command_is_heard_with_its_times_and_ended(tmp_path: Path) -> None:
    spoken = Spoken("help", ["weights", "--help"], tmp_path / "help.log")
    spoken.process.wait(30)
    assert spoken.stop() == 0
    lines = spoken.lines()
    assert any("cadenza weights" in line for _, line in lines)
    assert all(before <= after for (before, _), (after, _) in itertools.pairwise(lines))
    bad = Spoken("bad", ["weights", "/nowhere/at/all", "status"], tmp_path / "bad.log")
    bad.process.wait(30)
    assert bad.stop() == 2
    assert "/nowhere/at/all" in bad.why()


def test_a_folder_without_a_run_has_no_status(tmp_path: Path) -> None:
    assert status_of(tmp_path) is None
