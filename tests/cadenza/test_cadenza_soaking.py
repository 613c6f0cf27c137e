"""The soak's judgement: what a record must show to be sound, and what breaks it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.cli import main
from cadenza.commands import bench_soak
from cadenza.soaking.drift import Slack, chance_of_higher, compared
from cadenza.soaking.findings import find
from cadenza.soaking.histogram import Histogram, together
from cadenza.soaking.housekeeper import Shelf
from cadenza.soaking.journal import JOURNAL_FILE
from cadenza.soaking.picture import draw_soak
from cadenza.soaking.processes import usage
from cadenza.soaking.verdict import bounds, figures
from spec.errors import SpecError

HOUR_S, BLOCKS = 3600.0, 60


def _record(folder: Path, change: Callable[[list[dict[str, Any]]], None] = lambda _notes: None) -> Path:
    """An hour in which all went well, but for ``change``."""
    rng = np.random.default_rng(3)
    notes: list[dict[str, Any]] = [
        {"kind": "begin", "s": 0.0, "wanted_s": HOUR_S, "blocks": BLOCKS, "rate_hz": 200.0, "cores": 2}
    ]
    for block in range(BLOCKS):
        late = Histogram()
        late.add(rng.lognormal(3.2, 0.4, 2000))
        ends_s = 60.0 * (block + 1)
        for look in range(6):
            used = {"rss_mb": 100.0 + rng.normal(0, 0.2), "descriptors": 20, "threads": 3}
            notes.append(
                {
                    "kind": "sample",
                    "s": ends_s - 60 + 10 * look,
                    "processes": {"control": dict(used), "inference": dict(used)},
                    "segments": 12,
                    "faults": 0,
                    "restarts": {},
                }
            )
        notes.append({"kind": "takeover", "s": ends_s - 20, "means": "force"})
        notes.append({"kind": "offer", "s": ends_s - 15, "weights": block + 2})
        notes.append({"kind": "swap", "s": ends_s - 10, "weights": block + 2})
        notes.append(
            {"kind": "episode", "s": ends_s, "path": f"{block}.mcap", "wrong": [], "bytes": 1, "seconds": 60.0}
        )
        notes.append(
            {
                "kind": "block",
                "s": ends_s,
                "seconds": 60.0,
                "missed": int(rng.integers(0, 3)),
                "lost": 0,
                "max_us": 900.0,
                "bins": late.as_dict(),
                "ours": 1.0,
                "others": 0.1,
            }
        )
    notes.append(
        {"kind": "end", "s": HOUR_S, "lasted_s": HOUR_S, "recorded": BLOCKS, "interrupted": False, "report": {}}
    )
    change(notes)
    (folder / JOURNAL_FILE).write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
    return folder


def _broken(folder: Path) -> list[str]:
    return [bound.name for bound in bounds(find(folder)) if not bound.held]


def _of(notes: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [note for note in notes if note["kind"] == kind]


def test_a_sound_hour_keeps_every_bound(tmp_path: Path) -> None:
    found = find(_record(tmp_path))
    assert [bound.name for bound in bounds(found) if not bound.held] == []
    assert json.loads(json.dumps(figures(found)))["memory_mb"]["control"]["growth"] == pytest.approx(0.0, abs=0.01)


def _leak(notes: list[dict[str, Any]]) -> None:
    for note in _of(notes, "sample"):
        note["processes"]["inference"]["rss_mb"] += note["s"] / HOUR_S * 8.0


def _descriptors(notes: list[dict[str, Any]]) -> None:
    for note in _of(notes, "sample"):
        note["processes"]["control"]["descriptors"] += int(note["s"] / 600)


def _later_and_later(notes: list[dict[str, Any]]) -> None:
    for note in _of(notes, "block"):
        late = Histogram()
        late.add(np.random.default_rng(int(note["s"])).lognormal(3.2 + note["s"] / HOUR_S, 0.4, 2000))
        note["bins"] = late.as_dict()


def _lost(notes: list[dict[str, Any]]) -> None:
    _of(notes, "block")[7]["lost"] = 1


def _dropped(notes: list[dict[str, Any]]) -> None:
    _of(notes, "episode")[7]["wrong"] = ["dropped: 3 of ticks"]


def _missing(notes: list[dict[str, Any]]) -> None:
    notes.remove(_of(notes, "episode")[7])


def _fault(notes: list[dict[str, Any]]) -> None:
    _of(notes, "sample")[-1]["faults"] = 1


def _restart(notes: list[dict[str, Any]]) -> None:
    _of(notes, "sample")[-1]["restarts"] = {"inference": 1}


def _no_swaps(notes: list[dict[str, Any]]) -> None:
    for note in _of(notes, "swap")[:5]:
        notes.remove(note)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (_leak, {"memory growth"}),
        (_descriptors, {"descriptors, threads, segments"}),
        (_later_and_later, {"lateness p50", "lateness p99", "lateness p99.9"}),
        (_lost, {"ticks lost on the way"}),
        (_dropped, {"episodes with drops", "episodes closed and sound"}),
        (_missing, {"episodes closed and sound"}),
        (_fault, {"faults"}),
        (_restart, {"restarts"}),
        (_no_swaps, {"swaps"}),
    ],
)
def test_whatever_is_wrong_breaks_its_own_bound(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], names: set[str]
) -> None:
    assert set(_broken(_record(tmp_path, change))) == names


def test_a_killed_soak_is_judged_for_what_it_had(tmp_path: Path) -> None:
    folder = _record(tmp_path, lambda notes: notes.__delitem__(-1))
    with (folder / JOURNAL_FILE).open("a") as file:
        file.write('{"kind": "blo')
    assert _broken(folder) == ["lasted"]


def test_a_soak_that_was_killed_at_once_is_judged_too(tmp_path: Path) -> None:
    folder = _record(tmp_path, lambda notes: notes.__delitem__(slice(1, None)))
    assert {"lasted", "memory growth", "ticks lost on the way"} <= set(_broken(folder))
    draw_soak(find(folder), bounds(find(folder)))


def test_the_command_judges_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_soak.main(["--judge", str(_record(tmp_path)), "--json"]) == 0
    assert all(json.loads(capsys.readouterr().out)["bounds"].values())
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    with pytest.raises(SpecError, match="not the folder of a soak"):
        bench_soak.main(["--judge", str(tmp_path / "none")])


def test_one_burst_is_no_drift_and_a_small_shift_is_none_either() -> None:
    slack = Slack(0.25, 20.0)
    calm = [100.0, 103.0, 98.0, 101.0, 99.0, 104.0, 97.0, 102.0, 100.5, 99.5]
    assert compared(calm, [*calm[:-2], 5000.0, 9000.0], slack).held
    assert compared(calm, [value + 10 for value in calm], slack).held
    assert not compared(calm, [2 * value for value in calm], slack).held
    assert compared([2 * value for value in calm], calm, slack).held  # earlier is no fault


def test_the_chance_of_ranks_is_that_of_the_tables() -> None:
    """Mann and Whitney 1947, table: U = 3 of 5 against 5 has a one-sided probability of 7 in 252."""
    first, last = [1.0, 2.0, 3.0, 4.0, 7.5], [5.0, 6.0, 7.0, 8.0, 9.0]
    assert chance_of_higher(first, last) == pytest.approx(7 / 252, abs=0.004)
    assert chance_of_higher([1.0] * 5, [1.0] * 5) == 1.0


def test_percentiles_of_a_histogram_are_those_of_the_ticks() -> None:
    late = np.random.default_rng(1).lognormal(3.0, 1.0, 20_000)
    parts = [Histogram(), Histogram()]
    for part, values in zip(parts, np.array_split(late, 2), strict=True):
        part.add(values)
    whole = Histogram.from_dict(together(parts).as_dict())
    assert whole.ticks == 20_000
    for share in (50.0, 99.0, 99.9):
        assert whole.percentile(share) == pytest.approx(np.percentile(late, share), rel=0.03)


def test_only_the_newest_sound_recordings_stay_and_the_broken_ones(tmp_path: Path) -> None:
    shelf = Shelf(keep=2)
    files = [tmp_path / f"{number}.mcap" for number in range(5)]
    for number, file in enumerate(files):
        file.touch()
        shelf.add(file, sound=number != 1)
    assert [file.name for file in files if file.exists()] == ["1.mcap", "3.mcap", "4.mcap"]


def test_a_process_is_seen_while_it_lives() -> None:
    used = usage(os.getpid())
    assert used is not None
    assert used.rss_mb > 1.0
    assert used.threads >= 1
    assert used.descriptors > 2
    assert usage(2**22 + 1) is None


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--minutes", "inf"], "--minutes: inf: from 0.5 to 10080"),
        (["--minutes", "1e308"], "--minutes: 1e+308: from 0.5 to 10080"),
        (["--minutes", "nan"], "--minutes: nan: from 0.5 to 10080"),
        (["--keep", "99999999999999"], "--keep: 99999999999999: from 1 to 100000"),
    ],
)
def test_a_soak_without_end_is_refused(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "soak", "--config", "nowhere.yaml", *argv]) == 2
    assert capsys.readouterr().err == f"cadenza bench: {says}\n"
