"""Serial ports: named for good, permitted, free, quick to hand answers on; and the udev rules that make them so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cadenza.doctor.finding import Finding, failure, text_of, warning, well
from drivers.dynamixel.port import holder
from spec.robot import Robot

_PATTERNS = ("ttyUSB*", "ttyACM*")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A serial port of this machine, and the USB adapter behind it."""

    device: str
    """Kernel name: ``ttyUSB0``."""
    stable: str | None
    """Path under /dev/serial/by-id; None where there is none."""
    vendor: str
    product: str
    serial: str
    """Empty where the adapter has none."""
    place: str
    """Where it is plugged in, as the kernel numbers it: ``1-1.2``."""
    latency_timer_ms: int | None
    """None for adapters without one."""

    def match(self) -> str:
        """Which device it is, in a udev rule. One without a serial number is known by where it is plugged in."""
        which = f'ATTRS{{serial}}=="{self.serial}"' if self.serial else f'KERNELS=="{self.place}"'
        return f'ATTRS{{idVendor}}=="{self.vendor}", ATTRS{{idProduct}}=="{self.product}", {which}'


def adapters(root: Path) -> list[Adapter]:
    """Every USB serial port there is. ``root`` is ``/``; another folder in tests."""
    stable = {path.resolve().name: f"/dev/serial/by-id/{path.name}" for path in (root / "dev/serial/by-id").glob("*")}
    names = sorted(path.name for pattern in _PATTERNS for path in (root / "dev").glob(pattern))
    return [_adapter(root, name, stable.get(name)) for name in names]


def _adapter(root: Path, name: str, stable: str | None) -> Adapter:
    device = (root / "sys/class/tty" / name / "device").resolve()
    usb = next((folder for folder in (device, *device.parents) if (folder / "idVendor").exists()), device)
    timer = text_of(root / "sys/bus/usb-serial/devices" / name / "latency_timer")
    vendor, product, serial = (text_of(usb / field) for field in ("idVendor", "idProduct", "serial"))
    return Adapter(name, stable, vendor, product, serial, usb.name, int(timer) if timer.isdecimal() else None)


def arms_of(robot: Robot) -> dict[str, str]:
    """Port of each arm, by its part in the robot."""
    arms = (
        {"follower": robot.follower} if robot.leader is None else {"follower": robot.follower, "leader": robot.leader}
    )
    return {part: arm.port for part, arm in arms.items()}


def check_ports(root: Path, arms: Mapping[str, str], found: Sequence[Adapter]) -> list[Finding]:
    """The port of each arm; and all ports there are, where one is missing."""
    return [finding for part, port in arms.items() for finding in _check_port(root, part, port, found)]


def _check_port(root: Path, part: str, port: str, found: Sequence[Adapter]) -> Iterator[Finding]:
    path = Path(port) if port.startswith(str(root)) else root / port.lstrip("/")
    name = f"{part} port"
    if not path.exists():
        present = ", ".join(one.stable or f"/dev/{one.device}" for one in found) or "no serial port at all"
        fix = f"plug it in and power it; then put the right one into {part}.port, of these: {present}"
        yield failure(name, f"{port} is not there", "the arm cannot be reached", fix)
        return
    adapter = next((one for one in found if one.device == path.resolve().name), None)
    if adapter is not None and port.startswith("/dev/tty"):
        better = f"put {part}.port: {adapter.stable}" if adapter.stable else "cadenza doctor --write-udev FILE"
        yield warning(name, port, "this name goes to another arm when they are plugged in in another order", better)
    else:
        yield well(name, port)
    if not os.access(path, os.R_OK | os.W_OK):
        fix = "sudo usermod -aG dialout $USER; log out and in"
        yield failure(f"{part} permission", "may not be opened", "the port belongs to another group", fix)
    if (who := holder(path)) is not None:
        fix = "end it first; a run: Ctrl-C, or systemctl stop cadenza"
        yield failure(f"{part} in use", who, "two programs on one bus garble each other's packets", fix)
    if adapter is not None and adapter.latency_timer_ms is not None:
        yield _timer(part, adapter)


def _timer(part: str, adapter: Adapter) -> Finding:
    name, value = f"{part} latency timer", f"{adapter.latency_timer_ms} ms"
    if adapter.latency_timer_ms == 1:
        return well(name, value)
    file = f"/sys/bus/usb-serial/devices/{adapter.device}/latency_timer"
    why = "the adapter keeps every answer for so long"
    return warning(name, value, why, f"echo 1 | sudo tee {file}; for good: cadenza doctor --write-udev FILE")


def udev_rules(arms: Mapping[str, str], found: Sequence[Adapter], root: Path = Path("/")) -> str:
    """Rules that give every adapter a name of its own, the group dialout, and a latency timer of 1 ms.

    Args:
        arms: port of each arm; an adapter that is one is named after it.
        found: the adapters there are.
        root: ``/``; another folder in tests.
    """
    parts = {(root / port.lstrip("/")).resolve().name: part for part, port in arms.items()}
    lines = [
        "# Serial ports of arms: a stable name, the group dialout, no waiting in the adapter.",
        "# sudo cp FILE /etc/udev/rules.d/90-cadenza.rules; sudo udevadm control --reload; sudo udevadm trigger",
    ]
    for adapter in found:
        name = f"cadenza-{parts.get(adapter.device) or adapter.serial or adapter.place}"
        match = adapter.match()
        lines.append(f'SUBSYSTEM=="tty", {match}, SYMLINK+="{name}", GROUP="dialout", MODE="0660"')
        if adapter.latency_timer_ms is not None:
            lines.append(f'SUBSYSTEM=="usb-serial", ACTION=="add", {match}, ATTR{{latency_timer}}="1"')
    return "\n".join(lines) + "\n"
