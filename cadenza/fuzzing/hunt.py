"""Cases by the thousand against one parser, in this process: bounded in time and memory, the same for the same seed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from cadenza.fuzzing.dice import Dice
from cadenza.fuzzing.target import BrokenError, Layer, Target, accepted

BATCH = 500
"""Cases that one set of dice makes; the first of each finds its layer."""
SLOWEST_S = 10.0
"""A case that takes longer hangs [s]: usual is a millisecond, but other programs may have their turn in between."""
_MOST_MINIMISING_S = 10.0


class HangError(BaseException):
    """A case took too long. Not an Exception: no parser may catch it and go on."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A case that a parser did not stand."""

    layer: str
    data: bytes
    """The smallest input found that does the same."""
    error: str
    """What came out, and where."""


@dataclass(slots=True)
class Haul:
    """What came of some cases of one layer."""

    layer: str
    cases: int = 0
    taken: int = 0
    """Accepted: the parser went through to its end."""
    seconds: float = 0.0
    """For making them and for the parser."""
    slowest_s: float = 0.0
    crashes: dict[str, Crash] = field(default_factory=dict)
    """By what came out: of each only the first."""
    hung: bool = False
    """A case was cut off in the middle: what its layers hold is not to be used again."""


def hunt(target: Target, layers: list[Layer], seed: int, batch: int, cases: int) -> Haul:
    """One batch of up to :data:`BATCH` cases of one parser, all for one layer."""
    dice = Dice(seed, zlib.crc32(target.name.encode()), batch)
    layer = _layer(layers, batch)
    haul = Haul(layer.name)
    started_s = time.perf_counter()
    for _ in range(cases):
        data = layer.make(dice)
        haul.cases += 1
        began_s = time.perf_counter()
        try:
            with bounded(SLOWEST_S):
                haul.taken += accepted(layer.feed, data)
        except HangError as error:
            haul.crashes[describe(error)] = Crash(layer.name, data, describe(error))
            haul.hung = True
            return haul
        except Exception as error:  # noqa: BLE001 (that is what is hunted for)
            what = describe(error)
            if what not in haul.crashes:
                haul.crashes[what] = Crash(layer.name, minimised(layer.feed, data, what), what)
            continue
        haul.slowest_s = max(haul.slowest_s, time.perf_counter() - began_s)
    haul.seconds = time.perf_counter() - started_s
    return haul


def _layer(layers: list[Layer], batch: int) -> Layer:
    """Whose turn it is: the layers share the batches evenly over time."""
    turn = batch % sum(layer.share for layer in layers)
    for layer in layers:
        if turn < layer.share:
            return layer
        turn -= layer.share
    raise AssertionError  # the turn is below the sum


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raises HangError inside when it takes longer; in the main thread only."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def arm() -> None:
    """Make ready for :func:`bounded`."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"more than {SLOWEST_S:g} s")

    signal.signal(signal.SIGALRM, ring)


def describe(error: BaseException) -> str:
    """What came out and where: the innermost line of ours. Two inputs with the same description are one finding."""
    origin = error.__cause__ or error
    ours = [frame for frame in traceback.extract_tb(origin.__traceback__) if _is_ours(frame.filename)]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    text = str(error).partition(":")[0] if isinstance(error, HangError | BrokenError) else ""
    return " ".join(filter(None, (type(error).__name__, "in", where, text)))


def _is_ours(filename: str) -> bool:
    return "site-packages" not in filename and f"{os.sep}fuzzing{os.sep}hunt" not in filename and "<" not in filename


def minimised(feed: Callable[[bytes], None], data: bytes, what: str) -> bytes:
    """A smaller input that does the same: ever smaller parts are left out as long as it does."""
    until_s = time.monotonic() + _MOST_MINIMISING_S
    size = len(data) // 2
    while size and time.monotonic() < until_s:
        at = 0
        while at < len(data) and time.monotonic() < until_s:
            shorter = data[:at] + data[at + size :]
            if _does(feed, shorter, what):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _does(feed: Callable[[bytes], None], data: bytes, what: str) -> bool:
    try:
        with bounded(SLOWEST_S):
            accepted(feed, data)
    except (Exception, HangError) as error:  # noqa: BLE001 (as in hunt)
        return describe(error) == what
    return False
