"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, later or worse than it could."""
    FAIL = "fail"
    """A run would be refused, or could not be trusted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, why it matters, and what to do about it."""

    name: str
    level: Level
    value: str
    why: str = ""
    """Half a line; of what is well, nothing."""
    fix: str = ""
    """To be typed."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def well(name: str, value: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Level.OK, value)


def warning(name: str, value: str, why: str, fix: str = "") -> Finding:
    """It could be better."""
    return Finding(name, Level.WARN, value, why, fix)


def failure(name: str, value: str, why: str, fix: str = "") -> Finding:
    """It must be mended."""
    return Finding(name, Level.FAIL, value, why, fix)


def text_of(path: Path) -> str:
    """Content of a file of the kernel; empty where there is none, or none for us."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
