"""``cadenza learn``: train a policy, improve it while the robot works, and try it in the virtual arm."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# verb -> (module, one line for the overview). Modules are imported only when used: some bring torch, some a server.
_VERBS = {
    "warmup": ("cadenza.commands.learn_warmup", "clone demonstrations"),
    "online": ("cadenza.commands.learn_online", "go on learning from the episodes of a robot at work"),
    "reward": ("cadenza.commands.learn_reward", "train a classifier of success from episodes that somebody judged"),
    "offer": ("cadenza.commands.learn_offer", "say which bundle the robots drive, an older one to go back"),
    "serve": ("cadenza.commands.learn_serve", "take in episodes of robots on other machines, and offer them bundles"),
    "eval": ("cadenza.commands.learn_eval", "try a checkpoint in the virtual arm, in simulated time"),
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in {"-h", "--help"}:
        lines = [f"  {verb:<8}{summary}" for verb, (_, summary) in _VERBS.items()]
        print("\n".join(["usage: cadenza learn VERB [OPTIONS]", "", *lines]))
        return 0 if argv else 2
    if argv[0] not in _VERBS:
        print(f"cadenza learn: {argv[0]!r}: no such verb (valid: {', '.join(_VERBS)})", file=sys.stderr)
        return 2
    status: int = importlib.import_module(_VERBS[argv[0]][0]).main(argv[1:])
    return status
