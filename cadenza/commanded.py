"""``python -m cadenza.commanded PARENT WORDS``: a command of this program that ends, in order, when PARENT dies."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

from spec.errors import CadenzaError

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def words(*command: str) -> list[str]:
    """How to start ``cadenza COMMAND`` so that it does not outlive this process."""
    return [sys.executable, "-m", "cadenza.commanded", str(os.getpid()), *command]


def perform(*command: str) -> None:
    """Run ``cadenza COMMAND`` to its end, in a process of its own: what it needs is in no other's memory then.

    Raises:
        CadenzaError: it did not succeed; in its own words.
    """
    done = subprocess.run(words(*command), check=False, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().removeprefix(f"cadenza {command[0]}: ")
        raise CadenzaError(said or f"{command[0]}: ended with status {done.returncode}")


def main(argv: list[str]) -> int:
    """Run the command."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(argv[0]):
        return 1
    from cadenza.cli import main as cadenza  # noqa: PLC0415 (not before it is sure that somebody waits for it)

    return cadenza(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
