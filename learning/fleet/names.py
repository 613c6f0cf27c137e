"""What robots, episodes and bundles may be called on the link: plain names that cannot leave their folder."""

from __future__ import annotations

import re

from spec.errors import SpecError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
VALID_NAME = "letters, digits, '.', '_' and '-', at most 100, the first a letter or digit"


def is_name(text: str) -> bool:
    """True for a plain name: no separator, no leading dot, nothing that a shell or a file system reads differently."""
    return _NAME.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """True for a digest in lower-case hex."""
    return _SHA256.fullmatch(text) is not None


def one_line(text: str, longest: int = 300) -> str:
    """What another machine says, fit for a terminal: one line without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:longest]


def checked_name(where: str, text: str) -> str:
    """``text`` itself. Raises SpecError where it is no plain name."""
    if not is_name(text):
        raise SpecError(where, text, f"must be a plain name: {VALID_NAME}")
    return text
