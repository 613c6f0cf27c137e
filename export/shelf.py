"""Where a learner puts its bundles and a robot finds the newest: a folder, or a copy of it fetched over the network.

``newest.json`` is replaced last and atomically, so that whoever reads it finds the bundle whole.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from export.bundle import Bundle, read_bundle
from export.staging import holding, sweep
from spec.errors import SpecError
from spec.files import parsed_json, write_atomically
from spec.manifest import MANIFEST_FILE, MAX_WEIGHTS
from spec.robot import Section
from spec.robotfile import validated

NEWEST_FILE = "newest.json"


class Newest(Section):
    """``newest.json``: which bundle is to be driven."""

    weights: int = Field(ge=0, le=MAX_WEIGHTS)
    """Weight version; only ever grows, but for a rollback."""
    bundle: str
    """Name of its folder on the shelf."""
    sha256: str
    """Of the bundle's manifest, which holds the hash of every other file."""
    rollback: bool = False
    """An older version is offered on purpose: whoever follows the shelf goes back to it."""


def bundle_name(weights: int) -> str:
    """Folder of a weight version."""
    return f"weights-{weights:06d}"


def versions(shelf: Path) -> list[int]:
    """Weight versions of the bundles that stand on the shelf, in order."""
    numbers = (path.name.removeprefix("weights-") for path in shelf.glob("weights-*") if path.is_dir())
    return sorted(int(number) for number in numbers if number.isdecimal() and number.isascii())


def highest(shelf: Path) -> int:
    """The highest version that stands on the shelf or is on offer; 0 for none. Raises SpecError as :func:`read_newest`
    does."""
    newest = read_newest(shelf)
    return max([0 if newest is None else newest.weights, *versions(shelf)])


def read_newest(shelf: Path) -> Newest | None:
    """What the shelf offers; None while it offers nothing.

    Raises:
        SpecError: the file there is none of ours.
    """
    path = shelf / NEWEST_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpecError(str(path), error.strerror, "cannot be read") from None
    try:
        return parse_newest(content, str(path))
    except SpecError as error:
        remedy = f"remove {path}, then offer a bundle again: cadenza learn offer --bundles {shelf} --weights N"
        raise SpecError(error.where, error.value, f"{error.reason}; {remedy}", error.valid) from None


def parse_newest(content: bytes, where: str) -> Newest:
    """The content of ``newest.json``, from a file or the network.

    Raises:
        SpecError: it is none of ours.
    """
    try:
        document = parsed_json(content)
    except ValueError as error:
        raise SpecError(where, str(error), "not valid JSON") from None
    newest = validated(Newest, document, where)
    if "/" in newest.bundle or newest.bundle.startswith(".") or not newest.bundle or not newest.bundle.isprintable():
        raise SpecError(f"{where}: bundle", newest.bundle, "not a plain folder name")
    return newest


def open_newest(shelf: Path, newest: Newest) -> Bundle:
    """The bundle on offer, every hash verified.

    Raises:
        SpecError: missing, altered, or another than ``newest`` says.
    """
    folder = shelf / newest.bundle
    bundle = read_bundle(folder)
    if bundle.sha256 != newest.sha256:
        raise SpecError(
            str(folder / MANIFEST_FILE), bundle.sha256[:12], f"altered: {NEWEST_FILE} says {newest.sha256[:12]}..."
        )
    if bundle.manifest.weights != newest.weights:
        raise SpecError(str(folder), bundle.manifest.weights, f"weight version differs: {NEWEST_FILE} {newest.weights}")
    return bundle


def offer(shelf: Path, bundle: Bundle, rollback: bool = False) -> Newest:
    """Make a bundle that stands on the shelf (in ``shelf / bundle_name(weights)``) the newest.

    Args:
        rollback: it is older than what was on offer, and to be driven all the same.
    """
    newest = Newest(weights=bundle.manifest.weights, bundle=bundle.folder.name, sha256=bundle.sha256, rollback=rollback)
    put_newest(shelf, newest)
    return newest


def put_newest(shelf: Path, newest: Newest) -> None:
    """Write ``newest.json``; the bundle must stand on the shelf already."""
    with holding(shelf):
        write_atomically(shelf / NEWEST_FILE, (newest.model_dump_json(indent=2) + "\n").encode())


def clear_half_made(shelf: Path) -> None:
    """Remove what a learner or exporter that was killed has left on the shelf. One that is at work is left alone."""
    for half_made in (".weights-[0-9]*.*", f".{NEWEST_FILE}.*"):
        sweep(shelf, half_made)
