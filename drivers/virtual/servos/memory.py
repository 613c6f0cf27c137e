"""The control table of one servo as memory: who may write what, when, within which range.

Only the rules that the table itself states; what a value does is the servo's business (servo.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drivers.dynamixel.tables import EEPROM_END, Model, Register
from drivers.virtual.servos.packet import Error

_GOALS = frozenset({"goal_pwm", "goal_current", "goal_velocity", "goal_position"})

_MULTI_TURN_MODES, _MULTI_TURN = frozenset({4, 5}), 1_048_575
"""Operating modes in which Goal Position ignores the position limits, and its range there: 256 turns either way."""


class Memory:
    """Registers of one servo. Reads and writes by name are the servo's own, those by address come off the wire."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._size = model.size
        self._bytes = bytearray(self._size)
        self._values: dict[str, int] = {}  # the same as numbers: servos ask for them all the time
        self._at: dict[int, Register] = {register.address: register for register in model.registers.values()}
        self._windows: dict[int, str] = {}
        for name, register in model.registers.items():
            if name.startswith("indirect_data_"):
                self._windows[register.address] = name.replace("data", "address")
        self.restore_defaults(model.registers)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        register = self.model.registers[name]
        self._values[name] = value
        self._bytes[register.address : register.end] = register.encode(value)

    def __contains__(self, name: str) -> bool:
        return name in self.model.registers

    def restore_defaults(self, names: Iterable[str]) -> None:
        """Factory values; registers without one become 0."""
        for name in names:
            self[name] = self.model[name].default or 0

    def volatile(self) -> list[str]:
        """Names of the RAM registers a reboot resets."""
        return [name for name, register in self.model.registers.items() if not register.eeprom]

    def store(self, address: int, data: bytes) -> None:
        """Put measured values into the table, many at a time. They are read off the wire only, never by name."""
        self._bytes[address : address + len(data)] = data

    def snapshot(self) -> dict[str, int]:
        """Every register's value, by name."""
        return dict(self._values)

    def restore(self, snapshot: Mapping[str, int]) -> None:
        for name, value in snapshot.items():
            self[name] = value

    def read(self, address: int, length: int) -> bytes | Error:
        """Bytes for a read off the wire; undefined addresses inside the table read as 0."""
        if length == 0:
            return Error.DATA_LENGTH
        if address + length > self._size:
            return Error.ACCESS
        if not self._windows or address + length <= min(self._windows):
            return bytes(self._bytes[address : address + length])
        return bytes(self._bytes[source] for source in self._targets(address, length))

    def check(self, address: int, data: bytes, *, torque: bool) -> Error | list[tuple[Register, int]]:
        """What a write off the wire would do: registers with their new values, or why it is refused.

        Args:
            address: first address.
            data: bytes; must cover whole registers.
            torque: torque is on, EEPROM is locked.
        """
        if not data:
            return Error.DATA_LENGTH
        if address + len(data) > self._size:
            return Error.ACCESS
        single = self._at.get(address)
        if single is not None and single.size == len(data) and address not in self._windows:
            value = single.decode(data)
            return self._refusal(single, value, torque=torque) or [(single, value)]
        return self._check_range(self._targets(address, len(data)), data, torque=torque)

    def _check_range(self, targets: Sequence[int], data: bytes, *, torque: bool) -> Error | list[tuple[Register, int]]:
        """Several registers, or ones seen through indirect windows; ``targets``: where each byte lives."""
        found: list[tuple[Register, int]] = []
        at = 0
        while at < len(data):
            register = self._at.get(targets[at])
            if register is None:
                inside = any(r.address < targets[at] < r.end for r in self._at.values())
                return Error.DATA_LENGTH if inside else Error.ACCESS
            end = at + register.size
            if list(targets[at:end]) != list(range(register.address, register.end)):
                return Error.DATA_LENGTH
            value = register.decode(data[at:end])
            error = self._refusal(register, value, torque=torque)
            if error:
                return error
            found.append((register, value))
            at = end
        return found

    def _refusal(self, register: Register, value: int, *, torque: bool) -> Error:
        if not register.writable or (torque and register.address < EEPROM_END):
            return Error.ACCESS
        if register.name in _GOALS and "bus_watchdog" in self and self["bus_watchdog"] < 0:
            return Error.DATA_RANGE  # goals are read-only while the Bus Watchdog error stands
        if register.name == "goal_position" and self["operating_mode"] in _MULTI_TURN_MODES:
            return Error.NONE if abs(value) <= _MULTI_TURN else Error.DATA_RANGE
        bounds = register.bounds(self.__getitem__)
        if bounds is None or bounds[0] <= value <= bounds[1]:
            return Error.NONE
        named = isinstance(register.minimum, str) or isinstance(register.maximum, str)
        return Error.DATA_LIMIT if named else Error.DATA_RANGE

    def _targets(self, address: int, length: int) -> Sequence[int]:
        """Where each addressed byte really lives: indirect data windows show what their address points to."""
        return [
            self[self._windows[byte]] if byte in self._windows else byte for byte in range(address, address + length)
        ]
