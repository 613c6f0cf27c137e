"""Whether a policy that is to drive says anything: while one hangs the arm holds, for no reason that anybody sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.watch import Watch
from controller.wiring.silence import Silence
from episodes.records import Flag, Mode

DRY_S = 1.0
"""Nothing from the policy for so long, while the arm holds for want of a chunk, is worth a line [s]."""


@dataclass(slots=True)
class Drought:
    """Of one run."""

    source: str
    """Process that makes the chunks."""
    _silence: Silence = field(default_factory=Silence)
    _refusals: int = 0
    _told: int | None = None
    """Chunks there had been when a person was told; None while there is nothing to take back."""
    _lacking: bool = False

    def look(self, watch: Watch, following: bool, ready: bool, now_s: float) -> str | None:
        """Let time pass; returns a line once there is something to say.

        Args:
            watch: has seen what came.
            following: the source is to make chunks.
            ready: it lives, and takes orders; one that is gone has a line of its own.
            now_s: instant [s].
        """
        self._silence.look((watch.tally.chunks, None if following and ready else now_s), now_s)
        refusals = sum(n for kind, n in watch.tally.events.items() if kind.startswith(f"{self.source}: no_chunk"))
        if self._silence.seconds == 0.0:
            self._refusals = refusals
        self._lacking = self._silence.seconds >= DRY_S and _holds(watch)
        if self._told is not None:
            again = watch.tally.chunks > self._told
            if again or not following:
                self._told = None
            return f"chunks from {self.source} again" if again else None
        if not self._lacking or refusals != self._refusals:  # it says itself why there is none
            return None
        self._told = watch.tally.chunks
        return f"no chunk from {self.source} for {DRY_S:.1f} s; the arm holds"

    @property
    def words(self) -> str | None:
        """Why the arm holds, if it is for this, for whoever asks how the run is."""
        return f"no chunk from {self.source} for {self._silence.seconds:.1f} s" if self._lacking else None


def _holds(watch: Watch) -> bool:
    tick = watch.tick
    return tick is not None and tick.mode == Mode.HOLD and bool(tick.flags & Flag.NO_CHUNK)
