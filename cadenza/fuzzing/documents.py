"""Documents of the right language with the wrong things in them: what text that is torn anywhere seldom becomes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from cadenza.fuzzing.dice import Dice

_DEEP: Any = []
for _ in range(60):
    _DEEP = [_DEEP]
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    1e308,
    -1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    2**31,
    2**63,
    -(2**63) - 1,
    10**40,
    "",
    " ",
    "\0",
    "\n",
    "a\nb",
    "..",
    "/",
    "/dev/null",
    "../../x",
    "nan",
    "1e999",
    "-5",
    "ü\u202e\ufffe",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [None],
    [0, 1, 2],
    [1.0, -1.0],
    [float("nan")] * 2,
    {"": ""},
    {"a": {"b": [1]}},
    _DEEP,
)


class Rewriter:
    """Makes cases of documents, as JSON.

    Args:
        corpus: sound documents.
    """

    def __init__(self, corpus: Sequence[Any]) -> None:
        self._corpus = corpus
        self._names = sorted({name for document in corpus for name in _names(document)}) or [""]

    def case(self, dice: Dice) -> bytes:
        """One document with one to four things wrong in it."""
        root = {"": copy.deepcopy(dice.one_of(self._corpus))}
        for _ in range(1 + min(dice.below(4), dice.below(4))):
            self._change(root, dice)
        return json.dumps(root[""]).encode()

    def _change(self, root: dict[str, Any], dice: Dice) -> None:
        holder: Any = root
        key: Any = ""
        while isinstance(holder[key], dict | list) and holder[key] and dice.below(4):
            holder = holder[key]
            key = dice.one_of(list(holder)) if isinstance(holder, dict) else dice.below(len(holder))
        match dice.below(8):
            case 0 if holder is not root:
                del holder[key]
            case 1 if isinstance(holder, dict) and holder is not root:
                holder[self._name(dice)] = holder.pop(key)
            case 2 if isinstance(holder, dict) and holder is not root:
                holder[self._name(dice)] = copy.deepcopy(holder[key])
            case 3 if isinstance(holder, list):
                holder[key:key] = [copy.deepcopy(holder[key])] * (1 + dice.below(40))
            case 4:
                holder[key] = [holder[key]]
            case 5 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = dice.one_of((-holder[key], holder[key] * 1000, holder[key] + 1, str(holder[key])))
            case _:
                holder[key] = copy.deepcopy(dice.one_of(_VALUES))

    def _name(self, dice: Dice) -> str:
        return dice.one_of(self._names) if dice.below(2) else str(dice.one_of(_VALUES))[:200]


def _names(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set(document).union(*(_names(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*map(_names, document))
    return set()
