"""Faults of one bus on purpose: lost, broken, late and repeated packets, noise, silent servos.

All counted, to compare with what a client saw.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from spec.errors import SpecError

_HEADER = b"\xff\xff\xfd\x00"
_LONGEST_NOISE = 24  # bytes
_LATEST_REPEAT_NS = 8_000_000


class Faults:
    """What goes wrong on one bus. Reproducible by seed; off until :meth:`inject`."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  not for secrets
        self.counts: Counter[str] = Counter()
        """``requests``, ``answers`` seen; ``requests_lost``, ``requests_corrupted``, ``answers_lost``,
        ``answers_corrupted``, ``answers_delayed``, ``answers_repeated``, ``noises``; and ``requests_lost.SYNC_READ``
        and so on by instruction."""
        self.clear()

    def clear(self) -> None:
        """All well again; counts stay."""
        self.loss = self.corrupt = self.repeat = self.noise = 0.0
        self.delay_ns = self.jitter_ns = 0
        self.silent: frozenset[int] = frozenset()

    @property
    def noisy(self) -> bool:
        """True where packets get lost or broken."""
        return self.loss > 0 or self.corrupt > 0

    def inject(self, faults: Mapping[str, Any]) -> None:
        """Set those of the bus's faults that are among ``faults`` (see drivers/virtual/mischief.py).

        Raises:
            SpecError: a value out of range.
        """
        for name in ("loss", "corrupt", "repeat", "noise"):
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

    def crackle(self) -> bytes:
        """Noise on the line in front of an answer; now and then it looks like the head of a packet."""
        if not self.noise or self._random.random() >= self.noise:
            return b""
        self.counts["noises"] += 1
        head = _HEADER[: self._random.randrange(len(_HEADER) + 1)]
        return head + self._random.randbytes(self._random.randrange(1, _LONGEST_NOISE))

    def again_ns(self) -> int | None:
        """How much later an answer comes a second time [ns]; None: it does not."""
        if not self.repeat or self._random.random() >= self.repeat:
            return None
        self.counts["answers_repeated"] += 1
        return self._random.randrange(_LATEST_REPEAT_NS)

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
