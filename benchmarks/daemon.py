"""What the daemon costs: time from its start to the first permitted motion, and the memory of its processes.

python -m benchmarks --only daemon
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from cadenza.commands.run import run_episodes
from cadenza.running import Wanted
from export.exporter import export_checkpoint
from spec.robotfile import load_robot

PROJECT = Path(__file__).parents[1]


def measure(seconds: float) -> dict[str, Any]:
    """One episode of ``seconds`` on the virtual arm with the shipped policy.

    Returns:
        ``startup_s`` from the supervisor's start until every process is ready and the arm may move [s],
        ``peak_memory_mb`` by process, and the run's bus errors.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_checkpoint(PROJECT / "assets/policy/push", Path(folder) / "bundle")
        robot = load_robot(PROJECT / "robots/virtual.yaml")
        result = run_episodes(Wanted(robot, bundle, Path(folder) / "run", seconds), 1, Console(quiet=True))
        run = result.report["run"]
        return {
            "startup_s": run["startup_s"],
            "peak_memory_mb": run["peak_memory_mb"],
            "memory_sum_mb": sum(run["peak_memory_mb"].values()),
            "bus_errors": run["bus_errors"],
        }
