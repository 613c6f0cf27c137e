"""Servos made of bytes only, which answer from control tables: behind a pseudo-terminal, or in simulated time.

For tests of the driver's own wire handling, with faults placed on exact packets. The virtual arm does far more.
"""

from __future__ import annotations

import os
import pty
import select
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from drivers.dynamixel.line import Line
from drivers.dynamixel.protocol import HEADER, crc16, packet
from drivers.dynamixel.tables import Model, model

PING, READ, WRITE, REBOOT = 1, 2, 3, 8
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ, STATUS = 0x82, 0x83, 0x8A, 0x55
Fault = Callable[[int, bytes], bytes]
"""(servo id, answer) -> what really goes on the wire."""


class Servo:
    def __init__(self, number: int, table: Model) -> None:
        self.id, self.table = number, table
        self.memory = bytearray(table.size)
        self.alert = False
        for register in table.registers.values():
            self.put(register.name, register.default or 0)
        self.put("id", number)
        self.put("firmware_version", 46)
        self.put("present_position", 2048)

    def get(self, register: str) -> int:
        r = self.table[register]
        return r.decode(self.memory[r.address : r.end])

    def put(self, register: str, value: int) -> None:
        r = self.table[register]
        self.memory[r.address : r.end] = r.encode(value)


class Servos:
    """Servos by id. ``fault`` may swallow or change each answer."""

    def __init__(self, models: dict[int, str], *, fast: bool = True) -> None:
        self.servos = {number: Servo(number, model(name)) for number, name in models.items()}
        self.knows_fast = fast
        self.mute: set[int] = set()
        self.fault: Fault = lambda _servo, answer: answer
        self.requests: list[bytes] = []
        self._heard = bytearray()

    def say(self, data: bytes) -> None:
        """Put ``data`` on the line to the driver."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """The driver sent ``data``."""
        buffer = self._heard
        buffer += data
        while len(buffer) >= 10 and len(buffer) >= (end := 7 + (buffer[5] | buffer[6] << 8)):
            request = bytes(buffer[:end])
            del buffer[:end]
            self.requests.append(request)
            assert request.startswith(HEADER)
            assert crc16(request[:-2]) == request[-2] | request[-1] << 8
            body = request[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            self._obey(request[4], request[7], body)

    def _awake(self, ids: Iterable[int]) -> list[Servo]:
        return [self.servos[i] for i in ids if i in self.servos and i not in self.mute]

    def _obey(self, target: int, instruction: int, body: bytes) -> None:
        everybody = self._awake(self.servos) if target == 0xFE else self._awake([target])
        if instruction == PING:
            for servo in everybody:
                self._answer(servo, servo.memory[0:2] + servo.memory[6:7])
        elif instruction == READ:
            address, length = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
            for servo in everybody:
                self._answer(servo, servo.memory[address : address + length])
        elif instruction == WRITE:
            for servo in everybody:
                self._write(servo, int.from_bytes(body[:2], "little"), body[2:])
        elif instruction == REBOOT:
            for servo in everybody:
                servo.alert = False
                servo.put("hardware_error_status", 0)
                servo.put("torque_enable", 0)
                self._answer(servo, b"")
        elif instruction == SYNC_WRITE:
            address, length = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
            for at in range(4, len(body), 1 + length):
                for servo in self._awake([body[at]]):
                    servo.memory[address : address + length] = body[at + 1 : at + 1 + length]
        elif instruction == SYNC_READ or (instruction == FAST_SYNC_READ and self.knows_fast):
            address, length = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
            self._sync_read(address, length, body[4:], fast=instruction == FAST_SYNC_READ)

    def _write(self, servo: Servo, address: int, data: bytes) -> None:
        if address < 64 and servo.get("torque_enable"):
            self._answer(servo, b"", error=7)
            return
        servo.memory[address : address + len(data)] = data
        self._answer(servo, b"")

    def _sync_read(self, address: int, length: int, ids: bytes, *, fast: bool) -> None:
        if not fast:
            for servo in self._awake(ids):
                self._answer(servo, servo.memory[address : address + length])
            return
        size = 3 + len(ids) * (length + 4) - 2
        answer = HEADER + bytes((0xFE, size & 0xFF, size >> 8, STATUS))
        for number in ids:
            if number in self.mute or number not in self.servos:
                break  # those behind wait for it in vain
            servo = self.servos[number]
            answer += bytes((0x80 * servo.alert, number)) + servo.memory[address : address + length]
            answer += crc16(answer).to_bytes(2, "little")
        self.say(self.fault(0xFE, answer))

    def _answer(self, servo: Servo, data: bytes | bytearray, error: int = 0) -> None:
        answer = self.fault(servo.id, packet(servo.id, STATUS, bytes((error | 0x80 * servo.alert,)) + data))
        if answer:
            self.say(answer)


class Wire(Servos):
    """On one pseudo-terminal, in a thread of their own."""

    def __init__(self, models: dict[int, str], *, fast: bool = True) -> None:
        super().__init__(models, fast=fast)
        self.speed: int | None = None
        """termios speed at which they listen; None: any."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    def unplug(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            os.close(self._master)
            os.close(self._slave)

    def say(self, data: bytes) -> None:
        """Also for noise."""
        os.write(self._master, data)

    def _run(self) -> None:
        while not self._ended.is_set():
            if not select.select([self._master], [], [], 0.01)[0]:
                continue
            data = os.read(self._master, 4096)
            if self.speed is not None and termios.tcgetattr(self._slave)[5] != self.speed:
                continue  # at another baud all they hear is noise
            self.hear(data)


class TimedLine(Servos, Line):
    """In simulated time, which moves only by being waited for: how busy the machine is changes nothing.

    ``delays`` [s]: how much later than the wire takes each answer comes, one after the other; no more of them, no more
    delay.
    """

    def __init__(self, models: dict[int, str], *, fast: bool = True, baud: int = 1_000_000) -> None:
        Servos.__init__(self, models, fast=fast)
        Line.__init__(self, "simulated", baud)
        self.delays: list[float] = []
        self._now_ns = self._free_ns = self._told_ns = 1_000_000_000
        self._coming: list[tuple[int, bytes]] = []

    @property
    def is_open(self) -> bool:
        return True

    def open(self) -> None: ...

    def close(self) -> None: ...

    def set_baud(self, baud: int) -> None:
        self.baud = baud

    def send(self, data: bytes) -> bool:
        self._free_ns = max(self._now_ns, self._free_ns) + self.wire_ns(len(data))
        self.hear(data)
        return True

    def say(self, data: bytes) -> None:
        late_s = self.delays.pop(0) if self.delays else 0.0
        self._free_ns += self.wire_ns(len(data))
        self._told_ns = max(self._told_ns, self._free_ns + round(late_s * 1e9))  # a late one holds up those behind it
        self._coming.append((self._told_ns, data))

    def receive(self, deadline_ns: int, size: int = 4096) -> bytes:
        due_ns = min(self._coming[0][0] if self._coming else deadline_ns, deadline_ns)
        self._now_ns = max(self._now_ns, due_ns)
        if not self.getBytesAvailable():
            return b""
        due_ns, data = self._coming.pop(0)
        if data[size:]:
            self._coming.insert(0, (due_ns, data[size:]))
        return data[:size]

    def flush_input(self) -> None:
        self._coming = [(due_ns, data) for due_ns, data in self._coming if due_ns > self._now_ns]

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_s(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)

    def getBytesAvailable(self) -> int:  # noqa: N802  the SDK's name
        return sum(len(data) for due_ns, data in self._coming if due_ns <= self._now_ns)


def soon(seconds: float = 0.2) -> int:
    """A deadline far enough away."""
    return time.monotonic_ns() + round(seconds * 1e9)
