"""``python -m cadenza.faults.live_process``: one daemon, and one live case after the other in it.

A process of its own, so that its supervisor can be stopped, and so that its disk and memory can be its own. Says a line
of JSON for each case.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.faults import rooms
from cadenza.faults.cases import Case
from cadenza.faults.live_verdicts import Line, LiveEvidence, live_judged
from cadenza.faults.strikes import Strikes, left_over
from controller.dictation import RECORDER
from controller.session import EpisodeResult, Session
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from drivers.virtual.client import SimClient
from episodes.check import check
from episodes.outcome import Termination
from episodes.reader import read_episode
from episodes.records import Mode
from export.bundle import read_bundle
from spec.errors import CadenzaError
from spec.robot import Robot

_EPISODE_S = 12.0
_AFTER_S = 0.5
"""After the last fault the policy drives on for so long [s]."""
_AGAIN_S = 0.4
_RECOVER_S = 30.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the parent wants."""

    robot: Robot
    bundle: Path
    out: Path
    furnished: bool
    """There are file systems of its own to spoil."""
    cases: tuple[Case, ...]

    @classmethod
    def read(cls, path: Path) -> Assignment:
        document = json.loads(path.read_bytes())
        return cls(
            Robot.model_validate(document["robot"]),
            Path(document["bundle"]),
            Path(document["out"]),
            bool(document["furnished"]),
            tuple(Case.of(case) for case in document["cases"]),
        )


class _Scene:
    """A judge that lets faults happen while the policy drives, and looks at the arm all the while.

    Args:
        run: the daemon.
        client: its virtual arm.
        strikes: what goes wrong; None: nothing.
        lasts_s: the policy must drive for so long without a break after the last fault [s].
    """

    def __init__(self, run: Supervisor, client: SimClient, strikes: Strikes | None, lasts_s: float) -> None:
        self._run, self._client, self._strikes, self._lasts_s = run, client, strikes, lasts_s
        self._well_s: float | None = None
        self.looks: list[tuple[float, list[float], list[bool]]] = []

    def prepare(self, episode: int) -> Mapping[str, str]:
        if self._strikes is not None:
            self._strikes.before()
        return {"episode": str(episode)}

    def success(self) -> bool:
        """Done once the policy has driven for some time after the last fault."""
        self.look()
        over = self._strikes is None or self._strikes.look()
        if not over or self._run.watch.mode is not Mode.POLICY:
            self._well_s = None
            return False
        now_s = time.monotonic()
        self._well_s = now_s if self._well_s is None else self._well_s
        return now_s - self._well_s >= self._lasts_s

    def look(self) -> None:
        """Where the arm is, and whether it is held."""
        state = self._client.state()
        joints, torque = state["joints"]["follower"], state["torque"]["follower"]
        self.looks.append((time.monotonic(), list(joints.values()), torque))


class LiveBench:
    """Plays cases in a running daemon, and is the judge of its episodes."""

    def __init__(self, run: Supervisor, client: SimClient, disk: Path, lines: list[Line]) -> None:
        self._run, self._client, self._disk, self._lines = run, client, disk, lines
        self._scene = _Scene(run, client, None, 0.0)
        self._session = Session(run, self, _EPISODE_S)
        self._closed: set[Path] = set()
        self._checked: set[Path] = set()
        self._episodes = 0

    def play(self, case: Case) -> dict[str, Any]:
        """One case; returns what the parent wants to know."""
        began_s, first = time.monotonic(), len(self._lines)
        strikes = Strikes(self._run, self._client, self._disk, case.troubles)
        scene = _Scene(self._run, self._client, strikes, _AFTER_S)
        try:
            result = self._episode(scene)
            while not strikes.look():  # an episode that broke off leaves some to come
                self._run.poll()
                scene.look()
        finally:
            strikes.mend()
        again, why = self._again(result, scene)
        scene.look()
        evidence = self._evidence(case, result, scene, strikes, tuple(self._lines[first:]), again, why)
        return {"broken": live_judged(evidence), "seconds": time.monotonic() - began_s}

    def prepare(self, episode: int) -> Mapping[str, str]:
        return self._scene.prepare(episode)

    def success(self) -> bool:
        return self._scene.success()

    def _episode(self, scene: _Scene) -> EpisodeResult:
        self._scene = scene
        result = self._session.episode(self._episodes)
        self._episodes += 1
        if result.path is not None:  # said to be closed; whether it is on the disk is for the verdict to see
            self._closed.add(result.path)
        return result

    def _again(self, result: EpisodeResult, scene: _Scene) -> tuple[bool, str]:
        """Whether the policy drives, once all is well and the operator has said so."""
        if result.termination is Termination.DONE:
            return True, ""
        if result.termination in {Termination.FAULT, Termination.CONTROL_DIED}:
            refusal = self._run.recover(_RECOVER_S)
            if refusal is not None:
                return False, refusal
        check_scene = _Scene(self._run, self._client, None, _AGAIN_S)
        after = self._episode(check_scene)
        scene.looks += check_scene.looks
        return after.termination is Termination.DONE, f"the next episode ended by {after.termination.value}"

    def _recover(self) -> None:
        """Recordings that nobody could close, on a full disk perhaps: as the next run would, or the operator."""
        known = len(self._run.recorder.recovered)
        if left_over(self._run.episodes_folder):
            self._run.recorder.recover()
        self._closed |= {item.episode for item in self._run.recorder.recovered[known:] if item.episode is not None}

    def _evidence(
        self,
        case: Case,
        result: EpisodeResult,
        scene: _Scene,
        strikes: Strikes,
        lines: tuple[Line, ...],
        again: bool,
        why: str,
    ) -> LiveEvidence:
        self._recover()
        path = result.path if result.path is not None and result.path.exists() else None
        ticks = None if path is None else read_episode(path, cameras=()).ticks
        fresh = self._closed - self._checked
        self._checked |= fresh
        missing = [path for path in self._closed if not path.exists()] + left_over(self._run.episodes_folder)
        lost_ms = None
        if RECORDER in strikes.killed_ns and ticks is not None and len(ticks):
            lost_ms = (_recorded_until_ns(case, strikes) - int(ticks["now_ns"][-1])) * 1e-6
        looks = scene.looks
        return LiveEvidence(
            case,
            self._run.robot,
            ticks,
            result.termination,
            lines,
            np.array([at for at, _, _ in looks]),
            np.array([joints for _, joints, _ in looks]),
            np.array([torque for _, _, torque in looks], dtype=np.bool_),
            {path: check(path) for path in sorted(fresh) if path.exists()},
            tuple(missing),
            lost_ms,
            again,
            tuple(strikes.struck_ns.get(index, 0) for index in range(len(case.troubles))),
            tuple(strikes.watched_s(index) for index in range(len(case.troubles))),
            why,
        )


def work(assignment: Assignment) -> None:
    """All cases, in as few daemons as it takes: a daemon that does not recover is replaced."""
    if assignment.furnished:
        rooms.furnish(assignment.out)
    left = list(assignment.cases)
    with VirtualRobot(assignment.robot, 0) as virtual:
        bundle, number = read_bundle(assignment.bundle), 0
        while left:
            lines: list[Line] = []
            out = assignment.out / f"daemon-{number}"
            number += 1
            with Supervisor(
                virtual.robot,
                policy_source(bundle),
                out,
                _noted_in(lines),
                bundle=bundle,
                teleop=virtual.robot.teleop is not None,
            ) as run:
                bench = LiveBench(run, virtual.client, assignment.out, lines)
                while left:
                    case = left.pop(0)
                    try:
                        found = bench.play(case)
                    except CadenzaError as error:
                        found = {"broken": {"recovery": [str(error)]}, "seconds": 0.0}
                    _say({"number": case.number, **found})
                    if run.interrupted:
                        return
                    if "recovery" in found["broken"]:
                        break


def _recorded_until_ns(case: Case, strikes: Strikes) -> int:
    """When the killed recorder last ran [ns]: one that was stopped and not woken before its end wrote nothing since."""
    killed_ns = strikes.killed_ns[RECORDER]
    stops = [
        strikes.struck_ns[index]
        for index, trouble in enumerate(case.troubles)
        if trouble.kind in {"stop_recorder", "hang_recorder"} and strikes.was_there(index, killed_ns)
    ]
    return min([killed_ns, *stops])


def _noted_in(lines: list[Line]) -> Callable[[str], None]:
    return lambda text: lines.append((time.monotonic_ns(), text))


def _say(document: Mapping[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    try:
        work(Assignment.read(Path(sys.argv[1])))
    except (CadenzaError, OSError) as error:
        _say({"error": str(error)})
        os._exit(1)
