"""Command-line arguments of the commands: dataclasses read by tyro, and ``--robot.FIELD VALUE`` overrides."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import tyro
from pydantic import ValidationError
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from spec.errors import CadenzaError, SpecError

_Args = TypeVar("_Args")
_KINDS = ConstructorRegistry()
"""How some types are read otherwise than by tyro."""
_PREFIX = "--robot."
_EXAMPLE = re.compile(r"^[ ]*((?:cadenza|python -m) .*(?:\n[ ]*-.*)*)$", re.MULTILINE)
"""With the lines that it goes on in, which begin with an option."""


def parse(args: type[_Args], argv: Sequence[str], command: str) -> _Args:
    """Read ``argv`` into the dataclass ``args``; its docstring is the help text, each example on a line of its own.

    Raises:
        SpecError: an empty path, which would be the folder one is in.
    """
    return tyro.cli(
        args,
        args=list(argv),
        prog=f"cadenza {command}",
        description=_help_text(args.__doc__ or ""),
        config=(tyro.conf.EnumChoicesFromValues, tyro.conf.FlagCreatePairsOff),
        registry=_KINDS,
    )


@_KINDS.primitive_rule
def _paths(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if kind.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: _path(words[0]),
        is_instance=lambda given: isinstance(given, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _path(text: str) -> Path:
    """Raises SpecError: an unset variable of a shell, which :class:`Path` takes for the folder one is in."""
    if not text:
        raise SpecError("PATH", text, "is empty; the folder you are in is .")
    return Path(text)


def refusal(error: ValidationError) -> CadenzaError:
    """The first of the options that a model refuses, in a line."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # options that do not go together
        return CadenzaError(reason)
    option = "--" + ".".join(str(part) for part in first["loc"]).replace("_", "-")
    return SpecError(option, first["input"], reason[:1].lower() + reason[1:])


def check_range(option: str, value: float, least: float, most: float) -> None:
    """Refuse a number that is out of its range, or none. Raises SpecError."""
    if not least <= value <= most:
        raise SpecError(option, value, f"from {least} to {most}")


def check_length(episodes: int, episode_seconds: float) -> None:
    """Refuse what is no number of episodes, or no time limit. Raises SpecError."""
    if episodes < 1:
        raise SpecError("--episodes", episodes, "at least 1")
    if not episode_seconds > 0:
        raise SpecError("--episode-seconds", episode_seconds, "must be above 0")


def _help_text(docstring: str) -> str:
    """Tyro joins the lines of a paragraph, so every example becomes a paragraph of its own."""
    text = _EXAMPLE.sub(lambda found: f"\n    {' '.join(found[1].split())}\n", inspect.cleandoc(docstring))
    return re.sub(r"\n{3,}", "\n\n", text)


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
