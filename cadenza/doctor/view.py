"""Findings for people: a line each, and below it why it matters and what to type."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from cadenza.doctor.finding import Finding, Level

_STYLE = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
_NAME, _LEAD = 22, 8
_COLUMNS, _LEAST = 60, 24
"""With fewer columns names have none of their own; below the least lines are as long as they come."""


def print_area(console: Console, title: str, findings: Sequence[Finding]) -> None:
    """One heading and what was found under it."""
    console.print(Text(title, style="bold"))
    width = max(console.width, _LEAST)
    narrow = width < _COLUMNS
    for finding in findings:
        line = Text("  ").append(f"{finding.level.value:<6}", style=_STYLE[finding.level])
        text = f"{finding.name}: {finding.value}" if narrow else f"{finding.name:<{_NAME}} {finding.value}"
        first, *more = _wrapped(text, width - _LEAD, "" if narrow else " " * (_NAME + 1))
        console.print(line.append(first), soft_wrap=True)
        for rest in more:
            console.print(Text(" " * _LEAD + rest), soft_wrap=True)
        for part in _wrapped(finding.why, width - _LEAD - 2, ""):
            console.print(Text(" " * (_LEAD + 2) + part, style="dim"), soft_wrap=True)
        if finding.fix:  # to be copied: never broken by us
            console.print(Text(" " * (_LEAD + 2)).append("-> ", style="bold").append(finding.fix), soft_wrap=True)


def print_verdict(console: Console, findings: Sequence[Finding]) -> None:
    """How many of each, in a line."""
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    said = f"{counts[Level.OK]} well, {counts[Level.WARN]} could be better, {counts[Level.FAIL]} must be mended"
    worst = next((level for level in (Level.FAIL, Level.WARN) if counts[level]), Level.OK)
    console.print(Text(said, style=_STYLE[worst]))


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
