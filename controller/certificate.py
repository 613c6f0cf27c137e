"""The certificate of timing: what ``cadenza certify`` measured on this very PC, and whether it still speaks of it.

It is bound to the machine (kernel, processor, cores, governor), to the core and the priority of the loop, and to what
in the robot file matters to timing. It stays on the machine that it is about, under
``$XDG_STATE_HOME/cadenza/certificates``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from controller.realtime import DMA_LATENCY, control_cpu
from spec.arrays import Float
from spec.errors import CadenzaError, SpecError
from spec.files import content_of, parsed_json, write_atomically
from spec.robot import Robot, Section
from spec.robotfile import validated

SLACK = 1.2
"""So many times as late may wake-ups be: the loop's as cyclictest's when it is certified, live ones as certified."""
STRAYS = 3
"""Periods missed, or late wake-ups, within one look that are not worth a word: one stall of the whole machine. At a low
rate one in a hundred is not even one; four that are later than one in a thousand was are no chance at any rate."""

MADE = "%Y-%m-%dT%H:%M:%SZ"
"""How a certificate writes down when it was made: UTC, ISO 8601."""
LONGEST_MINUTES = 24.0 * 60.0
_LONGEST_US = LONGEST_MINUTES * 60e6
_AHEAD = timedelta(days=1)
"""A clock that was not set yet may be so far behind the one that a certificate was made by; more is no date."""
_MOST_BYTES = 100_000
"""Of a file; usual are 2 kB."""
_ROUNDING = 1.0 + 1e-9
"""Percentiles are interpolated."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that are no text")
    return text


def _date(text: str) -> str:
    at = datetime.strptime(text, MADE).replace(tzinfo=UTC)
    if at.strftime(MADE) != text:
        raise ValueError(f"not a date as in {datetime(2026, 1, 2, tzinfo=UTC).strftime(MADE)}")
    if at > datetime.now(UTC) + _AHEAD:
        raise ValueError("in the future")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""That is shown as it is, on terminals too."""
Micros = Annotated[float, Field(ge=0.0, le=_LONGEST_US)]


class Machine(Section):
    """What a PC's punctuality hangs on."""

    kernel: Text
    cpu: Text
    cores: Text
    """Cores this process may use."""
    isolated: Text
    """Cores the scheduler leaves alone (isolcpus)."""
    governor: Text
    """Frequency governor of the control core; ``none`` where the kernel does not change frequencies."""
    idle: Text
    """Whether deep idle states may be forbidden."""

    @classmethod
    def here(cls, core: int) -> Self:
        """This machine, seen from the control core."""
        cpu = Path("/sys/devices/system/cpu")
        return cls(
            kernel=f"{platform.release()} {platform.version()}",
            cpu=cpu_model(),
            cores=",".join(map(str, sorted(os.sched_getaffinity(0) | {core}))),
            isolated=_read(cpu / "isolated") or "none",
            governor=_read(cpu / f"cpu{core}/cpufreq/scaling_governor") or "none",
            idle="kept shallow" if os.access(DMA_LATENCY, os.W_OK) else "as the kernel has it",
        )


class Lateness(Section):
    """How late the loop woke [µs], and which share of its periods it missed."""

    p99: Micros
    p99_9: Micros
    max: Micros
    missed_share: float = Field(ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.p99 <= self.p99_9 * _ROUNDING <= self.max * _ROUNDING**2:
            raise ValueError("p99, p99_9 and max have to rise")
        return self


class Certificate(Section):
    """What was measured, on what, and whether it was good enough."""

    version: int = Field(default=1, ge=1, le=1)
    made: Annotated[str, AfterValidator(_date)]
    """See :data:`MADE`."""
    robot: Text
    """Name in the robot file."""
    facts: dict[Text, Text]
    """Of the robot file, see :func:`timing_facts`."""
    rate_hz: float = Field(gt=0.0, le=2000.0)
    machine: Machine
    core: int = Field(ge=0)
    priority: int = Field(ge=1, le=99)
    privileges: tuple[Text, ...]
    """That were granted."""
    minutes: float = Field(gt=0.0, le=LONGEST_MINUTES)
    """For so long the loop ran [min]."""
    drove: Literal["policy", "motion", "nothing"]
    """What the arm followed meanwhile."""
    plain: Lateness
    stress: Lateness
    broken: tuple[Text, ...] = ()
    """Bounds that did not hold."""

    def valid_for(self, robot: Robot) -> str | None:
        """Why it says nothing about this robot file on this machine; None where it does."""
        if self.broken:
            return f"the bar was missed when it was made: {'; '.join(self.broken)}"
        core = control_cpu(robot.control.cpu)
        now = {**_flat(Machine.here(core)), "core": str(core), "priority": str(robot.control.priority)}
        then = {**_flat(self.machine), "core": str(self.core), "priority": str(self.priority)}
        now, then = {**now, **timing_facts(robot)}, {**then, **self.facts}
        for name in {**then, **now}:
            if now.get(name) != then.get(name):
                return f"{name} is {now.get(name, 'none')}, certified with {then.get(name, 'none')}"
        if robot.control.rate_hz > self.rate_hz:
            return f"control.rate_hz is {robot.control.rate_hz:g}, certified up to {self.rate_hz:g}"
        return None

    def departure(self, lateness_us: Float, missed: int, ticks: int) -> str | None:
        """In which way live figures leave what was certified; None where they do not.

        One wake-up in a hundred may be as late as the one in a thousand was under stress: ten times as many late ones
        are no chance. A certificate of a rate covers lower ones, whose period has more room.

        Args:
            lateness_us: of the wake-ups looked at [µs], shape (n,).
            missed: periods missed meanwhile.
            ticks: run meanwhile.
        """
        late_us, share = SLACK * self.stress.p99_9, missed / max(1, missed + ticks)
        if missed > STRAYS and share > SLACK * self.stress.missed_share:
            return f"{share:.2%} of the ticks missed, certified {self.stress.missed_share:.2%}"
        late = int(np.count_nonzero(lateness_us > late_us))
        if late > STRAYS and (p99 := float(np.percentile(lateness_us, 99))) > late_us:
            return f"wake-ups {p99:.0f} µs late (p99), certified {self.stress.p99_9:.0f} µs (p99.9, under stress)"
        return None


def timing_facts(robot: Robot) -> dict[str, str]:
    """What in a robot file matters to timing, by field.

    The bus and everything on it, cameras by size and rate, and what is worked out in a tick. Not ports, addresses,
    calibration, limits or the virtual scene, which cost the same whatever they are; and not ``control.rate_hz``, which
    may be lower than certified.
    """
    arm, control = robot.follower, robot.control
    virtual = robot.virtual
    return {
        "follower.baud": str(arm.baud),
        "follower.return_delay_us": str(arm.return_delay_us),
        "follower.joints": ", ".join(f"{joint.id} {joint.model}" for joint in arm.joints.values()),
        "control.mode": control.mode.value,
        "workspace": "none" if robot.workspace is None else "a box",
        "collision": "none" if robot.collision is None else f"table {robot.collision.table}",
        "virtual": "none" if virtual is None else f"with{'' if virtual.wire_time else 'out'} wire time",
        **{
            f"cameras.{name}": f"{camera.width}x{camera.height} at {camera.fps:g} Hz"
            for name, camera in robot.cameras.items()
        },
    }


def folder() -> Path:
    """Where this machine keeps its certificates (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "cadenza" / "certificates"


def read_certificate(robot: Robot) -> Certificate | None:
    """The certificate that comes nearest to a robot file; None where there is none for a robot of its name.

    Of those made for what the file says, the one of the lowest rate that is not below its own and that is valid here.
    Where none is, whichever tells best what is wrong: one that would cover it but for the machine, the one of the
    highest rate, the newest for a robot of this name.

    Raises:
        SpecError: one cannot be read, or was altered, and no other is valid.
    """
    files = sorted(folder().glob(f"{_stem(robot.name)}-*.json"), key=lambda file: file.lstat().st_mtime)
    found: list[Certificate] = []
    unreadable: list[SpecError] = []
    for file in files:
        try:
            found.append(_read_file(file))
        except SpecError as error:
            unreadable.append(error)
    fitting = sorted((one for one in found if one.facts == timing_facts(robot)), key=lambda one: one.rate_hz)
    covering = [one for one in fitting if one.rate_hz >= robot.control.rate_hz]
    valid = [one for one in covering if one.valid_for(robot) is None]
    if unreadable and not valid:
        raise unreadable[-1]
    nearest = valid[:1] or covering[:1] or fitting[-1:] or found[-1:]
    return nearest[0] if nearest else None


def _read_file(path: Path) -> Certificate:
    try:
        document = parsed_json(content_of(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise SpecError(str(path), str(error), "cannot read the certificate; certify again") from None
    digest = document.pop("sha256", None) if isinstance(document, dict) else None
    certificate = validated(Certificate, document, str(path))
    if digest != _digest(certificate):
        raise SpecError(f"{path}: sha256", digest, "does not match the content; certify again")
    return certificate


def check_folder(robot: Robot) -> None:
    """Refuse to begin what cannot be kept.

    Raises:
        CadenzaError: no certificate can be written, or none with this robot file's names.
    """
    for text in timing_facts(robot):
        if not text.isprintable():
            raise SpecError("robot file", text, "a name with characters that are no text cannot be certified")
    trial = folder() / ".trial"
    try:
        write_atomically(trial, bytes(_MOST_BYTES))
        trial.unlink()
    except OSError as error:
        why = f"no certificate can be kept there: {error.strerror}"
        raise SpecError("XDG_STATE_HOME", str(folder()), why) from None


def write_certificate(certificate: Certificate) -> Path:
    """Keep it on this machine, with its digest inside so that an edited one is noticed. Returns where."""
    document = {**certificate.model_dump(mode="json"), "sha256": _digest(certificate)}
    facts = hashlib.sha256(json.dumps(certificate.facts, sort_keys=True).encode()).hexdigest()
    path = folder() / f"{_stem(certificate.robot)}-{facts[:12]}-{certificate.rate_hz:g}hz.json"
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())
    return path


def demand(robot: Robot) -> Certificate:
    """The certificate without which ``control.realtime: enforce`` does not start.

    Raises:
        CadenzaError: there is none, or it says nothing about this robot file on this machine; says how to get one.
    """
    certificate = read_certificate(robot)
    why = f"{robot.name} has none on this machine" if certificate is None else certificate.valid_for(robot)
    if certificate is None or why is not None:
        raise CadenzaError(
            f"control.realtime: 'enforce': no valid certificate of timing: {why}; "
            "make one: cadenza certify --minutes 5 --config ROBOT_FILE"
        )
    return certificate


def cpu_model() -> str:
    """Of the first core."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _stem(robot: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]", "_", robot)


def _digest(certificate: Certificate) -> str:
    return hashlib.sha256(json.dumps(certificate.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _flat(machine: Machine) -> dict[str, str]:
    return {name: str(value) for name, value in machine.model_dump().items()}


def _read(path: Path) -> str:
    """Content of a file of the kernel; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
