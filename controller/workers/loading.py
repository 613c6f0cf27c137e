"""Making a bundle ready to run in a thread of its own, while the process goes on making chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from controller.workers.inference import check_size
from controller.workers.policy import Policy
from controller.workers.trial import check_successor
from export.bundle import read_bundle
from spec.errors import CadenzaError
from spec.manifest import Manifest, check_fit
from spec.robot import Robot

_NICE = 5
"""Loading is in no hurry, chunks are; Linux counts niceness by thread."""

Load = Callable[[], Policy]


def loaded(robot: Robot, calibration: str | None, driving: Manifest, folder: Path, sha256: str | None) -> Policy:
    """A bundle verified, fitting, and warmed up.

    Args:
        calibration: hash of the follower's.
        driving: of the policy it is to take over from.
        sha256: of its manifest file, where somebody has looked at it before.

    Raises:
        CadenzaError: it must not drive; says why.
    """
    bundle = read_bundle(folder, sha256)
    check_fit(bundle.manifest, robot, calibration)
    check_successor(bundle.manifest, driving)
    check_size(bundle.manifest)
    policy = Policy(bundle)
    policy.warm_up()
    return policy


class Loading:
    """One load under way. It cannot be called off, only forgotten."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._policy: Policy | None = None
        self._error: CadenzaError | None = None
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Policy:
        """Waits for it. Raises CadenzaError as the load did."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._policy is not None  # noqa: S101 (there is one or the other)
        return self._policy

    def _run(self) -> None:
        thread = threading.get_native_id()
        nice = max(_NICE, os.getpriority(os.PRIO_PROCESS, thread))  # only root may be less nice than its run
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        try:
            self._policy = self._load()
        except CadenzaError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 (whatever a foreign file brings about, the policy that drives goes on)
            self._error = CadenzaError(f"cannot be loaded: {type(error).__name__}: {error}")
