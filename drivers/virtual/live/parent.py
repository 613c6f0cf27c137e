"""Dying with the process that started us."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies; leave at once where ``parent`` is already gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def exact_timers() -> None:
    """Let time-outs end when they are due, not up to 50 µs later as ordinary processes accept."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
