"""The bundles that drove one run, in order, and which one is gone back to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from export.bundle import Bundle


class Lineage:
    """Knows what drives and what drove.

    Args:
        bundle: drives at the beginning.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._behind: list[Bundle] = []
        self._drove: dict[int, Bundle] = {}
        self.record: list[dict[str, Any]] = []
        """Everything that drove, in order. JSON-able."""
        self._now_drives(bundle, "start")

    @property
    def previous(self) -> Bundle | None:
        """What is gone back to."""
        return self._behind[-1] if self._behind else None

    def drove(self, weights: int) -> Bundle | None:
        """The bundle that drove under a version, if any."""
        return self._drove.get(weights)

    def go_on(self, bundle: Bundle, how: str) -> None:
        """Another one drives; what drove so far can be gone back to."""
        self._behind.append(self.driving)
        self._now_drives(bundle, how)

    def go_back(self, bundle: Bundle, how: str) -> None:
        """One that drove before drives again. Whoever goes back once more goes further."""
        self.pass_over(bundle)
        self._now_drives(bundle, how)

    def pass_over(self, bundle: Bundle) -> None:
        """It is gone back to no more, nor is what came after it."""
        if any(one is bundle for one in self._behind):
            while self._behind.pop() is not bundle:
                pass

    def _now_drives(self, bundle: Bundle, how: str) -> None:
        self.driving = bundle
        self._drove[bundle.weights] = bundle
        self.record.append(
            {
                "weights": bundle.weights,
                "name": bundle.manifest.name,
                "bundle": str(bundle.folder),
                "sha256": bundle.sha256,
                "since": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "by": how,
            }
        )
