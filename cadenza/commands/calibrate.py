"""``cadenza calibrate``: measure an arm and keep what was found."""

from __future__ import annotations

from collections.abc import Sequence

from cadenza.commands import calibrate_envelope, calibrate_joints, calibrate_takeover
from spec.errors import SpecError

_WHAT = {
    "joints": (calibrate_joints.main, "where each encoder stands at joint angle zero, and how far each joint goes"),
    "envelope": (calibrate_envelope.main, "how fast joints may move, from demonstrations"),
    "takeover": (calibrate_takeover.main, "when a leader arm is being pulled at, and when it is not"),
}


def main(argv: Sequence[str]) -> int:
    what, *rest = argv or ("",)
    if what in {"-h", "--help"}:
        lines = [f"  {name:<10}{summary}" for name, (_, summary) in _WHAT.items()]
        print("\n".join(["usage: cadenza calibrate WHAT [OPTIONS]", "", *lines]))
        return 0
    if what not in _WHAT:
        raise SpecError("WHAT", what, "say what to calibrate", _WHAT)
    return _WHAT[what][0](rest)
