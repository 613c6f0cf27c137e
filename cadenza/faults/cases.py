"""One case of the campaign: what goes wrong, when, for how long. Drawn from a seed; written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from cadenza.faults.kinds import KINDS, LIVE_KINDS, Kind
from spec.errors import SpecError
from spec.files import content_of, parsed_json, write_atomically
from spec.robot import Section

_MOST_BYTES = 100_000
"""Of a file; usual is 1 kB."""
_MOST_TROUBLES = 16
_LONGEST_S = 60.0
"""Of anything in a case: those drawn are over after six seconds."""

Seconds = Annotated[float, Field(ge=0.0, le=_LONGEST_S)]
Millis = Annotated[float, Field(ge=0.0, le=1e3 * _LONGEST_S)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Servo = Annotated[int, Field(ge=1, le=6)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


def _rising(turn: tuple[float, float]) -> tuple[float, float]:
    if not turn[0] < turn[1]:
        raise ValueError("the first instant must be before the second")
    return turn


class Values(Section):
    """What kinds of faults want to know, each its part; see :mod:`cadenza.faults.kinds` for who draws what."""

    servo: Servo | None = None
    servos: list[Servo] | None = Field(default=None, max_length=6)
    share: Share | None = None
    ms: Millis | None = None
    jitter_ms: Millis | None = None
    joint: int | None = Field(default=None, ge=0, le=5)
    value: Literal["nan", "inf", "-inf"] | None = None
    side: Literal["+", "-"] | None = None
    of: Literal["velocity", "effort"] | None = None
    supply: Share | None = None
    seed: Seed | None = None
    which: Seed | None = None


def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return Values.model_validate(values).model_dump(exclude_none=True)


class Setting(StrEnum):
    """Where a case is played."""

    LOCKSTEP = "lockstep"
    """Loop, driver, protocol, servos and physics in one process on a virtual clock; the same to the bit every time."""
    LIVE = "live"
    """The whole daemon, in real time."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault."""

    kind: str
    """A name of :data:`cadenza.faults.kinds.KINDS`."""
    at_s: Seconds
    """Since the run began [s]; in a live case since the policy drives."""
    for_s: Seconds
    """[s]"""
    values: Annotated[Mapping[str, Any], AfterValidator(_known)] = field(default_factory=dict)
    """What the kind wants to know more: which servo, how often, how far."""

    @property
    def ends_s(self) -> float:
        return self.at_s + self.for_s

    def at(self, now_s: float) -> bool:
        """Whether it is there at an instant."""
        return self.at_s <= now_s < self.ends_s


@dataclass(frozen=True, slots=True)
class Case:
    """What happens to one arm."""

    number: Seed
    seed: Seed
    """Of the scene, the policy's motion, and of which packet is hit."""
    setting: Setting
    troubles: Annotated[tuple[Trouble, ...], Field(max_length=_MOST_TROUBLES)]
    person: Annotated[tuple[Seconds, Seconds], AfterValidator(_rising)] | None = None
    """A person takes the arm at, and gives it back at [s]; None: nobody does."""

    @property
    def name(self) -> str:
        """Its kinds, for people."""
        return " + ".join(trouble.kind for trouble in self.troubles)

    @property
    def ends_s(self) -> float:
        """From then on all is well [s]."""
        return max((trouble.ends_s for trouble in self.troubles), default=0.0)

    def without(self, index: int) -> Self:
        """The case with one fault less."""
        return replace(self, troubles=self.troubles[:index] + self.troubles[index + 1 :])

    def having(self, index: int, trouble: Trouble) -> Self:
        """The case with ``trouble`` for one of its faults."""
        return replace(self, troubles=(*self.troubles[:index], trouble, *self.troubles[index + 1 :]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`of` takes it back."""
        return {
            "number": self.number,
            "seed": self.seed,
            "setting": self.setting.value,
            "person": self.person,
            "troubles": [
                {"kind": t.kind, "at_s": t.at_s, "for_s": t.for_s, "values": dict(t.values)} for t in self.troubles
            ],
        }

    @staticmethod
    def of(document: Any) -> Case:
        """Raises ValidationError where it is no case."""
        return _CASE.validate_python(document)


_CASE = TypeAdapter(Case)


def random_of(seed: int, *numbers: int) -> np.random.Generator:
    """Random numbers that depend on these alone."""
    return np.random.Generator(np.random.PCG64([seed, *numbers]))


def write_case(case: Case, broken: Sequence[str], path: Path) -> None:
    """As a file that ``cadenza bench faults --case`` plays again, with what it broke."""
    document = {"case": case.as_dict(), "broken": list(broken)}
    write_atomically(path, f"{json.dumps(document, indent=2)}\n".encode())


def read_case(path: Path) -> Case:
    """Raises SpecError where there is no such file, or it is no case."""
    try:
        document = parsed_json(content_of(path, _MOST_BYTES))
        case = Case.of(document.get("case") if isinstance(document, dict) else None)
        for trouble in case.troubles:
            _check(trouble, LIVE_KINDS if case.setting is Setting.LIVE else KINDS)
    except OSError as error:
        raise SpecError("--case", str(path), f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("case", *first["loc"])))
        reason = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"--case {path}: {field}", first["input"], f"not a case: {reason}") from None
    except ValueError as error:
        raise SpecError("--case", str(path), f"not a case of cadenza bench faults: {error}") from None
    return case


def _check(trouble: Trouble, kinds: Mapping[str, Kind]) -> None:
    """Refuse a kind that there is not, or one that does not say what it must. Raises ValueError."""
    if trouble.kind not in kinds:
        raise ValueError(f"no fault of the kind {trouble.kind:.40}; see cadenza bench faults --kinds")
    missing = set(kinds[trouble.kind].draw(random_of(0))) - set(trouble.values)
    if missing:
        raise ValueError(f"{trouble.kind} without {', '.join(sorted(missing))}")
