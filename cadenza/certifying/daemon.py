"""The whole daemon for a few seconds: holding, then following, every tick of it kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.collection.sight import Sight
from controller.session import STANDING_RAD_S
from controller.sources import ChunkSource
from controller.supervisor import Supervisor
from controller.wiring.ipc import Node
from controller.wiring.topics import TICKS
from controller.wiring.vigil import CONTROL
from episodes.layout import TICK_RECORD, records_of
from episodes.outcome import Outcome, Termination
from episodes.records import Mode, Order, TickRecord
from export.bundle import Bundle
from spec.errors import CadenzaError
from spec.robot import Realtime, Robot

_CONTROL_MODULE = "cadenza.certifying.control"
_PATIENCE_S = 45.0
"""Longest time to the start pose, or for the recorder's answer, under stress [s]."""
HOLDING = 1 / 3
"""Share of a block in which the arm only holds."""


class CertifiedDaemon(Supervisor):
    """A supervisor whose control process counts what it spends.

    Args:
        robot: with real ports.
        source: what the arm follows; None: it only holds.
        out: folder of logs; recordings are removed again.
        say: takes one line for the person watching.
        bundle: where the source is a policy.
    """

    def __init__(
        self,
        robot: Robot,
        source: ChunkSource | None,
        out: Path,
        say: Callable[[str], None],
        *,
        bundle: Bundle | None = None,
    ) -> None:
        # It has to run before there is a certificate; privileges were demanded by whoever certifies.
        control = robot.control.model_copy(update={"realtime": Realtime.TRY})
        super().__init__(robot.model_copy(update={"control": control}), source, out, say, bundle=bundle)
        self._kept: list[npt.NDArray[Any]] = []
        self.dropped = 0
        """Records of the last block that never reached the recorder."""

    def _add(self, name: str, module: str, *arguments: str) -> None:
        super()._add(name, _CONTROL_MODULE if name == CONTROL else module, *arguments)

    def block(self, seconds: float, begun: Callable[[], None]) -> npt.NDArray[Any]:
        """Hold, then follow, for so long altogether, a recording running.

        Args:
            seconds: length [s].
            begun: called when the arm stands and the recording runs.

        Returns:
            The ticks of it, fields of :class:`TickRecord`.

        Raises:
            CadenzaError: the arm faulted, or a process that is needed is gone.
            KeyboardInterrupt: somebody wants the end.
        """
        node = Node(self._namespace, self._topics(), "certify")
        try:
            ticks = node.subscriber(TICKS, TickRecord)
            self._stand()
            recording = self._record()
            ticks.drain_bytes()
            begun()
            self._kept.clear()
            self._pass(seconds if self._source is None else seconds * HOLDING, ticks.drain_bytes)
            if self._source is not None:
                self.order(Order.START)
                self.follow(True)
                self._pass(seconds * (1.0 - HOLDING), ticks.drain_bytes)
                self.follow(False)
                self.order(Order.HOLD)
            self._until(self._stands, "come to rest")
            self.recorder.close(Outcome.UNLABELLED, Termination.OPERATOR, {})
            self.dropped = sum(self._until_said("closed")["dropped"].values())
            recording.unlink(missing_ok=True)
        finally:
            node.close()
        return np.concatenate(self._kept) if self._kept else np.zeros(0, dtype=TICK_RECORD)

    def _stand(self) -> None:
        """At the start pose; where nothing is followed, wherever the arm is."""
        sight = Sight(self)
        if self._source is None:
            self.order(Order.START)  # engages; the next order is there before it moves
            sight.ordered_ns = self.order(Order.HOLD)
            self._until(lambda: sight.heeded and self._stands(), "stand")
        else:
            sight.ordered_ns = self.order(Order.HOME)
            self._until(lambda: sight.at_home and self._stands(), "come to its start pose")

    def _record(self) -> Path:
        self._until(lambda: self.recorder.ready, "record")
        path = self.episodes_folder / "certify.mcap"
        path.unlink(missing_ok=True)
        if not self.recorder.open(path, {"task": "certify"}):
            raise CadenzaError(f"{self.out}: no room to record")
        self._until_said("opened")
        return path

    def _pass(self, seconds: float, drain: Callable[[], bytes | None]) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._step()
            if content := drain():
                self._kept.append(records_of(content).copy())

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while not done():
            self._step()
            if time.monotonic() > end_s:
                raise CadenzaError(f"the arm does not {what}; see {self.out / 'logs'}")

    def _until_said(self, kind: str) -> dict[str, Any]:
        """That message of the recorder."""
        end_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end_s:
            said = {message["kind"]: message for message in self._step()}
            if kind in said:
                return said[kind]
            if said.keys() & {"failed", "died"}:
                break
        raise CadenzaError(f"the recorder did not say {kind!r}; see {self.out / 'logs'}")

    def _step(self) -> list[dict[str, Any]]:
        said = self.poll()
        if self.interrupted:
            raise KeyboardInterrupt
        if not self.driving:
            raise CadenzaError(f"the control process is gone; see {self.out / 'logs'}")
        if self.watch.mode is Mode.FAULT:
            raise CadenzaError(f"the arm faulted, so nothing is certified: {'; '.join(self.watch.tally.faults)}")
        return said

    def _stands(self) -> bool:
        return self.watch.mode is Mode.HOLD and self.watch.speed() < STANDING_RAD_S
