"""A robot's copy of the learner's shelf: bundles come whole and verified, ``newest.json`` last. Whoever follows the
copy sees what it would see on the shelf itself, only later."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from export.bundle import move_in
from export.shelf import NEWEST_FILE, Newest, bundle_name, open_newest, parse_newest, put_newest, read_newest
from learning.fleet.client import Link, LinkError
from learning.fleet.names import is_name
from spec.errors import SpecError
from spec.files import sha256_of, write_atomically
from spec.manifest import MANIFEST_FILE, Manifest
from spec.robotfile import validated

_MANIFEST_LIMIT = 1 << 20
_FILE_LIMIT = 2 << 30
"""Bytes; the largest graph ONNX can hold in one file."""
_KEEP_FREE = 1 << 30
"""Bytes of the robot's disk that belong to its episodes."""
_STAGING = ".coming-"


class ShelfCopy:
    """The folder that the daemon follows.

    Args:
        keep: bundles that stay, the newest versions first, for going back to them; 0 keeps all.
        told: of each file that begins to come.
    """

    def __init__(self, folder: Path, keep: int = 0, told: Callable[[str], None] = lambda _file: None) -> None:
        self.folder, self._keep, self._told = folder, keep, told
        self._tag = ""

    def follow(self, link: Link, wait_s: int = 0) -> Newest | None:
        """Bring what the learner offers. None where that is what is here, or nothing.

        Raises:
            LinkError: it could not be brought now; what came of it is gone on with next time.
            SpecError: what came is not sound. The copy is what it was.
        """
        answer = link.newest(self._tag, wait_s)
        if answer is None:
            return None
        content, tag = answer
        offered = parse_newest(content, f"the learner's {NEWEST_FILE}")
        if not self._wanted(offered):
            self._tag = tag
            return None
        self._bring(link, offered)
        put_newest(self.folder, offered)
        self._tag = tag
        self._clear(offered)
        return offered

    def _wanted(self, offered: Newest) -> bool:
        """Raises SpecError for a step back that nobody ordered: an old answer, or another learner."""
        if not is_name(offered.bundle) or offered.bundle == NEWEST_FILE:
            raise SpecError(f"the learner's {NEWEST_FILE}: bundle", offered.bundle, "not a plain folder name")
        have = read_newest(self.folder)
        if have is None:
            return True
        if offered == have:
            return not self._stands(have)
        if offered.weights < have.weights and not offered.rollback:
            reason = (
                f"older than what is here ({have.weights}), and the learner does not call it a rollback; "
                f"if it is another learner: clear {self.folder}"
            )
            raise SpecError(f"the learner's {NEWEST_FILE}: weights", offered.weights, reason)
        if offered.weights == have.weights and offered.sha256 != have.sha256:
            reason = f"another bundle of that version than what is here; another learner? (clear {self.folder})"
            raise SpecError(f"the learner's {NEWEST_FILE}: weights", offered.weights, reason)
        return True

    def _stands(self, newest: Newest) -> bool:
        try:
            open_newest(self.folder, newest)
        except SpecError:
            return False
        return True

    def _bring(self, link: Link, offered: Newest) -> None:
        if self._stands(offered):
            return
        staging = self.folder / f"{_STAGING}{offered.sha256[:16]}"
        staging.mkdir(parents=True, exist_ok=True)
        manifest = self._manifest(link, offered, staging)
        for name, expected in manifest.files.items():
            if not is_name(name):
                raise SpecError(f"bundle {offered.bundle}", name, "not a plain file name")
            self._file(link, offered.bundle, staging / name, expected)
        for stray in staging.iterdir():
            if stray.name not in {MANIFEST_FILE, *manifest.files}:
                stray.unlink()
        move_in(staging, self.folder / offered.bundle)

    def _manifest(self, link: Link, offered: Newest, staging: Path) -> Manifest:
        path = staging / MANIFEST_FILE
        if not path.exists():
            part = staging / f"{MANIFEST_FILE}.part"
            part.unlink(missing_ok=True)
            link.fetch(offered.bundle, MANIFEST_FILE, part, _MANIFEST_LIMIT)
            content = part.read_bytes()
            _check(f"bundle {offered.bundle}: {MANIFEST_FILE}", hashlib.sha256(content).hexdigest(), offered.sha256)
            write_atomically(path, content)
            part.unlink()
        manifest = _parsed(path)
        if manifest.weights != offered.weights:
            raise SpecError(f"bundle {offered.bundle}", manifest.weights, f"{NEWEST_FILE} says {offered.weights}")
        return manifest

    def _file(self, link: Link, bundle: str, path: Path, expected: str) -> None:
        if path.exists() and sha256_of(path) == expected:
            return
        path.unlink(missing_ok=True)
        part = path.with_name(f"{path.name}.part")
        room = shutil.disk_usage(self.folder).free - _KEEP_FREE
        if room <= 0:
            raise LinkError(f"{self.folder}: no room for {bundle} on this robot's disk")
        self._told(f"{bundle}/{path.name}")
        link.fetch(bundle, path.name, part, min(_FILE_LIMIT, room))
        found = sha256_of(part)
        if found != expected:
            part.unlink()
        _check(f"bundle {bundle}: {path.name}", found, expected)
        part.rename(path)

    def _clear(self, newest: Newest) -> None:
        """What never became whole goes, and so do the oldest bundles. Only folders that the learner named like its own
        bundles are touched."""
        for staging in self.folder.glob(f"{_STAGING}*"):
            shutil.rmtree(staging, ignore_errors=True)
        if self._keep:
            ours = sorted(path for path in self.folder.glob("weights-*") if _is_ours(path))
            others = [path for path in ours if path.name != newest.bundle]
            for path in others[: max(len(others) - (self._keep - 1), 0)]:
                shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    number = path.name.removeprefix("weights-")
    if not number.isdecimal() or path.name != bundle_name(int(number)):
        return False
    try:
        return _parsed(path / MANIFEST_FILE).weights == int(number)
    except (SpecError, OSError):
        return False


def _parsed(path: Path) -> Manifest:
    try:
        return validated(Manifest, json.loads(path.read_bytes()), str(path))
    except (ValueError, RecursionError) as error:
        raise SpecError(str(path), str(error), "not valid JSON") from None


def _check(where: str, found: str, expected: str) -> None:
    if found != expected:
        raise SpecError(where, found[:12], f"altered on its way: should be sha256 {expected[:12]}...")
