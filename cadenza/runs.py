"""Which runs are on."""

from __future__ import annotations

from pathlib import Path

from controller.desk import SOCKET, is_on
from spec.errors import CadenzaError, SpecError

RUNS = Path("runs")
_DEEPEST = 3


def answering(folder: Path = RUNS) -> list[Path]:
    """Folders of runs that are on, the newest first."""
    found = [path for depth in range(1, _DEEPEST + 1) for path in folder.glob("/".join(["*"] * depth) + f"/{SOCKET}")]
    newest = sorted(found, key=_made, reverse=True)
    return [path.parent for path in newest if is_there(path.parent)]


def _made(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it ended just now
        return 0.0


def is_there(folder: Path) -> bool:
    """Whether a run is on in the folder, also one that hangs."""
    try:
        return is_on(folder)
    except OSError:
        return False


def the_newest_run() -> Path:
    """Of those that are on. Raises CadenzaError where none is."""
    return next(iter(answering()), None) or the_run(None)


def the_run(named: str | None) -> Path:
    """The run that is meant: of the named folder, or the only one that is on.

    Raises:
        CadenzaError: it is not on, or none is, or several are; says which are.
    """
    folder = Path(named) if named else None
    if folder is not None and folder.is_dir() and is_there(folder):
        return folder
    others = answering()
    if named is None and len(others) == 1:
        return others[0]
    on = ", ".join(map(str, others)) or f"none under {RUNS}/"
    if named is None and not others:
        raise CadenzaError(f"no run is on under {RUNS}/; one that is elsewhere is named by its folder")
    if named is None:
        raise CadenzaError(f"say which run; on are: {on}")
    if folder is None or not folder.is_dir():
        raise SpecError("RUN", named, "no such folder", [str(other) for other in others] or None)
    raise CadenzaError(f"{named}: no run is on there; on are: {on}")
