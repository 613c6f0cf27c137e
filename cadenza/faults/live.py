"""Live cases, seen from the command: what is left out and why, the daemon's process, and its verdicts as they come."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cadenza.commanded import perform
from cadenza.faults import rooms
from cadenza.faults.campaign import Result
from cadenza.faults.cases import Case
from cadenza.faults.kinds import IN_MEMORY, ON_DISK
from spec.errors import CadenzaError
from spec.robot import Robot

_END_S = 20.0


@dataclass(frozen=True, slots=True)
class Live:
    """What live cases need, made before the first case of all: a policy that cannot drive is known by then.

    Args:
        cases: those that can be played here.
        out: their folder; the bundle that drives is in it.
        furnished: there are file systems of one's own.
        left_out: what cannot be played, and why.
    """

    cases: Sequence[Case]
    out: Path
    furnished: bool
    left_out: Sequence[str]

    @property
    def bundle(self) -> Path:
        return self.out / "bundle"


def prepare_live(cases: Sequence[Case], checkpoint: Path, out: Path, console: Console) -> Live:
    """Say what has to be left out, and export the policy.

    Raises:
        CadenzaError: it cannot be exported.
    """
    why_not = rooms.can_mount()
    left_out = []
    if why_not is not None:
        spoilt = [case for case in cases if any(t.kind in ON_DISK | IN_MEMORY for t in case.troubles)]
        cases = [case for case in cases if case not in spoilt]
        if spoilt:
            kinds = ", ".join(sorted(ON_DISK | IN_MEMORY))
            left_out.append(f"{len(spoilt)} live cases with {kinds}: no file system of one's own here ({why_not})")
            console.print(left_out[-1], markup=False, highlight=False, soft_wrap=True)
    live = Live(cases, out, why_not is None, left_out)
    if cases and not live.bundle.exists():
        console.print(f"exporting {checkpoint}", highlight=False)
        try:
            perform("export", str(checkpoint), "--out", str(live.bundle))
        except CadenzaError as error:
            raise CadenzaError(f"--checkpoint: {error}") from None
    return live


def play_live(live: Live, robot: Robot, done: Callable[[Result], None]) -> None:
    """Play live cases one after the other; ``done`` hears of each.

    Raises:
        CadenzaError: the daemon does not come up, or broke off.
    """
    if not live.cases:
        return
    out = live.out
    assignment = out / "assignment.json"
    document = {
        "robot": robot.model_dump(mode="json"),
        "bundle": str(live.bundle.resolve()),
        "out": str((out / "runs").resolve()),
        "furnished": live.furnished,
        "cases": [case.as_dict() for case in live.cases],
    }
    assignment.write_text(json.dumps(document), encoding="utf-8")
    command = [sys.executable, "-m", "cadenza.faults.live_process", str(assignment)]
    words = out / "daemon.log"
    by_number = {case.number: case for case in live.cases}
    with (
        words.open("wb") as complaints,
        subprocess.Popen(
            [*(rooms.UNSHARE if live.furnished else ()), *command],
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C is the parent's: the daemon is ended in order
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101  it was asked for
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "error" in said:
                    raise CadenzaError(f"live cases: {said['error']}; see {words}")
                case = by_number.pop(said["number"])
                done(Result(case, said["broken"], (), said["seconds"]))
        finally:
            _end(process)
    if by_number:
        raise CadenzaError(f"live cases: the daemon broke off with {len(by_number)} cases to go; see {words}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
