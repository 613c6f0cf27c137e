"""Everything at once, in real time: from the end of an episode with an intervention to new weights driving the arm, and
what the control loop pays for a learner at work beside it.

A run of ``cadenza bench online``; it makes as many episodes as it takes, whatever time is given.

python -m benchmarks --only online
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from cadenza.commands.bench_online import main

_KEPT = ("reaction_s", "legs_s", "lateness_us", "swaps", "bounds", "status")


def measure(seconds: float) -> dict[str, Any]:
    """One run.

    Returns:
        ``reaction_s`` from intervention to new weights, in the middle (p50) and at most (p100), and its parts; lateness
        of ticks by phase [µs] with those missed; the swaps; and which bounds held.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        status = main(["--out", str(Path(folder) / "run"), "--episodes", str(max(16, round(seconds))), "--json"])
    report = json.loads(said.getvalue())
    result = {name: report[name] for name in _KEPT} | {"exit": status}
    reaction = report["reaction_s"]
    print(f"intervention to new weights driving: {reaction.get('p50', float('nan')):.1f} s in the middle")
    for name, late in report["lateness_us"].items():
        if late["ticks"]:
            print(f"{name:<14} p99.9 {late['p99_9']:8.0f} µs, {late['missed']} of {late['ticks']} ticks missed")
    return result
