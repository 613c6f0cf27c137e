"""``make bench``: every measurement in one run, so that its figures can be compared with each other.

python -m benchmarks --out runs/bench              everything
python -m benchmarks --only tick_work --seconds 5  one of them
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cadenza.arguments import parse
from controller.certificate import cpu_model
from spec.errors import SpecError
from spec.files import write_atomically

BENCHMARKS = (
    "tick_work",
    "rehearsal",
    "wakeup",
    "safety",
    "serial_wait",
    "bus_rate",
    "crowded",
    "chunk_latency",
    "daemon",
    "lockstep",
    "recorder",
    "recording",
    "kills",
    "learner",
    "learner_kills",
    "swap",
    "replay",
    "online",
    "legacy",
)


@dataclass(frozen=True)
class Args:
    """Measure Cadenza on this machine; ratios are taken within one run.

    Example:
        python -m benchmarks --only wakeup tick_work --seconds 20
    """

    out: Path = Path("runs/bench")
    """Folder for bench.json."""
    only: tuple[str, ...] = ()
    """Names of benchmarks; none means all."""
    seconds: float = 20.0
    """Time each benchmark measures for, roughly."""


def main() -> int:
    args = parse(Args, sys.argv[1:], "bench")
    for name in args.only:
        if name not in BENCHMARKS:
            raise SpecError("--only", name, "no such benchmark", BENCHMARKS)
    results: dict[str, object] = {"machine": {"kernel": platform.release(), "cpu": cpu_model()}}
    for name in args.only or BENCHMARKS:
        print(f"\n== {name} ==", flush=True)
        results[name] = importlib.import_module(f"benchmarks.{name}").measure(args.seconds)
        _show(results[name])
    write_atomically(args.out / "bench.json", (json.dumps(results, indent=2) + "\n").encode())
    print(f"\n{args.out / 'bench.json'}")
    return 0


def _show(value: object, prefix: str = "") -> None:
    """Print nested figures one a line, ``a.b.c  12.3``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _show(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        print(f"  {prefix:<48} {value:.4g}" if isinstance(value, float) else f"  {prefix:<48} {value}")


if __name__ == "__main__":
    sys.exit(main())
