"""What may become of bytes: torn, doubled, spliced, and given the words and numbers that parsers stumble over."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from cadenza.fuzzing.dice import Dice

LONGEST = 1 << 16
"""What grows beyond is cut [bytes]."""
_BYTES = (0x00, 0x01, 0x0A, 0x20, 0x22, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 1023, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_TEXTS = tuple(
    text.encode()
    for text in ("0", "-0", "-1", "1e999", "-1e999", ".nan", "NaN", ".inf", "9" * 40, "0x10", "1_000", "08", "1.5", "²")
)
_DIGITS = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WIDTHS = ("<B", "<H", ">H", "<I", ">I", "<Q")


class Mutator:
    """Makes cases of a corpus.

    Args:
        corpus: sound inputs.
        words: of the language, to be strewn in.
    """

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self._corpus, self._words = corpus, words or (b"\0",)
        self._ways: tuple[Callable[[bytearray, Dice], None], ...] = (
            _flip,
            _set,
            _set,
            _cut,
            _cut,
            _double,
            _insert,
            _number,
            _truncate,
            _digits,
            _digits,
            self._word,
            self._word,
            self._splice,
        )

    def case(self, dice: Dice) -> bytes:
        """One input, mostly with one or two things wrong in it; now and then with many."""
        data = bytearray(dice.one_of(self._corpus))
        for _ in range(1 + min(dice.below(3), dice.below(3)) + (dice.below(12) if dice.below(16) == 0 else 0)):
            dice.one_of(self._ways)(data, dice)
        return bytes(data[:LONGEST])

    def _word(self, data: bytearray, dice: Dice) -> None:
        word, at = dice.one_of(self._words), dice.below(len(data) + 1)
        data[at : at + (len(word) if dice.below(2) else 0)] = word

    def _splice(self, data: bytearray, dice: Dice) -> None:
        other = dice.one_of(self._corpus)
        data[dice.below(len(data) + 1) :] = other[dice.below(len(other) + 1) :]


def _flip(data: bytearray, dice: Dice) -> None:
    if data:
        data[dice.below(len(data))] ^= 1 << dice.below(8)


def _set(data: bytearray, dice: Dice) -> None:
    if data:
        data[dice.below(len(data))] = dice.one_of(_BYTES) if dice.below(2) else dice.below(256)


def _slice(data: bytearray, dice: Dice) -> slice:
    start = dice.below(len(data) + 1)
    return slice(start, start + 1 + dice.below(1 << dice.below(8)))


def _cut(data: bytearray, dice: Dice) -> None:
    del data[_slice(data, dice)]


def _double(data: bytearray, dice: Dice) -> None:
    part = _slice(data, dice)
    times = 1 + (dice.below(64) if dice.below(8) == 0 else 0)
    data[part.start : part.start] = data[part] * times


def _insert(data: bytearray, dice: Dice) -> None:
    at = dice.below(len(data) + 1)
    data[at:at] = dice.content(1 + dice.below(8))


def _truncate(data: bytearray, dice: Dice) -> None:
    del data[dice.below(len(data) + 1) :]


def _number(data: bytearray, dice: Dice) -> None:
    """A binary number at the edge of something, as lengths and counts are."""
    width = dice.one_of(_WIDTHS)
    size = struct.calcsize(width)
    value = dice.one_of(_NUMBERS) - dice.below(2) & (1 << 8 * size) - 1
    at = dice.below(len(data) + 1)
    data[at : at + size] = struct.pack(width, value)


def _digits(data: bytearray, dice: Dice) -> None:
    """Another number where one is written out."""
    found = list(_DIGITS.finditer(data[:4096]))
    if found:
        place = dice.one_of(found)
        data[place.start() : place.end()] = dice.one_of(_TEXTS) if dice.below(2) else b"%d" % dice.one_of(_NUMBERS)
