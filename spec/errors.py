"""Errors a person sees. Every message is one line: where, what was found, why it is refused, what is valid."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

_SHOWN = reprlib.Repr()
"""Of a value only so much: an alias in a YAML file stands for a list of lists of lists that no line has room for."""
_SHOWN.maxlevel = 3
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 500
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = _SHOWN.maxfrozenset = 12


class CadenzaError(Exception):
    """Root of everything Cadenza refuses on purpose. The front door prints it as one line and exits with 2."""

    def __str__(self) -> str:
        """One line that every terminal and log takes, whatever the name of a joint or file brought into it."""
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SpecError(CadenzaError):
    """A robot file, bundle manifest or calibration that cannot be used.

    Args:
        where: file and field, e.g. ``robots/koch.yaml: follower.joints.gripper.id``.
        value: the offending value as found.
        reason: why it is refused, a phrase.
        valid: the valid choices, where there is a short list of them.
    """

    def __init__(self, where: str, value: object, reason: str, valid: Iterable[object] | None = None) -> None:
        self.where, self.value, self.reason = where, value, reason
        self.valid = None if valid is None else tuple(str(v) for v in valid)
        choices = "" if self.valid is None else f" (valid: {', '.join(self.valid)})"
        super().__init__(f"{where}: {_SHOWN.repr(value)}: {reason}{choices}")

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, object, str, tuple[str, ...] | None]]:
        """Errors travel between processes by their arguments, not by their message."""
        return type(self), (self.where, self.value, self.reason, self.valid)


class MisfitError(CadenzaError):
    """Two things that are each sound but do not belong together (bundle and robot, calibration and arm)."""


class DeviceError(CadenzaError):
    """A device that is missing, answers wrongly, or is not the one expected."""
