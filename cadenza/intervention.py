"""The last part of the demo: a scripted person steps in while the policy drives, and all that happened is replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cadenza import replay_arm, replay_ticks
from cadenza.collecting.cues import Silence
from cadenza.collecting.front import Lines, Operator
from cadenza.collecting.keys import LineKeys
from cadenza.commands.collect import Collected, Wanted, collect
from controller.collection.keeping import Keep
from controller.collection.ledger import Line
from controller.collection.machine import Plan
from episodes.outcome import Outcome
from export.bundle import Bundle
from spec.robot import Robot

TASK = "push the cube into the goal zone"
_RESET_S = 0.5


@dataclass(frozen=True, slots=True)
class Intervention:
    """One episode in which a person stepped in."""

    line: Line | None
    """None where none was saved."""
    path: Path | None
    collected: Collected

    @property
    def held(self) -> bool:
        """A person took the arm and gave it back, and the task was done in the end."""
        return self.line is not None and self.line.interventions > 0 and self.line.outcome == Outcome.SUCCESS

    @property
    def shown(self) -> str:
        if self.line is None:
            return f"none: {self.collected.ending.value}"
        return f"{self.line.outcome}, {self.line.human_seconds:.1f} s by hand"


def collect_one(robot: Robot, bundle: Bundle, out: Path, seconds: float, console: Console) -> Intervention:
    """As ``cadenza collect --bundle --hand scripted --episodes 1``, in a new folder below ``out``.

    Args:
        robot: robot file of a virtual arm with a leader.
        bundle: verified.
        out: folder of the demo.
        seconds: time limit of the episode [s].
        console: takes a line now and then.
    """
    plan = Plan(target=1, reset_s=_RESET_S, limit_s=seconds, auto_start=True, judged=True)
    wanted = Wanted(robot, bundle, _unused(out), TASK, "scripted hand", plan, Keep(), scripted=True)
    with Path("/dev/null").open(encoding="utf-8") as nothing:
        collected = collect(wanted, lambda: Operator(LineKeys(nothing, ends=False), Silence(), Lines(console)))
    lines = [Line(**{**line, "files": tuple(line["files"])}) for line in collected.report["episodes"]]
    if not lines:
        return Intervention(None, None, collected)
    return Intervention(lines[-1], wanted.out / lines[-1].files[0], collected)


def replay_every_tick(files: Sequence[Path]) -> dict[str, Any]:
    """As ``cadenza replay --ticks``."""
    return replay_ticks.run(files, Console(quiet=True))[1]


def replay_on_the_arm(file: Path, robot: Robot, out: Path) -> dict[str, Any]:
    """As ``cadenza replay --arm``."""
    return replay_arm.run(file, robot, 1.0, False, out, Console(quiet=True))[1]


def _unused(out: Path) -> Path:
    number = 0
    while (folder := out / f"intervention-{number:03d}").exists():
        number += 1
    return folder
