"""Control tables of the Dynamixel X series (Protocol 2.0), read from the data files in ``data/``.

``x_series.csv`` holds what the models share, ``models.toml`` what differs and the e-manual page it was taken from.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from spec.errors import SpecError

EEPROM_END = 64
"""Registers below this address are EEPROM: written only while torque is off, kept without power."""

# Unit as the e-manual prints it -> SI factor.
_REV_PER_MIN = 2 * math.pi / 60
_SI: Mapping[str, float] = {
    "": 1.0,
    "us": 1e-6,
    "ms": 1e-3,
    "pulse": 1.0,
    "degC": 1.0,
    "V": 1.0,
    "mA": 1e-3,
    "%": 1e-2,
    "mV/ms": 1.0,
    "rev/min": _REV_PER_MIN,
    "rev/min2": _REV_PER_MIN / 60,
}


@dataclass(frozen=True, slots=True)
class Register:
    """One register of a control table."""

    name: str
    address: int
    size: int
    """[bytes]"""
    access: Literal["R", "RW"]
    signed: bool
    default: int | None
    """Factory value; None where it depends on the servo's state."""
    minimum: int | str | None
    """A number, or the name of the register that holds it (with a leading minus sign: its negative)."""
    maximum: int | str | None
    unit: str
    """As in the e-manual, e.g. ``0.229 rev/min``."""
    scale: float
    """SI units in one register unit: rad/s, rad/s², A, V, s, °C, fraction; 1 for encoder pulses and plain numbers."""

    @property
    def end(self) -> int:
        """First address behind the register."""
        return self.address + self.size

    @property
    def eeprom(self) -> bool:
        return self.address < EEPROM_END

    @property
    def writable(self) -> bool:
        return self.access == "RW"

    def bounds(self, read: Callable[[str], int]) -> tuple[int, int] | None:
        """Permitted values, asking ``read(register name)`` for limits kept in other registers; None where unlimited."""
        if self.minimum is None or self.maximum is None:
            return None
        return _bound(self.minimum, read), _bound(self.maximum, read)

    def encode(self, value: int) -> bytes:
        """Little-endian bytes of one value; OverflowError where it does not fit."""
        return value.to_bytes(self.size, "little", signed=self.signed)

    def decode(self, data: bytes | bytearray | memoryview) -> int:
        return int.from_bytes(data, "little", signed=self.signed)


def _bound(bound: int | str, read: Callable[[str], int]) -> int:
    if isinstance(bound, int):
        return bound
    return -read(bound[1:]) if bound.startswith("-") else read(bound)


@dataclass(frozen=True, slots=True)
class Indirect:
    """A block of indirect addresses: 2-byte address registers, and the 1-byte windows that show what they point to."""

    address: int
    data: int
    count: int


@dataclass(frozen=True, slots=True)
class Model:
    """One servo model."""

    name: str
    number: int
    """Model Number(0)."""
    registers: Mapping[str, Register]
    """By name, in address order."""
    baud: tuple[int, ...]
    """Baud rates [bit/s] in the order of their Baud Rate(8) codes."""
    modes: tuple[int, ...]
    """Operating Mode(11) codes the model knows."""
    effort: Literal["current", "load"]
    """Which of the two stands at address 126."""
    watchdog_firmware: int
    """First firmware with Bus Watchdog(98)."""
    indirect: tuple[Indirect, ...]
    source: str
    """e-manual page."""
    stall_torque: float
    """At full duty and the usual supply voltage [N·m]."""
    resolution: int = 4096
    """Encoder pulses in one turn."""

    def __getitem__(self, register: str) -> Register:
        return self.registers[register]

    @property
    def effort_register(self) -> Register:
        """The register at address 126."""
        return self.registers[f"present_{self.effort}"]

    @property
    def size(self) -> int:
        """First address behind the whole table."""
        return max(register.end for register in self.registers.values())


@cache
def models() -> Mapping[str, Model]:
    """Every known model by name."""
    folder = resources.files("drivers.dynamixel") / "data"
    lines = (folder / "x_series.csv").read_text(encoding="utf-8").splitlines()
    shared = {row["name"]: dict(row) for row in csv.DictReader(lines)}
    document = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    return MappingProxyType(
        {name: _model(name, document, shared) for name, entry in document.items() if not entry.get("family")}
    )


def model(name: str) -> Model:
    """A model by name, e.g. ``XL330-M288``; SpecError with the known names otherwise."""
    try:
        return models()[name]
    except KeyError:
        raise SpecError("servo model", name, "no control table for it", models()) from None


def model_name(number: int) -> str:
    """Name of a model number, or ``model NUMBER`` for one we have no table of."""
    return next((m.name for m in models().values() if m.number == number), f"model {number}")


def _model(name: str, document: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> Model:
    entry = document[name]
    family = document[entry["base"]]
    rows: dict[str, dict[str, Any]] = {key: dict(row) for key, row in shared.items()}
    for layer in (family, entry):
        for register in layer.get("remove", ()):
            del rows[register]
        for register, fields in layer.get("set", {}).items():
            rows[register].update(fields)
        rows.update({register: dict(fields) for register, fields in layer.get("add", {}).items()})
    rows["model_number"]["default"] = entry["number"]
    indirect = tuple(Indirect(*block) for block in family["indirect"])
    registers = [_register(key, row) for key, row in rows.items()]
    registers += _indirect_registers(indirect)
    return Model(
        name=name,
        number=entry["number"],
        registers=MappingProxyType({r.name: r for r in sorted(registers, key=lambda r: r.address)}),
        baud=tuple(family["baud"]),
        modes=tuple(family["modes"]),
        effort=family["effort"],
        watchdog_firmware=family["watchdog_firmware"],
        indirect=indirect,
        source=entry["source"],
        stall_torque=entry["stall_torque"],
    )


def _register(name: str, row: Mapping[str, Any]) -> Register:
    unit = row.get("unit") or ""
    number, _, symbol = unit.partition(" ")
    return Register(
        name=name,
        address=int(row["address"]),
        size=int(row["size"]),
        access=row["access"],
        signed=bool(int(row.get("signed") or 0)),
        default=_number(row.get("default")),
        minimum=_number_or_name(row.get("min")),
        maximum=_number_or_name(row.get("max")),
        unit=unit,
        scale=float(number) * _SI[symbol] if unit else 1.0,
    )


def _number(cell: str | int | None) -> int | None:
    return None if cell is None or cell == "" else int(cell)


def _number_or_name(cell: str | int | None) -> int | str | None:
    if isinstance(cell, str) and not cell.lstrip("-").isdigit():
        return cell or None
    return _number(cell)


def _indirect_registers(blocks: tuple[Indirect, ...]) -> list[Register]:
    """``indirect_address_1``... and ``indirect_data_1``...; factory: each address points at its own data byte."""
    end = max(block.data + block.count for block in blocks)
    registers: list[Register] = []
    number = 1
    for block in blocks:
        for k in range(block.count):
            data = block.data + k
            registers += [
                Register(
                    f"indirect_address_{number}",
                    block.address + 2 * k,
                    2,
                    "RW",
                    False,
                    data,
                    EEPROM_END,
                    end - 1,
                    "",
                    1.0,
                ),
                Register(f"indirect_data_{number}", data, 1, "RW", False, 0, 0, 255, "", 1.0),
            ]
            number += 1
    return registers
