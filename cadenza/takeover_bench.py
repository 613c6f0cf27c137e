"""A policy at work on the virtual arm, and a scripted hand that takes it away and gives it back, again and again.

Everything is real but the world: the processes of a run, the leader on its bus, a foot pedal on a named pipe, the hand
that pulls at the leader with forces. What came of it is for :mod:`cadenza.takeovers` to find in the episodes.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from cadenza.takeovers import HAND, OFF, ON, Means
from controller.supervisor import Supervisor
from drivers.virtual import SimClient
from episodes.outcome import Outcome, Termination
from episodes.records import Mode, Order, TickRecord
from spec.arrays import Float
from spec.errors import CadenzaError
from spec.robot import Key, Robot

PEDAL = {"KEY_A": Key.TAKE, "KEY_B": Key.RELEASE}
_CODES = {Key.TAKE: 30, Key.RELEASE: 48}
"""KEY_A and KEY_B of linux/input-event-codes.h."""
_EVENT = struct.Struct("@llHHi")
_EV_SYN, _EV_KEY = 0, 1
PER_EPISODE = 20
"""Takeovers in one recording."""
_PULLED = (("wrist_flex", "wrist_roll"), ("shoulder_pan", "elbow_flex"))
"""Where the hand pulls to take the arm by force: at one joint of each, as nobody can pull at one alone."""
_PATIENCE_S = 20.0
_NOTICED_S = 1.5
"""A pull that nobody notices for so long is given up."""
_LOW, _HIGH = "shoulder_lift", 0.5


class TakeoverBench:
    """Takes the arm over and gives it back on a started supervisor.

    Args:
        run: entered; its robot has the pedal of :data:`PEDAL` at ``pedal``.
        client: of the virtual arm.
        pedal: named pipe.
        seed: of everything random.
    """

    def __init__(self, run: Supervisor, client: SimClient, pedal: Path, seed: int) -> None:
        self._run, self._client = run, client
        self._rng = np.random.default_rng(seed)
        # For reading too, so that opening does not wait for the other end.
        self._pedal = os.open(pedal, os.O_RDWR | os.O_NONBLOCK)
        self._scene = seed
        self._names = run.robot.follower.names
        self.episodes: list[Path] = []
        """Recordings that were begun; what came of one that was given up is for whoever reads it to say."""
        self._recording = False
        self.unnoticed = 0
        """Pulls that did not take the arm."""

    def close(self) -> None:
        """Take the foot off the pedal."""
        os.close(self._pedal)

    def perform(self, takeovers: int, done: Callable[[int], None]) -> None:
        """So many takeovers, in recordings of :data:`PER_EPISODE`.

        Raises:
            CadenzaError: the arm faulted, or a process is gone.
            KeyboardInterrupt: somebody wants the end.
        """
        means = [list(Means)[number % len(Means)] for number in range(takeovers)]
        finished = 0
        for first in range(0, takeovers, PER_EPISODE):
            for _ in self.episode(means[first : first + PER_EPISODE]):
                finished += 1
                done(finished)

    def episode(self, means: Iterable[Means]) -> Iterator[Means]:
        """One recording: a takeover by each of ``means``, which is asked for when the policy is to lose the arm.

        Yields each that has come about. Raises as :meth:`perform`; :meth:`give_up` then.
        """
        self._open()
        for one in means:
            self._takeover(one)
            yield one
        self.wait(float(self._rng.uniform(0.5, 1.0)))
        self._close()

    def give_up(self) -> None:
        """Let go of everything and close the recording that was begun, if one was; raises as :meth:`perform`."""
        self._hand_off()
        self._run.order(Order.RELEASE)
        self._close()

    # -- recordings

    def _open(self) -> None:
        run, path = self._run, self._run.episodes_folder / f"episode-{len(self.episodes):06d}.mcap"
        run.order(Order.HOME)
        self._until(lambda: run.watch.mode is Mode.HOLD and run.watch.speed() < 1e-3, "reach the start pose")
        self._new_scene()
        if not run.recorder.open(path, {"task": "push", "source": "takeover bench"}):
            raise CadenzaError(f"{run.out}: no room to record")
        self.episodes.append(path)  # also if that is never heard of again: the name is not used twice
        self._recording = True
        self._answer("opened")
        run.order(Order.MARK)
        self._note(OFF)
        run.order(Order.START)
        run.follow(True)

    def _close(self) -> None:
        run = self._run
        run.follow(False)
        run.order(Order.HOLD)
        self._until(lambda: run.watch.mode is Mode.HOLD and run.watch.speed() < 1e-3, "come to rest")
        if self._recording:
            self._recording = False
            run.recorder.close(Outcome.UNLABELLED, Termination.OPERATOR, {})
            self._answer("closed")

    def _answer(self, kind: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            said = {answer["kind"] for answer in self._poll()}
            if kind in said:
                return
            if said & {"failed", "died"}:
                break
        raise CadenzaError(f"recorder: did not say {kind}")

    # -- one takeover

    def _takeover(self, means: Means) -> None:
        self._policy_drives()
        match means:
            case Means.FORCE:
                self._pull()
            case Means.ORDER:
                self._run.order(Order.TAKE_OVER)
            case Means.BUTTON:
                self._press(Key.TAKE)
        if not self._person_drives(_NOTICED_S):
            raise CadenzaError(f"takeover by {means}: not noticed within {_NOTICED_S} s")
        self._move_about()
        if self._rng.random() < 0.5:
            self._run.order(Order.RELEASE)
        else:
            self._press(Key.RELEASE)
        self._until(lambda: not self._run.watch.human, "give the arm back")
        self.wait(float(self._rng.uniform(0.1, 0.4)))  # nobody lets go in the same instant
        self._hand_off()

    def _policy_drives(self) -> None:
        """For a random while, with something to do, and the leader where the arm is."""
        if self._client.state()["success"] or self._rng.random() < 0.2:
            self._new_scene()
        run = self._run
        self._until(lambda: run.watch.mode is Mode.POLICY and self._leader_mirrors(), "let the policy drive")
        self.wait(float(self._rng.uniform(0.6, 1.6)))
        self._until(lambda: run.watch.mode is Mode.POLICY and self._leader_mirrors(), "let the policy drive")

    def _leader_mirrors(self) -> bool:
        assert self._run.robot.teleop is not None  # noqa: S101  the bench has a leader
        tick, apart = self._apart()
        return bool(np.isfinite(tick.human_goal[0]) and apart.max() < 0.6 * self._run.robot.teleop.align_rad)

    def _apart(self) -> tuple[TickRecord, Float]:
        """The newest tick, and how far the leader was then from where the arm was to be, by joint [rad]."""
        tick = self._run.watch.tick
        assert tick is not None  # noqa: S101  it drives
        apart: Float = np.abs(np.array(tick.human[:]) - np.array(tick.limited[:]))[: len(self._names)]
        return tick, apart

    def _standing(self) -> str:
        if self._run.watch.tick is None:
            return "no tick was heard of"
        tick, apart = self._apart()
        mirrors = "mirrors" if np.isfinite(tick.human_goal[0]) else "does not mirror"
        where = f"{apart.max():.3f} rad from the arm ({self._names[int(apart.argmax())]})"
        return f"{Mode(tick.mode).name}, the leader {mirrors}, {where}"

    def _pull(self) -> None:
        """Pull at some joint until the arm gives way; somewhere else if it does not."""
        while True:
            here, rng = self._leader(), self._rng
            joints = [str(rng.choice(names)) for names in _PULLED]
            way = float(rng.uniform(0.15, 0.4))
            aim = {name: here[name] + float(rng.choice((-1.0, 1.0))) * way for name in joints}
            self._hand(aim, way / float(rng.uniform(0.25, 0.8)))
            if self._person_drives(_NOTICED_S):
                return
            self._hand_off()
            self.unnoticed += 1
            self._policy_drives()

    def _move_about(self) -> None:
        """Hold on to the leader and take it somewhere, not into the table."""
        here, rng = self._leader(), self._rng
        aim = {
            name: here[name] + float(rng.uniform(-0.35, 0.35)) for name in ("shoulder_pan", "wrist_flex", "wrist_roll")
        }
        aim[_LOW] = min(here[_LOW] + float(rng.uniform(0.05, 0.25)), _HIGH)
        limits = self._run.robot.follower.joints
        aim = {name: float(np.clip(angle, *limits[name].position)) for name, angle in aim.items()}
        self._hand(aim, float(rng.uniform(0.6, 1.1)))
        self.wait(float(rng.uniform(0.6, 1.2)))

    def _hand(self, joints: dict[str, float], seconds: float) -> None:
        self._note(ON)
        self._client.hand(joints, seconds)

    def _hand_off(self) -> None:
        self._client.hand(None)
        self._note(OFF)

    def _press(self, key: Key) -> None:
        """Down and up again, as a foot does."""
        for value in (1, 0):
            os.write(self._pedal, _EVENT.pack(0, 0, _EV_KEY, _CODES[key], value) + _EVENT.pack(0, 0, _EV_SYN, 0, 0))
            self.wait(0.06)

    def _leader(self) -> dict[str, float]:
        return dict(self._client.state()["joints"]["leader"])

    def _new_scene(self) -> None:
        self._scene += 1
        self._client.reset(self._scene)

    def _note(self, text: str) -> None:
        self._run.note(HAND, text)

    # -- time

    def _person_drives(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._poll()
            if self._run.watch.human:
                return True
        return False

    def _until(self, done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        self._poll()
        while not done():
            self._poll()
            if time.monotonic() > until:
                standing = self._standing()
                raise CadenzaError(f"takeover bench: the arm did not {what} within {_PATIENCE_S:.0f} s: {standing}")

    def wait(self, seconds: float) -> None:
        """Let whoever drives go on."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._poll()

    def _poll(self) -> list[dict[str, object]]:
        said = self._run.poll()
        if self._run.interrupted:
            raise KeyboardInterrupt
        if not self._run.driving:
            raise CadenzaError("control: the process is gone")
        if self._run.watch.mode is Mode.FAULT:
            raise CadenzaError(f"takeover bench: {(self._run.watch.tally.faults or ['the arm faulted'])[-1]}")
        return said


def with_pedal(robot: Robot, pedal: Path) -> Robot:
    """The robot with the bench's foot pedal; its named pipe is made."""
    assert robot.teleop is not None  # noqa: S101  the command refuses robots without
    os.mkfifo(pedal)
    teleop = robot.teleop.model_copy(update={"buttons": {**robot.teleop.buttons, str(pedal): dict(PEDAL)}})
    return robot.model_copy(update={"teleop": teleop})
