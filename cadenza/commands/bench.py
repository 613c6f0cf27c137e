"""``cadenza bench``: hold this machine and this program against what they must keep."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from spec.errors import SpecError

# what -> (module, one line for the overview). Modules are imported only when used: some need what trains.
_WHAT: dict[str, tuple[str, str]] = {
    "takeover": ("bench_takeover", "a policy at work, taken over and given back at random moments"),
    "learning": ("bench_learning", "fine-tuning with a person who steps in, methods compared, in simulated time"),
    "online": ("bench_online", "a policy at work, corrected by hand, and a learner beside it"),
    "faults": ("bench_faults", "everything goes wrong, at random: does the arm jump, fall, or keep quiet about it?"),
    "soak": ("bench_soak", "an hour of everything at once: does anything grow, get lost, or come later?"),
    "fuzz": ("bench_fuzz", "every parser against bytes that are almost right"),
}


def main(argv: Sequence[str]) -> int:
    what, *rest = argv or ("",)
    if what in {"-h", "--help"}:
        lines = [f"  {name:<10}{summary}" for name, (_, summary) in _WHAT.items()]
        print("\n".join(["usage: cadenza bench WHAT [OPTIONS]", "", *lines]))
        return 0
    if what not in _WHAT:
        raise SpecError("WHAT", what, "say what to measure", _WHAT)
    status: int = importlib.import_module(f"cadenza.commands.{_WHAT[what][0]}").main(rest)
    return status
