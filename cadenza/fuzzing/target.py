"""A parser under fire: what it is fed with, and what it may do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cadenza.fuzzing.dice import Dice
from spec.errors import CadenzaError

SAMPLE = Path("robots/virtual.yaml")
"""Robot file that parsers are fed with variants of, and need to read what belongs to a robot."""


class BrokenError(Exception):
    """A parser took what it must not take, or took it for something else."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One entrance. A parser that is slow as a whole is tried layer by layer, the quick ones most."""

    name: str
    share: int
    """Of the cases, in parts of those of all layers."""
    make: Callable[[Dice], bytes]
    """One input."""
    feed: Callable[[bytes], None]
    """Raises a CadenzaError for what is refused; anything else that comes out of it is a finding."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    name: str
    summary: str
    open: Callable[[], AbstractContextManager[list[Layer]]]
    """Its layers; what they need is there as long as the context."""


def accepted(feed: Callable[[bytes], None], data: bytes) -> bool:
    """Whether the parser took it.

    Raises:
        BrokenError: it refused it in more than a line.
        Exception: whatever else came out.
    """
    try:
        feed(data)
    except CadenzaError as error:
        line = str(error)
        if not line or len(line.splitlines()) != 1:
            raise BrokenError(f"a refusal that is not one line: {line!r}") from error
        line.encode()  # has to go to a terminal and into a log
        return False
    return True


@contextmanager
def as_they_are(layers: list[Layer]) -> Iterator[list[Layer]]:
    """Of a parser that needs nothing around it."""
    yield layers


def check(condition: bool, what: str) -> None:
    """Raises BrokenError where something does not hold."""
    if not condition:
        raise BrokenError(what)
