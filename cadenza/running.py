"""What every way to run a policy has in common: the arm, the processes around it and the session on top, started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cadenza.judge import VirtualJudge
from controller.exploration import Exploration
from controller.notify import Notify
from controller.session import Judge, NoJudge, Session
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from episodes.outcome import Termination
from episodes.schema.cadenza_pb2 import Event
from export.bundle import Bundle
from spec.calibration import load_calibration
from spec.errors import SpecError
from spec.manifest import check_fit
from spec.robot import Robot

ENDS_THE_RUN = {
    Termination.OPERATOR,
    Termination.ERROR,
    Termination.FAULT,
    Termination.CONTROL_DIED,
    Termination.DISK_FULL,
}
"""After these, going on is for a person to decide."""
RECOVERABLE = {Termination.FAULT, Termination.CONTROL_DIED}
"""After these it goes on once somebody says that the cause is gone: cadenza recover."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run, as it was asked for."""

    robot: Robot
    """Checked robot file; a virtual arm in it is started."""
    bundle: Bundle
    """Verified."""
    out: Path
    """Folder of the run."""
    episode_seconds: float
    """Time limit of an episode [s]."""
    teleop: bool = False
    """A person may take the arm over; thresholds of the leader are known."""
    follow: Path | None = None
    """Shelf whose newest bundle is to drive."""
    explore: Exploration | None = None
    """How the policy explores; None: not at all."""

    def check(self) -> None:
        """Refuse what cannot be run, before anything is started.

        Raises:
            CadenzaError: something is missing or does not fit.
        """
        if self.out.exists() and not self.out.is_dir():
            raise SpecError("--out", str(self.out), "is a file, not a folder")
        check_fit(self.bundle.manifest, self.robot, load_calibration(self.robot.follower).digest())


@contextmanager
def started(
    wanted: Wanted,
    say: Callable[[str], None],
    *,
    notify: Notify | None = None,
    witness: Callable[[Event], None] | None = None,
) -> Iterator[tuple[Supervisor, Session]]:
    """Everything a session needs, ended in order afterwards.

    Args:
        wanted: checked.
        say: takes one line for the person watching.
        notify: of the service manager that started this; the run is a service then, which ends after an episode.
        witness: see :class:`controller.supervisor.Supervisor`.

    Raises:
        CadenzaError: something is missing or does not fit; nothing has moved then.
    """
    wanted.check()
    robot = wanted.robot
    with ExitStack() as stack:
        judge: Judge = NoJudge()
        if robot.virtual is not None:
            seed = robot.virtual.seed
            virtual = stack.enter_context(VirtualRobot(robot, seed))
            robot, judge = virtual.robot, VirtualJudge(virtual.client, seed)
        supervisor = stack.enter_context(
            Supervisor(
                robot,
                policy_source(wanted.bundle, wanted.explore),
                wanted.out,
                say,
                bundle=wanted.bundle,
                follow=wanted.follow,
                teleop=wanted.teleop,
                patient=notify is not None,
                notify=notify,
                witness=witness,
            )
        )
        yield supervisor, Session(supervisor, judge, wanted.episode_seconds)
