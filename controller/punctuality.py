"""Whether the loop keeps what its certificate promises, told when that changes."""

from __future__ import annotations

from collections import deque

from controller.certificate import Certificate, demand, read_certificate
from controller.watch import RECENT_NS, Watch
from spec.errors import CadenzaError
from spec.robot import Realtime, Robot

_LOOK_S = 1.0
_LOOKS = round(RECENT_NS * 1e-9 / _LOOK_S)
"""Looks that cover what is remembered of lateness."""


class Punctuality:
    """Compares the last seconds of a run with its certificate, once a second.

    A rate is never changed while the arm moves: the tick is what the envelope's limits, the bounds of the ladder and
    the servos' watchdog are counted in. What can be done about a machine that is not what it was is for a person to
    decide, so a departure is told, not acted on.

    Args:
        certificate: that covers this run; None without one.
        lacking: why there is none.
    """

    def __init__(self, certificate: Certificate | None, lacking: str = "") -> None:
        self._certificate, self._lacking = certificate, lacking
        self._counts: deque[tuple[int, int]] = deque(maxlen=_LOOKS + 1)
        self._looked_s = 0.0
        self._within = 0
        self.departure: str | None = None
        """In which way the loop leaves its certificate now; None where it does not, or nobody can tell."""

    @classmethod
    def of(cls, robot: Robot) -> Punctuality:
        """For a run of this robot.

        Raises:
            CadenzaError: real time is enforced, and no valid certificate is there.
        """
        if robot.control.realtime is Realtime.ENFORCE:
            return cls(demand(robot))
        try:
            certificate = read_certificate(robot)
            lacking = "none was made" if certificate is None else certificate.valid_for(robot)
        except CadenzaError as error:
            certificate, lacking = None, f"one cannot be used: {error}"
        return cls(certificate) if lacking is None else cls(None, lacking)

    def look(self, watch: Watch, now_s: float) -> str | None:
        """A line where the loop leaves its certificate, or is back: it kept it for as long again as is looked at."""
        if self._certificate is None or now_s < self._looked_s + _LOOK_S:
            return None
        self._looked_s = now_s
        self._counts.append((watch.tally.ticks, watch.tally.late_periods))
        if len(self._counts) <= _LOOKS:  # what the start of the processes cost says nothing
            return None
        (ticks, missed), (then_ticks, then_missed) = self._counts[-1], self._counts[0]
        found = self._certificate.departure(watch.recent_lateness(), missed - then_missed, ticks - then_ticks)
        self._within = 0 if found is not None else self._within + 1
        if found is not None and self.departure is None:
            self.departure = found
            return f"timing leaves its certificate: {found}"
        if found is None and self.departure is not None and self._within > _LOOKS:
            self.departure = None
            return "timing is back within its certificate"
        self.departure = found or self.departure
        return None

    @property
    def status(self) -> str:
        """In a line."""
        if self._certificate is None:
            return f"no certificate: {self._lacking}"
        held = "the arm held" if self._certificate.drove == "nothing" else f"driven by a {self._certificate.drove}"
        made = f"certified on {self._certificate.made} in {self._certificate.minutes:g} min, {held}"
        return f"{made}, within it" if self.departure is None else f"{made}, left it: {self.departure}"
