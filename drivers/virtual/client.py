"""Talking to a running virtual arm: put the cube somewhere, ask whether the task is done, make things go wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from spec.errors import DeviceError, SpecError

_PATIENCE_S = 10.0


def read_ready_file(path: Path) -> dict[str, Any]:
    """What ``cadenza sim`` wrote: follower and leader port, camera addresses, control socket, pid.

    Raises:
        SpecError: missing or unreadable.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SpecError(str(path), error.strerror, "no virtual arm is running there; start it: cadenza sim") from None
    except ValueError as error:
        raise SpecError(str(path), str(error), "not a ready file of cadenza sim") from None
    if not isinstance(document, dict) or not {"follower", "cameras", "control", "pid"} <= document.keys():
        raise SpecError(str(path), "...", "not a ready file of cadenza sim")
    return document


class SimClient:
    """Connection to the control socket of a virtual arm."""

    def __init__(self, ready_file: Path) -> None:
        """Raises SpecError for a bad ready file, DeviceError where the virtual arm is gone."""
        self.ready = read_ready_file(ready_file)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_PATIENCE_S)
        try:
            self._socket.connect(self.ready["control"])
        except OSError as error:
            self._socket.close()
            raise DeviceError(f"{ready_file}: the virtual arm does not answer ({error}); start it again") from None
        self._file = self._socket.makefile("rb")

    def reset(self, seed: int) -> dict[str, Any]:
        """Put the cube at a random place that depends on ``seed`` only; the arm stays as it is. Returns the state."""
        return dict(self._ask("reset", seed=seed))

    def state(self) -> dict[str, Any]:
        """``success``, ``distance`` [m], ``cube`` {x, y, z, yaw}, ``joints`` {arm: {joint: rad}} (the true ones, not
        the encoders'), ``torque`` {arm: [bool]}, ``hand`` {joint: N·m} (what a person pulls at the leader with),
        ``time_s``, ``slipped_steps``."""
        return dict(self._ask("state"))

    def inject(self, faults: Mapping[str, Any]) -> None:
        """Make things go wrong until :meth:`clear`.

        Args:
            faults: by name, those of drivers/virtual/mischief.py: packets, power, servos, cameras.

        Raises:
            DeviceError: refused, with the reason.
        """
        self._ask("inject", faults=dict(faults))

    def clear(self) -> None:
        """Everything well again; a servo that shut down stays so until it is rebooted."""
        self._ask("clear")

    def statistics(self) -> dict[str, dict[str, int]]:
        """Packets seen, and those lost, corrupted, delayed and so on, on each bus since the start."""
        return dict(self._ask("statistics"))

    def hand(self, joints: Mapping[str, float] | None, seconds: float = 0.3) -> None:
        """A person's hand on the leader arm, pulling as hard as a person would (drivers/virtual/live/hand.py).

        Args:
            joints: take the whole arm, or go on with it, and bring these joints to these angles [rad], the others
                staying where they are held; None: let go.
            seconds: how long the way there takes; sent again sooner, the hand turns smoothly to the new angles.

        Raises:
            DeviceError: refused, with the reason.
        """
        self._ask("hand", joints=None if joints is None else dict(joints), seconds=seconds)

    def push(self, joints: Mapping[str, float], seconds: float) -> None:
        """Push at these joints of the leader arm [N·m] for so long, then let go. Raises DeviceError where refused."""
        self._ask("push", joints=dict(joints), seconds=seconds)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: str, **arguments: Any) -> Any:
        try:
            self._socket.sendall(json.dumps({"do": request, "with": arguments}).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise DeviceError(f"virtual arm: no answer to {request} ({error})") from None
        if not line:
            raise DeviceError(f"virtual arm: gone while asked for {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise DeviceError(f"virtual arm: {answer['error']}")
        return answer.get("result")
