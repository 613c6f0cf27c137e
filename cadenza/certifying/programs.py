"""The measuring programs of others, and how they end with whoever needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from spec.errors import CadenzaError

CYCLICTEST, STRESS_NG = "cyclictest", "stress-ng"
_PACKAGES = {CYCLICTEST: "rt-tests", STRESS_NG: "stress-ng"}
"""Debian's, by program."""
_BOUND = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, see <linux/prctl.h>; kept by exec
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # this interpreter ignores it, and exec would keep that too
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_LAST_S = 5.0
"""A program takes no longer to tidy up after itself [s]."""


def find_program(name: str) -> str:
    """Where it is. Raises CadenzaError where it is not installed; says how to."""
    program = shutil.which(name)
    if program is None:
        raise CadenzaError(f"{name} is not installed: sudo apt-get install {_PACKAGES[name]}")
    return program


def bound(words: Sequence[str]) -> list[str]:
    """How to start a program so that the kernel ends it when this thread dies, by SIGKILL, too.

    Args:
        words: the path of the program, and its arguments.

    To be started in a process group of its own: Ctrl-C is for this process, which ends it in order.
    """
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *words]


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a program end and tidy up after itself; where it takes too long, without that."""
    process.terminate()
    try:
        process.communicate(timeout=_LAST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
