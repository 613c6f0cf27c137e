"""``cadenza episodes``: look at, check, recover, label, prune and export recorded episodes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from spec.errors import SpecError

# action -> (module, one line for the overview). Imported when used: an export needs more than the robot PC has.
_ACTIONS = {
    "list": ("cadenza.commands.episodes_list", "one line each"),
    "info": ("cadenza.commands.episodes_info", "all about them: facts, labels, events"),
    "check": ("cadenza.commands.episodes_check", "read everything and say what is wrong"),
    "recover": (
        "cadenza.commands.episodes_recover",
        "make whole files of those whose writer was killed, and of damaged ones",
    ),
    "label": ("cadenza.commands.episodes_label", "judge one anew: outcome and reward"),
    "prune": ("cadenza.commands.episodes_prune", "delete by outcome, age or size; shows first what it would do"),
    "export": ("cadenza.commands.episodes_export", "write a data set for other programs"),
}


def main(argv: Sequence[str]) -> int:
    """Run one action."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(_overview())
        return 0 if argv else 2
    action, *rest = argv
    if action not in _ACTIONS:
        raise SpecError("ACTION", action, "no such action", _ACTIONS)
    status: int = importlib.import_module(_ACTIONS[action][0]).main(rest)
    return status


def _overview() -> str:
    width = max(map(len, _ACTIONS))
    return "\n".join(
        [
            "usage: cadenza episodes ACTION PATHS [OPTIONS]",
            "",
            "Recorded episodes: files called *.mcap, and *.mcap.part where the writer was killed or still writes.",
            "PATHS are such files, or folders to search.",
            "",
            *(f"  {action:<{width}}  {summary}" for action, (_, summary) in _ACTIONS.items()),
            "",
            "cadenza episodes ACTION --help explains one action, with examples.",
        ]
    )
