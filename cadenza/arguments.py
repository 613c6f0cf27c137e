"""Command-line arguments of the commands: dataclasses read by tyro, and ``--robot.FIELD VALUE`` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tyro

from spec.errors import SpecError

_Args = TypeVar("_Args")
_PREFIX = "--robot."


def parse(args: type[_Args], argv: Sequence[str], command: str) -> _Args:
    """Read ``argv`` into the dataclass ``args``; its docstring is the help text."""
    return tyro.cli(args, args=list(argv), prog=f"cadenza {command}")


def split_robot_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take ``--robot.a.b VALUE`` and ``--robot.a.b=VALUE`` out of ``argv``.

    They are applied to the robot file before it is checked, so that a bad one is refused by the very rule, and in
    the very words, that a bad line in the file is.

    Returns:
        The remaining arguments, and dotted field → YAML text.
    """
    rest: list[str] = []
    overrides: dict[str, str] = {}
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if not word.startswith(_PREFIX):
            rest.append(word)
            continue
        field, equals, value = word.removeprefix(_PREFIX).partition("=")
        if not equals:
            if position == len(argv):
                raise SpecError(word, "", "needs a value")
            value = argv[position]
            position += 1
        overrides[field] = value
    return rest, overrides
