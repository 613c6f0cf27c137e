"""``cadenza bench``: hold this machine and this program against what they must keep."""

from __future__ import annotations

from collections.abc import Sequence

from cadenza.commands import bench_learning, bench_online, bench_takeover
from spec.errors import SpecError

_WHAT = {
    "takeover": (bench_takeover.main, "a policy at work, taken over and given back at random moments"),
    "learning": (bench_learning.main, "fine-tuning with a person who steps in, methods compared, in simulated time"),
    "online": (bench_online.main, "a policy at work, corrected by hand, and a learner beside it"),
}


def main(argv: Sequence[str]) -> int:
    what, *rest = argv or ("",)
    if what in {"-h", "--help"}:
        lines = [f"  {name:<10}{summary}" for name, (_, summary) in _WHAT.items()]
        print("\n".join(["usage: cadenza bench WHAT [OPTIONS]", "", *lines]))
        return 0
    if what not in _WHAT:
        raise SpecError("bench", what, "say what to measure", _WHAT)
    return _WHAT[what][0](rest)
