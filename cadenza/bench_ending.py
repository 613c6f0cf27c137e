"""What the benches of the virtual arm have in common: a folder of their own, and how they end."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from cadenza.takeover_report import Bound
from spec.errors import SpecError
from spec.files import write_atomically


def refuse_used(out: Path) -> None:
    """Raises SpecError where ``--out`` is no new or empty folder, or nothing can be written there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpecError("--out", str(out), "is there already; choose a new folder")
    refuse_unwritable(out)


def refuse_unwritable(out: Path) -> None:
    """Raises SpecError where nothing can be written into ``--out``: known now, not when hours of work are to be kept.

    It is tried, since rights do not tell: not even root writes into a read-only disk. What was not there is not there
    afterwards.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SpecError("--out", str(out), f"nothing can be written there: {error.strerror}") from None
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def write_report(out: Path, found: Mapping[str, Any], kept: Sequence[Bound], picture: Path, *, show: bool) -> None:
    """Into ``report.json``: what was found, which bounds were kept; with ``show`` on standard output, too."""
    report = {**found, "bounds": {bound.name: bound.held for bound in kept}, "picture": str(picture)}
    text = json.dumps(report, indent=2)
    write_atomically(out / "report.json", f"{text}\n".encode())
    if show:
        print(text)


def bound_table(kept: Sequence[Bound]) -> Table:
    """Of what was shown against what was wanted; further rows can follow."""
    table = Table("", "shown", "wanted", "", box=None)
    for bound in kept:
        table.add_row(bound.name, bound.shown, bound.wanted, "ok" if bound.held else "[bold red]broken[/]")
    return table
