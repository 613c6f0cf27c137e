"""``python -m cadenza.commanded PARENT WORDS``: a command of this program that ends, in order, when PARENT dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def words(*command: str) -> list[str]:
    """How to start ``cadenza COMMAND`` so that it does not outlive this process."""
    return [sys.executable, "-m", "cadenza.commanded", str(os.getpid()), *command]


def main(argv: list[str]) -> int:
    """Run the command."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(argv[0]):
        return 1
    from cadenza.cli import main as cadenza  # noqa: PLC0415 (not before it is sure that somebody waits for it)

    return cadenza(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
