"""``python -m cadenza.fuzzing.worker PARSER SEED FIRST LAST``: batches of one parser, in a process that may die of it.

Says a JSON line about each batch.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import json
import logging
import os
import resource
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cadenza.fuzzing.hunt import BATCH, Haul, arm, hunt
from cadenza.fuzzing.targets import TARGETS

_ROOM_BYTES = 1 << 30
"""Address space beyond what it has at the start: an input that makes a parser ask for more is a finding."""
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(argv: list[str]) -> int:
    """Work through the batches FIRST to LAST - 1. One that hangs ends the process: what it held is in disorder."""
    target, (seed, first, last) = TARGETS[argv[0]], map(int, argv[1:4])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    logging.disable()  # what libraries have to say of such input, nobody wants to read a million times
    arm()
    with ExitStack() as stack:
        layers = stack.enter_context(target.open())
        virtual = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (virtual + _ROOM_BYTES, virtual + _ROOM_BYTES))
        for batch in range(first, last):
            haul = hunt(target, layers, seed, batch, BATCH)
            print(json.dumps({"batch": batch, **_told(haul)}), flush=True)
            if haul.hung:
                os._exit(0)
    return 0


def _told(haul: Haul) -> dict[str, Any]:
    gc.collect(1)
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return {
        "layer": haul.layer,
        "cases": haul.cases,
        "taken": haul.taken,
        "seconds": haul.seconds,
        "slowest_s": haul.slowest_s,
        "resident_mb": resident / 1e6,
        "crashes": [
            {"layer": one.layer, "error": one.error, "data": base64.b64encode(one.data).decode()}
            for one in haul.crashes.values()
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
