"""The port: exclusive, deadline-bound, and one line about what is wrong."""

from __future__ import annotations

import os
import select
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import pytest
from dynamixel_sdk import COMM_RX_TIMEOUT, COMM_SUCCESS, GroupSyncRead, Protocol2PacketHandler
from dynamixel_wire import Wire, soon

from drivers.dynamixel.line import PortGoneError
from drivers.dynamixel.port import Port, ensure_latency_timer
from spec.errors import DeviceError


class HasFileno(Protocol):
    def fileno(self) -> int: ...


def opened(wire: Wire) -> Port:
    port = Port(wire.path, 1_000_000)
    port.open()
    return port


def test_a_second_program_is_kept_out() -> None:
    with Wire({1: "XL330-M288"}) as wire:
        first = opened(wire)
        with pytest.raises(DeviceError, match="in use"):
            Port(wire.path, 1_000_000).open()
        first.close()
        opened(wire).close()


def test_a_missing_port_lists_those_present(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no such port \(valid: "):
        Port(str(tmp_path / "ttyUSB9"), 1_000_000).open()


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceError, match="not a usable serial port") as refusal:
        Port(str(tmp_path / "file"), 1_000_000).open()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("where", ["drivers.dynamixel.port.serial.Serial", "drivers.dynamixel.port.Port._configure"])
def test_a_port_that_goes_while_it_is_opened_is_refused_in_a_line(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """termios.error is no OSError: it ended the control process with a traceback."""

    def gone(*_: object, **__: object) -> None:
        raise termios.error(5, "Input/output error")

    monkeypatch.setattr(where, gone)
    with Wire({1: "XL330-M288"}) as wire:
        port = Port(wire.path, 1_000_000)
        with pytest.raises(DeviceError, match="not a usable serial port"):
            port.open()
        assert not port.is_open


def test_receive_ends_at_its_deadline() -> None:
    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        deadline = time.monotonic_ns() + 5_000_000
        assert port.receive(deadline) == b""
        assert time.monotonic_ns() >= deadline
        assert port.receive(time.monotonic_ns() - 1) == b""
        wire.say(b"abc")
        assert port.receive(soon()) == b"abc"
        port.close()


def test_what_was_flushed_or_read_already_wakes_nobody_and_hides_nothing() -> None:
    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        for _ in range(20):
            wire.say(b"stale")
            assert port.receive(soon(), 2) == b"st"
            assert port.receive(soon(), 2) == b"al"
            port.flush_input()
            deadline = time.monotonic_ns() + 1_000_000
            assert port.receive(deadline) == b""
            assert time.monotonic_ns() >= deadline
            wire.say(b"new")
            assert port.receive(soon()) == b"new"
        port.close()


def test_all_that_came_and_no_more_is_read_by_its_size() -> None:
    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        wire.say(b"whole")
        assert port.receive(soon(), 5) == b"whole"
        deadline = time.monotonic_ns() + 1_000_000
        assert port.receive(deadline, 5) == b""
        assert time.monotonic_ns() >= deadline
        wire.say(b"again")
        assert port.receive(soon(), 5) == b"again"
        port.close()


def test_an_event_goes_before_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stays behind has the empty port asked in the next wait."""
    done: list[str] = []

    def noted(what: str, work: Callable[..., object]) -> Callable[..., object]:
        return lambda *arguments: (done.append(what), work(*arguments))[1]

    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        arrivals = port._arrivals
        assert arrivals is not None
        stand_in = SimpleNamespace(poll=noted("event", arrivals.poll), fileno=arrivals.fileno, close=arrivals.close)
        monkeypatch.setattr(port, "_arrivals", stand_in)
        monkeypatch.setattr("drivers.dynamixel.port.os", SimpleNamespace(read=noted("read", os.read)))
        monkeypatch.setattr(termios, "tcflush", noted("flush", termios.tcflush))
        wire.say(b"bytes")
        assert port.receive(soon()) == b"bytes"
        port.flush_input()
        monkeypatch.undo()
        port.close()
    assert done == ["event", "read", "event", "flush"]


def test_a_port_that_has_nothing_is_not_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """poll() and read() on it would wait for a worker of the kernel, past any deadline."""
    asked: list[int] = []

    def waiting(files: Sequence[HasFileno], *rest: object) -> object:
        asked.extend(file.fileno() for file in files)
        return select.select(files, *rest)

    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        monkeypatch.setattr("drivers.dynamixel.port.select", SimpleNamespace(select=waiting))
        monkeypatch.setattr("drivers.dynamixel.port.os", SimpleNamespace())  # without read()
        assert port.receive(time.monotonic_ns() + 1_000_000) == b""
        monkeypatch.undo()
        assert [os.isatty(descriptor) for descriptor in asked] == [False]
        port.close()


def test_a_closed_port_is_no_silent_one() -> None:
    with Wire({1: "XL330-M288"}) as wire:
        port = opened(wire)
        port.close()
        with pytest.raises(PortGoneError, match="closed"):
            port.receive(soon())


def test_a_pulled_cable_is_told_apart_from_silence() -> None:
    wire = Wire({1: "XL330-M288"})
    with wire:
        port = opened(wire)
        wire.unplug()
        for _ in range(2):
            with pytest.raises(PortGoneError, match="the port is gone"):
                port.receive(soon())
        with pytest.raises(PortGoneError):
            port.send(b"x")
        port.close()
        with pytest.raises(PortGoneError):
            port.receive(soon())


def test_the_sdk_works_on_this_port() -> None:
    with Wire({1: "XL330-M288", 2: "XL430-W250"}) as wire:
        port, packets = opened(wire), Protocol2PacketHandler()
        assert packets.ping(port, 1) == (1200, COMM_SUCCESS, 0)
        assert packets.read4ByteTxRx(port, 2, 132) == (2048, COMM_SUCCESS, 0)
        group = GroupSyncRead(port, packets, 132, 4)
        assert group.addParam(1)
        assert group.addParam(2)
        assert group.txRxPacket() == COMM_SUCCESS
        assert group.getData(2, 132, 4) == 2048
        wire.mute.add(1)
        assert packets.ping(port, 1)[1] == COMM_RX_TIMEOUT
        port.close()


def timer(sysfs: Path, text: str) -> Path:
    file = sysfs / "bus/usb-serial/devices/ttyUSB0/latency_timer"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_latency_timer_is_brought_down(tmp_path: Path) -> None:
    file = timer(tmp_path, "16\n")
    assert ensure_latency_timer("/dev/ttyUSB0", tmp_path, low_latency=False) == 1
    assert file.read_text() == "1"


def test_low_latency_mode_overrides_the_timer(tmp_path: Path) -> None:
    file = timer(tmp_path, "16\n")
    assert ensure_latency_timer("/dev/ttyUSB0", tmp_path, low_latency=True) == 1
    assert file.read_text() == "16\n"


def test_a_timer_that_cannot_be_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = timer(tmp_path, "16\n")

    def denied(self: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", denied)  # root may write anything; the refusal is the kernel's
    with pytest.raises(DeviceError, match=rf"16 ms.*echo 1 \| sudo tee {file}"):
        ensure_latency_timer("/dev/ttyUSB0", tmp_path, low_latency=False)


def test_adapters_without_a_timer_are_fine(tmp_path: Path) -> None:
    assert ensure_latency_timer("/dev/ttyACM0", tmp_path, low_latency=False) is None
