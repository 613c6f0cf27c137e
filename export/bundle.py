"""Bundles on disk: read with every hash checked, written so that a half-made one can never be mistaken for whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from export.staging import aside, holding
from spec.errors import SpecError
from spec.files import parsed_json, sha256_of, write_atomically
from spec.manifest import MANIFEST_FILE, Manifest
from spec.robotfile import validated


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Of the manifest file, which holds the hash of every other one."""

    @property
    def weights(self) -> int:
        """Its version."""
        return self.manifest.weights

    @property
    def encoder(self) -> Path:
        return self.folder / self.manifest.encoder

    @property
    def decoder(self) -> Path:
        return self.folder / self.manifest.decoder


def read_bundle(folder: Path, sha256: str | None = None) -> Bundle:
    """Open a bundle and verify every file in it.

    Args:
        sha256: of its manifest file, where somebody has looked at it before; None: any.

    Raises:
        SpecError: no bundle there, a manifest that does not hold, or a file that is missing or altered.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
        document = parsed_json(content)
    except OSError as error:
        raise SpecError(str(path), error.strerror, "not a bundle; make one: cadenza export") from None
    except ValueError as error:
        raise SpecError(str(path), str(error), "not valid JSON") from None
    digest = hashlib.sha256(content).hexdigest()
    if sha256 not in {None, digest}:
        raise SpecError(str(path), digest[:12], f"altered: it was {str(sha256)[:12]}...")
    manifest = validated(Manifest, document, str(path))
    for name, expected in manifest.files.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise SpecError(str(folder / name), error.strerror, "file of the bundle cannot be read") from None
        if found != expected:
            raise SpecError(str(folder / name), found[:12], f"altered: the manifest says sha256 {expected[:12]}...")
    return Bundle(folder, manifest, digest)


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle beside its place and move it in whole; an older bundle there is replaced.

    ``manifest.files`` must name exactly ``files``.

    Raises:
        SpecError: ``folder`` holds something that is not a bundle.
    """
    refuse_to_replace(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with holding(folder.parent):
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for name, content in files.items():
                write_atomically(staging / name, content)
            write_atomically(staging / MANIFEST_FILE, (manifest.model_dump_json(indent=2) + "\n").encode())
            return move_in(staging, folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def move_in(staging: Path, folder: Path) -> Bundle:
    """Verify a bundle that lies in ``staging``, beside ``folder``, and move it there; an older one there is replaced.

    Raises:
        SpecError: it is not whole, or ``folder`` holds something that is not a bundle.
    """
    refuse_to_replace(folder)
    bundle = read_bundle(staging)
    staging.chmod(0o755)
    _move_in(staging, folder)
    return replace(bundle, folder=folder)


def refuse_to_replace(folder: Path) -> None:
    """Raises SpecError where a bundle written to ``folder`` would wipe out anything but an older bundle."""
    if folder.is_dir() and not (folder / MANIFEST_FILE).exists() and any(folder.iterdir()):
        raise SpecError(str(folder), "a folder with other things in it", "not replaced; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise SpecError(str(folder), "a file", "a bundle is a folder; choose another --out")


def _move_in(staging: Path, folder: Path) -> None:
    """The older bundle goes only once the new one stands."""
    if not folder.exists():
        staging.rename(folder)
        return
    older = aside(staging)
    folder.rename(older)
    staging.rename(folder)
    shutil.rmtree(older)
