"""A Dynamixel arm behind the arm contract of :mod:`drivers.arm`."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from drivers.arm import Applied, BusFault, Reading, ServoHealth
from drivers.dynamixel import torque
from drivers.dynamixel.budget import READ_LENGTH, WRITE_LENGTH, check_rate, predict
from drivers.dynamixel.bus import Bus
from drivers.dynamixel.identify import check_health, identify
from drivers.dynamixel.line import Line
from drivers.dynamixel.port import Port
from drivers.dynamixel.recovery import check_memory, check_stand, restartable
from drivers.dynamixel.safety import (
    WATCHDOG_UNIT_MS,
    Programming,
    hardware_errors,
    program,
    programming,
    watchdog_units,
)
from drivers.dynamixel.sync import BusStatistics, SyncReader, SyncWriter
from drivers.dynamixel.tables import Model, model
from drivers.dynamixel.units import LIMIT_MARGIN, Units
from spec.arrays import Bool, Float, Int
from spec.calibration import Calibration, load_calibration
from spec.errors import DeviceError
from spec.robot import WATCHDOG_SUSPECT
from spec.robot import Arm as ArmSpec

_READ = "hii"  # of each servo: effort, velocity, position, in registers 126, 128, 132
_ALARM_LENGTH = 2
"""Registered Instruction(69) and Hardware Error Status(70): answers do not say what they answer, and one that came late
about the Bus Watchdog(98), a single byte, would be taken for an error."""
_FAST_TRIES = 3
_FIRST_READ_NS = 50_000_000
_FIRED = 0xFF  # Bus Watchdog(98) of -1
_REBOOT_NS = 5_000_000_000
_REBOOT_POLL_S = 0.05
_RELAPSE_S = 0.1
"""A servo whose trouble is still there (heat, supply) says so again soon after its restart."""


class DynamixelArm:
    """Dynamixel X-series servos on one bus.

    Faults of a reading name everything that happened, even what a retry healed; ``fresh`` says whose value is missing.

    Bus Watchdog: armed by :meth:`hold`, so from then on the bus must never be silent longer than
    ``bus_watchdog_ms``. A servo whose watchdog fires stops where it is, keeps its torque and refuses new goals (its
    register 98 reads -1) until :meth:`hold` is called again. Because a sync write has no answer, the arm itself watches
    for such a silence, ours or that of a servo which perhaps hears nothing either, asks the servos once it is over, and
    reports ``BusFault.SERVO`` from then on.

    Args:
        spec: the arm's section of the robot file.
        rate_hz: rate the bus must carry; None skips that check.
        rate_field: where the robot file says so, for the message.
        calibration: None reads the file the robot file names.
        may_relax: a servo that holds torque and needs other EEPROM settings is let go for a moment. Off, that is
            refused.
        margin: how far outside the permitted range the servo-side limits stand [rad].
        line: the bus and its clock; None is the serial port the robot file names.
    """

    def __init__(
        self,
        spec: ArmSpec,
        *,
        rate_hz: float | None = None,
        rate_field: str = "control.rate_hz",
        calibration: Calibration | None = None,
        may_relax: bool = False,
        margin: float = LIMIT_MARGIN,
        line: Line | None = None,
    ) -> None:
        self.spec = spec
        self.statistics = BusStatistics()
        self._rate_hz, self._rate_field = rate_hz, rate_field
        self._may_relax, self._margin = may_relax, margin
        self._calibration = calibration
        self._ids = [joint.id for joint in spec.joints.values()]
        self._names = {joint.id: f"joint {name} (id {joint.id})" for name, joint in spec.joints.items()}
        self._models: tuple[Model, ...] = tuple(model(joint.model) for joint in spec.joints.values())
        self._watchdog = watchdog_units(spec)
        self._port = line or Port(spec.port, spec.baud)
        self._bus = Bus(self._port, self._names)
        self._fast: bool | None = None
        self._armed = self._suspect = self._tripped = False
        self._recognised = False
        self._clear_readings()

    def _clear_readings(self) -> None:
        count = len(self._ids)
        self._buffer = bytearray(count * READ_LENGTH)
        self._layout = struct.Struct("<" + _READ * count)
        self._fresh = [False] * count
        self._everybody: Bool = np.ones(count, dtype=np.bool_)
        self._everybody.setflags(write=False)
        self._last_ticks: Int = np.zeros(count, dtype=np.int64)
        self._all_heard_ns = self._port.now_ns()

    @property
    def joints(self) -> tuple[str, ...]:
        return self.spec.names

    @property
    def fast_sync_read(self) -> bool:
        """Whether the servos turned out to know fast sync read."""
        return bool(self._fast)

    @property
    def port(self) -> Line:
        return self._port

    @property
    def bus(self) -> Bus:
        """One-off transactions, for tools; not for the tick."""
        return self._bus

    def open(self) -> None:
        """Connect, identify every servo, program and read back its safety registers.

        Torque stays as it is found: an arm left holding by an earlier run goes on holding.

        Raises:
            SpecError: no calibration, or the bus cannot carry the control rate.
            MisfitError: servo, calibration and robot file do not belong together.
            DeviceError: port or servo missing, wrong baud, hardware error, a register that does not take its value.
        """
        calibration = self._calibration or load_calibration(self.spec)
        self.units = Units(self.spec, calibration, self._margin)
        wanted = [self._programming(k) for k in range(len(self.joints))]
        self._port.open()
        try:
            identify(self._bus, self.spec, self._models)
            check_health(self._bus, self.spec, self._models)
            for servo, m, values in zip(self._ids, self._models, wanted, strict=True):
                program(self._bus, servo, m, values, may_relax=self._may_relax)
            self._start_reading()
            if self._rate_hz is not None:
                self._check_rate(self._rate_hz)
        except BaseException:
            self._port.close()
            raise

    def recover(self, *, restart: bool) -> tuple[str, ...]:
        """Make the arm usable again after an outage or a fault; :meth:`hold` is what comes next.

        Opens the port again, checks that these are the same servos as before, as far as servos can tell (see
        drivers/dynamixel/recovery.py), and programs all anew. Torque stays as found. After a failure the port stays
        open where it could be opened, and is read; but nothing is written before an attempt succeeds: it may be another
        arm, which holds elsewhere.

        Args:
            restart: restart those with a hardware error that are limp already. Else they are refused.

        Returns:
            What was restarted, and of which error, as :meth:`alarms` has it.

        Raises:
            DeviceError: port or servo missing, a limp servo with a hardware error that is not to be restarted, or one
                whose error does not go, or that still holds.
            MisfitError: not the arm that was there before.
        """
        self._recognised = False
        self._port.close()
        self._port.open()
        identify(self._bus, self.spec, self._models)  # first, as its pings outlast what the last tick did not wait for
        wanted = [self._programming(k) for k in range(len(self.joints))]
        check_memory(self._bus, self._ids, self._models, wanted)
        check_stand(self._bus, self._ids, self._models, self._heard(), self._last_ticks)
        failed = restartable(self._bus, self._ids, self._models)
        names = dict(zip(self._ids, self.joints, strict=True))
        found = tuple(f"{names[servo]}: {error}" for servo, errors in failed.items() for error in errors)
        if found and not restart:
            raise DeviceError(f"{'; '.join(found)}: without torque; restarted only on the operator's word")
        for name, servo, m, values in zip(self.joints, self._ids, self._models, wanted, strict=True):
            if servo in failed:
                self.reboot(name)
            else:
                program(self._bus, servo, m, values, may_relax=False)
        if failed:
            self._port.sleep_s(_RELAPSE_S)
            check_health(self._bus, self.spec, self._models)
        self._start_reading()
        return found

    def hold(self) -> None:
        """Clear a fired watchdog, make the present position the goal, then torque on and watchdog armed; all verified.

        Raises:
            DeviceError: a joint stands outside its servo-side limits (a goal there would be refused, and the nearest
                permitted one would be a jump), or a servo refuses.
        """
        self._last_ticks = torque.hold(self._bus, self._ids, self._models[0], self.units, self._watchdog)
        self._armed, self._suspect, self._tripped = self._watchdog > 0, False, False
        self._all_heard_ns = self._port.now_ns()

    def relax(self) -> None:
        """Torque off, watchdog off. Only on the operator's word: an arm in the air falls."""
        torque.relax(self._bus, self._ids, self._models[0])
        self._armed = self._suspect = self._tripped = False

    def read(self, deadline_ns: int, meanwhile: Callable[[], None] | None = None) -> Reading:
        started = self._port.now_ns()
        fault = self._reader.read(self._buffer, self._fresh, deadline_ns, meanwhile)
        if self._armed:
            self._watch(started, deadline_ns)
            if self._tripped:
                fault |= BusFault.SERVO
        finished = self._port.now_ns()
        registers = self._layout.unpack(self._buffer)
        position, velocity, effort = self.units.measured(registers)
        return Reading(
            position=position,
            velocity=velocity,
            effort=effort,
            fresh=self._everybody if all(self._fresh) else np.array(self._fresh, dtype=np.bool_),
            raw=np.array(registers, dtype=np.int64).reshape(-1, 3)[:, ::-1],
            fault=fault,
            started_ns=started,
            finished_ns=finished,
        )

    def alarms(self, deadline_ns: int) -> tuple[str, ...]:
        """Hardware errors as ``joint: error``, by one sync read of Hardware Error Status(70) that ends at
        ``deadline_ns``; () where there are none or nobody answered."""
        answers = bytearray(_ALARM_LENGTH * len(self._ids))
        self._alarms.read(answers, [False], deadline_ns)
        status = answers[_ALARM_LENGTH - 1 :: _ALARM_LENGTH]
        if not any(status):
            return ()
        return tuple(
            f"{name}: {error}"
            for name, bits in zip(self.joints, status, strict=True)
            for error in hardware_errors(bits)
        )

    def write(self, position: Float, deadline_ns: int) -> Applied:
        started = self._port.now_ns()
        if self._recognised and all(map(math.isfinite, position.tolist())):
            ticks = self.units.ticks(position)
            fault = self._writer.write(ticks.tolist(), deadline_ns)
        else:
            ticks, fault = self._last_ticks, BusFault.SKIPPED
        if fault:
            ticks = self._last_ticks
        else:
            self._last_ticks = ticks
        return Applied(
            position=self.units.position(ticks),
            ticks=ticks,
            fault=fault,
            started_ns=started,
            finished_ns=self._port.now_ns(),
        )

    def where(self) -> dict[str, float]:
        """Joint angles [rad] at this moment, by name; DeviceError where a servo is silent. Not for the tick."""
        return dict(zip(self.joints, self.units.position(self._present()).tolist(), strict=True))

    def health(self) -> tuple[ServoHealth, ...]:
        return tuple(
            ServoHealth(
                joint=name,
                model=m.name,
                firmware=self._bus.read(servo, m["firmware_version"]),
                voltage=self._bus.read(servo, m["present_input_voltage"]) * m["present_input_voltage"].scale,
                temperature=float(self._bus.read(servo, m["present_temperature"])),
                torque=bool(self._bus.read(servo, m["torque_enable"])),
                errors=hardware_errors(self._bus.read(servo, m["hardware_error_status"])),
            )
            for name, servo, m in zip(self.joints, self._ids, self._models, strict=True)
        )

    def reboot(self, joint: str) -> None:
        """Restart the servo of ``joint`` and program it anew: the only way out of an overload. Its torque is off then,
        and its watchdog until :meth:`hold`.

        Raises:
            DeviceError: it does not come back.
        """
        k = self.joints.index(joint)
        servo, m = self._ids[k], self._models[k]
        self._bus.reboot(servo)
        give_up_ns = self._port.now_ns() + _REBOOT_NS
        while self._bus.ping(servo, attempts=1) is None:
            if self._port.now_ns() > give_up_ns:
                raise DeviceError(f"{self.spec.port}: {self._bus.name(servo)}: does not come back from a reboot")
            self._port.sleep_s(_REBOOT_POLL_S)
        program(self._bus, servo, m, self._programming(k), may_relax=False)
        self.units.settle(self._present())  # it has forgotten whole turns

    def reconnect(self) -> None:
        """Open the port again after it was gone, and check everything as :meth:`open` does: power may have gone too."""
        self._port.close()
        self.open()

    def close(self) -> None:
        """Leave the arm standing where it is, torque on and held by the servos, and free the port.

        The watchdog is disarmed: nobody will speak to the servos any more, and a fired one would lock their goals.
        """
        if not self._port.is_open:
            return
        try:
            if self._armed:
                torque.disarm(self._bus, self._ids, self._models[0], self.units)
        except DeviceError:
            pass  # unreachable servos hold by themselves once their watchdog fires
        finally:
            self._armed = self._suspect = self._tripped = False
            self._port.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _present(self) -> Int:
        """Present Position(132) of every joint [ticks], shape (joints,)."""
        register = self._models[0]["present_position"]
        found = self._bus.read_all(self._ids, register.address, register.size)
        return np.array([register.decode(found[servo]) for servo in self._ids], dtype=np.int64)

    def _heard(self) -> Int:
        """Where each joint was last heard to stand [ticks], shape (joints,)."""
        return np.array(self._layout.unpack(self._buffer)[2::3], dtype=np.int64)

    def _programming(self, k: int) -> Programming:
        units = self.units
        return programming(
            self.spec,
            self.joints[k],
            self._models[k],
            int(units.lower_ticks[k]),
            int(units.upper_ticks[k]),
            units.extended[k],
        )

    def _start_reading(self) -> None:
        """Build the tick's reader and writer, and fill the last values, so that a silent joint has one to keep."""
        m = self._models[0]
        first = self._bus.read_all(self._ids, m.effort_register.address, READ_LENGTH)
        self._buffer[:] = b"".join(first[servo] for servo in self._ids)
        self._last_ticks = self._heard()
        self.units.settle(self._last_ticks)
        self._reader = SyncReader(
            self._port,
            self._ids,
            m.effort_register.address,
            READ_LENGTH,
            self.statistics,
            return_delay_ns=self.spec.return_delay_us * 1000,
        )
        self._writer = SyncWriter(self._port, self._ids, m["goal_position"].address, WRITE_LENGTH, self.statistics)
        self._guard = SyncReader(self._port, self._ids, m["bus_watchdog"].address, 1, self.statistics)
        first_alarm = m["hardware_error_status"].end - _ALARM_LENGTH
        self._alarms = SyncReader(self._port, self._ids, first_alarm, _ALARM_LENGTH, self.statistics, retries=0)
        if self._fast is None:
            self._fast = self._knows_fast_sync_read()
        self._reader.fast = self._guard.fast = self._alarms.fast = self._fast
        self._recognised = True

    def _knows_fast_sync_read(self) -> bool:
        """Servos that do not know the instruction stay silent, as does one unlucky packet: hence a few tries."""
        fast = replace(self._reader, statistics=BusStatistics(), fast=True, retries=0)
        fresh = [False]
        for _ in range(_FAST_TRIES):
            fast.read(bytearray(self._buffer), fresh, self._port.now_ns() + _FIRST_READ_NS)
            if any(fresh):
                return True
        return False

    def _check_rate(self, rate_hz: float) -> None:
        budget = predict(
            self.spec.baud,
            len(self._ids),
            return_delay_us=self.spec.return_delay_us,
            latency_timer_ms=self._port.latency_timer_ms or 0,
            fast=self.fast_sync_read,
        )
        check_rate(budget, rate_hz, where=self._rate_field)

    def _watch(self, started_ns: int, deadline_ns: int) -> None:
        """Notice a fired Bus Watchdog: after a silence, ask for register 98 as soon as there is time for it."""
        watchdog_ns = self._watchdog * WATCHDOG_UNIT_MS * 1_000_000
        self._suspect |= started_ns - self._all_heard_ns > WATCHDOG_SUSPECT * watchdog_ns
        if all(self._fresh):
            self._all_heard_ns = started_ns
        if self._suspect:
            answers, fresh = bytearray(len(self._ids)), [False]
            self._guard.read(answers, fresh, deadline_ns)
            self._tripped |= any(value == _FIRED for value in answers)
            self._suspect = not all(fresh)
