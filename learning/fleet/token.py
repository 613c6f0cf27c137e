"""The secret that robots and learner share. It is read from a file or the environment, never from the command line,
where every user of the machine could read it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from pathlib import Path

from spec.errors import SpecError

VARIABLE = "CADENZA_TOKEN"
_LEAST = 16
"""Characters; a made one has 43, of 256 random bits."""


def read_token(path: Path | None) -> str:
    """The token in a file, else in the environment.

    Raises:
        SpecError: none, one that others may read, or one that could be guessed.
    """
    if path is None:
        if not (text := os.environ.get(VARIABLE, "").strip()):
            raise SpecError("--token-file", "", f"name the file that holds the token, or set {VARIABLE}")
        return _checked(VARIABLE, text)
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096).strip()
    except OSError as error:
        raise SpecError(str(path), error.strerror, "the token cannot be read") from None
    except ValueError:
        raise SpecError(str(path), "not plain text", "holds no token") from None
    if mode & 0o077:
        raise SpecError(str(path), f"mode {mode:o}", f"others may read the token; chmod 600 {path}")
    if not text:
        raise SpecError(
            str(path),
            "empty",
            "holds no token; remove the learner's, run cadenza learn serve again and copy the new one",
        )
    return _checked(str(path), text)


def read_or_make_token(path: Path) -> str:
    """As :func:`read_token`; where there is no such file, it is made with a new token that only its owner may read."""
    if path.is_symlink() or path.exists():
        return read_token(path)
    try:
        _make(path)
    except FileExistsError:  # meanwhile
        pass
    except OSError as error:
        raise SpecError(str(path), error.strerror, "the token cannot be written") from None
    return read_token(path)


def _make(path: Path) -> None:
    """Whole or not at all; never in the place of another. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def same_token(expected: str, given: bytes) -> bool:
    """Compares in a time that tells nothing about either, their lengths included."""
    digests = [hashlib.sha256(text).digest() for text in (expected.encode(), given)]
    return hmac.compare_digest(*digests)


def _checked(where: str, text: str) -> str:
    if len(text) < _LEAST or not text.isascii() or not text.isprintable() or " " in text:
        raise SpecError(where, "(hidden)", f"a token is at least {_LEAST} characters without spaces")
    return text
