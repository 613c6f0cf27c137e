"""Faults on purpose: lost, broken and late packets, silent servos. All counted, to compare with what a client saw."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from spec.errors import SpecError


class Faults:
    """What goes wrong on one bus. Reproducible by seed; off until :meth:`inject`."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  not for secrets
        self.counts: Counter[str] = Counter()
        """``requests``, ``answers`` seen; ``requests_lost``, ``requests_corrupted``, ``answers_lost``,
        ``answers_corrupted``, ``answers_delayed``, and ``requests_lost.SYNC_READ`` and so on by instruction."""
        self.clear()

    def clear(self) -> None:
        """All well again; counts stay."""
        self.loss = self.corrupt = 0.0
        self.delay_ns = self.jitter_ns = 0
        self.silent: frozenset[int] = frozenset()

    @property
    def noisy(self) -> bool:
        """True where packets get lost or broken."""
        return self.loss > 0 or self.corrupt > 0

    def inject(self, faults: Mapping[str, Any]) -> None:
        """Set any of ``loss``, ``corrupt`` (probability per packet, either way), ``delay_ms``, ``jitter_ms`` (of
        answers), ``silent_ids``.

        Raises:
            SpecError: a value out of range.
        """
        for name in ("loss", "corrupt"):
            if name in faults:
                setattr(self, name, _number(name, faults[name], 1.0))
        for name in ("delay", "jitter"):
            if f"{name}_ms" in faults:
                setattr(self, f"{name}_ns", round(_number(f"{name}_ms", faults[f"{name}_ms"], 10_000.0) * 1e6))
        if "silent_ids" in faults:
            self.silent = frozenset(int(servo) for servo in faults["silent_ids"])

    def request(self, data: bytes, kind: str) -> bytes | None:
        """What is left of an instruction packet on its way to the servos; None: nothing."""
        return self._afflicted(data, "requests", kind)

    def answer(self, data: bytes) -> bytes | None:
        """What is left of a status packet on its way to the client; None: nothing."""
        return self._afflicted(data, "answers", "")

    def lateness_ns(self) -> int:
        """How much later than it should an answer comes [ns]."""
        late = self.delay_ns + (round(self._random.random() * self.jitter_ns) if self.jitter_ns else 0)
        self.counts["answers_delayed"] += late > 0
        return late

    def _afflicted(self, data: bytes, which: str, kind: str) -> bytes | None:
        self.counts[which] += 1
        if self.loss and self._random.random() < self.loss:
            self._count(f"{which}_lost", kind)
            return None
        if self.corrupt and self._random.random() < self.corrupt:
            self._count(f"{which}_corrupted", kind)
            at = self._random.randrange(len(data))
            flipped = data[at] ^ (1 << self._random.randrange(8))
            return data[:at] + bytes((flipped,)) + data[at + 1 :]
        return data

    def _count(self, name: str, kind: str) -> None:
        self.counts[name] += 1
        if kind:
            self.counts[f"{name}.{kind}"] += 1


def _number(name: str, value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= largest:
        raise SpecError(f"fault {name}", value, f"must be a number from 0 to {largest:g}")
    return float(value)
