"""Errors a person sees. Every message is one line: where, what was found, why it is refused, what is valid."""

from __future__ import annotations

from collections.abc import Iterable


class CadenzaError(Exception):
    """Root of everything Cadenza refuses on purpose. The front door prints it as one line and exits with 2."""


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
        super().__init__(f"{where}: {value!r}: {reason}{choices}")

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, object, str, tuple[str, ...] | None]]:
        """Errors travel between processes by their arguments, not by their message."""
        return type(self), (self.where, self.value, self.reason, self.valid)


class MisfitError(CadenzaError):
    """Two things that are each sound but do not belong together (bundle and robot, calibration and arm)."""


class DeviceError(CadenzaError):
    """A device that is missing, answers wrongly, or is not the one expected."""
