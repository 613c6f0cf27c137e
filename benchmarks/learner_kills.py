"""What kill -9 costs the learner: nothing but time.

A small learner (benchmarks.stand_ins.learner) is killed again and again: at any instant, and in front of any of its own
file operations, that is, inside taking in, saving and publishing; new episodes come meanwhile. What it ends with is
compared, bit for bit, with a run that nobody killed and that was given the same journal.

python -m benchmarks.learner_kills        twenty of them; exit status 1 where anything differs
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np

from benchmarks.stand_ins.learner import Task, run, write_episode
from learning.checkpoint import read_tensors
from learning.online.journal import JOURNAL_FILE, read_journal
from learning.online.state import STATE_FILE, read_counters

KILLS = 20
_UPDATES_PER_KILL = 30
"""More than a life has time for, so that every kill finds the learner at work."""
_DEMONSTRATIONS, _FIRST = 2, 3
"""Episodes that are there at the beginning; one comes after each kill."""
_ROWS = 11
"""With an action, of an episode; as many updates are made for it."""
_OPERATIONS = 60
"""File operations of a start that a kill may stand before."""
_END_S = 300.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of all kills."""

    inside: int
    """Kills in front of a file operation."""
    saving: int
    """Of these, kills between the stores' save and the state's, with an episode that only the stores know."""
    anywhen: int
    """Kills at some instant."""
    wrong: tuple[str, ...]
    """What differs from the run that nobody killed."""


def measure(seconds: float) -> dict[str, object]:
    """Twenty kills, or fewer where less time is given."""
    outcome = crash(max(4, min(KILLS, round(seconds))))
    return {"inside": outcome.inside, "saving": outcome.saving, "anywhen": outcome.anywhen, "wrong": outcome.wrong}


def crash(kills: int, seed: int = 0) -> Outcome:
    """Kill a learner so often, let it end, and compare."""
    rng, updates = np.random.default_rng(seed), _UPDATES_PER_KILL * kills
    with tempfile.TemporaryDirectory(prefix="cadenza-learner-") as name, _forks() as forks:
        folder = Path(name)
        task = Task(folder / "killed", folder / "demonstrations", folder / "episodes", updates)
        for at in (task.demonstrations, task.episodes):
            at.mkdir()
        for number in range(_DEMONSTRATIONS):
            write_episode(task.demonstrations / f"{number:03d}.mcap", 900 + number)
        arrivals = iter(range(updates // _ROWS + 1))
        for number in (next(arrivals) for _ in range(_FIRST)):
            write_episode(task.episodes / f"{number:03d}.mcap", number)
        life_s = _until_saved(forks, task)
        inside, saving, anywhen = 0, 0, 1
        for kill in range(1, kills):
            if (coming := next(arrivals, None)) is not None:
                write_episode(task.episodes / f"{coming:03d}.mcap", coming)
            if kill % 2:
                at_save = kill % 4 == 1
                dying = replace(task, dies_saving=at_save, dies_at=0 if at_save else int(rng.integers(1, _OPERATIONS)))
                process = _start(forks, dying)
                alone = _ended(process, 4.0 * life_s)
            else:
                process = _start(forks, task)
                alone = _ended(process, float(rng.uniform(0.05, 2.0)) * life_s)
            killed = process.exitcode == -signal.SIGKILL
            inside, anywhen = inside + (killed and alone), anywhen + (killed and not alone)
            saving += killed and alone and kill % 4 == 1
        for number in arrivals:
            write_episode(task.episodes / f"{number:03d}.mcap", number)
        _to_the_end(forks, task)
        nothing_else = folder / "nothing"
        whole = Task(folder / "whole", nothing_else, nothing_else, updates)
        whole.folder.mkdir()
        shutil.copy(task.folder / JOURNAL_FILE, whole.folder / JOURNAL_FILE)
        _to_the_end(forks, whole)
        return Outcome(inside, saving, anywhen, tuple(_differences(task.folder, whole.folder)))


@contextlib.contextmanager
def _forks() -> Iterator[ForkServerContext]:
    """Processes that begin with everything imported."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["benchmarks.stand_ins.learner", "torch._dynamo"])  # which the optimisers import
    yield forks


def _start(forks: ForkServerContext, task: Task) -> ForkServerProcess:
    process = forks.Process(target=run, args=(task,))
    process.start()
    return process


def _until_saved(forks: ForkServerContext, task: Task) -> float:
    """Kill a first start when its first state is there; returns the time that took [s]."""
    begun_s, process = time.monotonic(), _start(forks, task)
    while not (task.folder / STATE_FILE).exists():
        assert process.is_alive(), "the learner failed; its last words are above"
        assert time.monotonic() - begun_s < _END_S, "the learner saves no state"
        time.sleep(0.01)
    process.kill()
    process.join()
    return time.monotonic() - begun_s


def _ended(process: ForkServerProcess, within_s: float) -> bool:
    """Whether it died by itself in that time; it is killed otherwise."""
    process.join(within_s)
    alone = not process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}, "the learner failed; its last words are above"
    return alone


def _to_the_end(forks: ForkServerContext, task: Task) -> None:
    process = _start(forks, task)
    assert _ended(process, _END_S), "the learner did not come to its end"
    assert process.exitcode == 0, "the learner failed; its last words are above"


def _differences(killed: Path, whole: Path) -> Iterator[str]:
    """What the two runs do not have in common."""
    if (one := read_counters(killed / STATE_FILE)) != (other := read_counters(whole / STATE_FILE)):
        yield f"counters: {one} and {other}"
    tensors, wanted = read_tensors(killed / STATE_FILE), read_tensors(whole / STATE_FILE)
    if tensors.keys() != wanted.keys():
        yield f"tensors: {sorted(tensors.keys() ^ wanted.keys())}"
    for name in tensors.keys() & wanted.keys():
        if tensors[name].numpy().tobytes() != wanted[name].numpy().tobytes():
            yield f"tensor {name}"
    if read_journal(killed / JOURNAL_FILE) != read_journal(whole / JOURNAL_FILE):
        yield "journal"
    shelves = [{file.name: file.read_bytes() for file in (run / "shelf").glob("[!.]*")} for run in (killed, whole)]
    if shelves[0] != shelves[1]:
        yield f"shelves: {sorted(shelves[0])} and {sorted(shelves[1])}"


def main() -> int:
    """Kill, and say what came of it."""
    begun_s = time.monotonic()
    outcome = crash(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS)
    print(
        f"{outcome.inside + outcome.anywhen} kills, {outcome.inside} of them in front of a file operation, "
        f"in {time.monotonic() - begun_s:.0f} s; state, journal and weights as without: "
        f"{'NO' if outcome.wrong else 'yes, to the bit'}"
    )
    for line in outcome.wrong:
        print(f"  {line}")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
