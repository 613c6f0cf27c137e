"""The folder of a running virtual arm: device links, control socket. What a killed one left is removed by the next."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from spec.errors import DeviceError

CONTROL = "control"
"""Name of the control socket in the folder; somebody listening there is what tells a living virtual arm."""
_PREFIX = "cadenza-sim-"
OWNER_PREFIX = "cadenza-virtual-"
"""Folder of the process that started a virtual arm for itself; the arm's own lies inside."""


def make_folder(inside: Path | None) -> Path:
    """A new folder, in the system's temporary one unless ``inside`` another. Raises DeviceError."""
    _remove_left_behind(Path(tempfile.gettempdir()))
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=inside))
    except OSError as error:
        raise DeviceError(f"virtual arm: no temporary folder ({error}); make room or set TMPDIR") from None


def _remove_left_behind(temporary: Path) -> None:
    for pattern, depth in ((f"{_PREFIX}*/{CONTROL}", 0), (f"{OWNER_PREFIX}*/{_PREFIX}*/{CONTROL}", 1)):
        for control in temporary.glob(pattern):
            if _abandoned(control):
                shutil.rmtree(control.parents[depth], ignore_errors=True)


def _abandoned(control: Path) -> bool:
    """A socket that nobody listens on any more. One that is missing may belong to an arm that is just starting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(control))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
