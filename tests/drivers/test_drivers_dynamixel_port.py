"""The port: exclusive, deadline-bound, and one line about what is wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from dynamixel_sdk import COMM_RX_TIMEOUT, COMM_SUCCESS, GroupSyncRead, Protocol2PacketHandler
from dynamixel_wire import Wire, soon

from drivers.dynamixel.port import Port, PortGoneError, ensure_latency_timer
from spec.errors import DeviceError


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


def test_a_pulled_cable_is_told_apart_from_silence() -> None:
    wire = Wire({1: "XL330-M288"})
    with wire:
        port = opened(wire)
        wire.unplug()
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
