"""``python -m cadenza.certifying.control``: the control process with a stopwatch for what no record knows."""

from __future__ import annotations

import sys
from functools import partial

from controller.spent import Spent
from controller.wiring.child import run_child
from controller.workers.control_process import work


def main() -> int:
    """Entry of the process."""
    return run_child("control", partial(work, spent=Spent()))


if __name__ == "__main__":
    sys.exit(main())
