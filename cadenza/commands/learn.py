"""``cadenza learn``: train a policy, and try it in the virtual arm."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cadenza.commands import learn_eval, learn_reward, learn_warmup

_VERBS = {
    "warmup": (learn_warmup.main, "clone demonstrations"),
    "reward": (learn_reward.main, "train a classifier of success from episodes that somebody judged"),
    "eval": (learn_eval.main, "try a checkpoint in the virtual arm, in simulated time"),
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in {"-h", "--help"}:
        lines = [f"  {verb:<8}{summary}" for verb, (_, summary) in _VERBS.items()]
        print("\n".join(["usage: cadenza learn VERB [OPTIONS]", "", *lines]))
        return 0 if argv else 2
    if argv[0] not in _VERBS:
        print(f"cadenza learn: {argv[0]!r}: no such verb (valid: {', '.join(_VERBS)})", file=sys.stderr)
        return 2
    return _VERBS[argv[0]][0](argv[1:])
