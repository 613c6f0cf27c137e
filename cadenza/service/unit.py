"""The systemd unit of a run, as text. Reference: systemd.service(5), systemd.exec(5), systemd.kill(5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.session import ANSWER_S, HOME_S
from controller.supervisor import STOP_S
from controller.wiring.vigil import READY_S

WATCHDOG_S = 30
"""Without a life sign for so long the run is started again [s]. There is one every half of it, from
:meth:`controller.supervisor.Supervisor.poll`, and only for new ticks. So a supervisor that hangs is noticed after 15 to
30 s: the policy has driven no more since the processes missed it, two seconds after it fell silent. A control loop that
stands still is noticed after 30 to 45 s: the next sign may yet tell of ticks from before. Above READY_S: whoever says
so within ten seconds of its death gets another control process, however slow its start; later the service may be
started again first, and that run waits for their word anew."""
RESTART_S = 5
"""Pause before [s]: an adapter that was plugged in again has its name back by then."""
LIMIT_S, LIMIT = 600, 5
"""No more than so many starts within so many seconds: what does not last two minutes needs a person."""
START_S = 60 + round(READY_S)
"""Longest time to become ready [s]: imports on a cold disk, then the processes."""
SPARE_S = 30
GROUPS = ("dialout", "video", "render", "input")
"""Serial ports, cameras, graphics processors, pedals and gamepads, as Debian and its relatives name them."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One service.

    Args:
        name: of the robot, for people.
        command: what to start; absolute paths.
        folder: to start it in; runs go below.
        episode_s: time limit of an episode [s].
        priority: SCHED_FIFO priority of the control loop, which the service must be allowed to take.
        user: whose rights it has; None for a unit of the user's own manager.
        groups: further groups; only those that exist, since systemd refuses the others at every start.
        cpus: cores it may use; empty for all.
    """

    name: str
    command: Sequence[str]
    folder: Path
    episode_s: float
    priority: int
    user: str | None
    groups: Sequence[str] = ()
    cpus: Sequence[int] = ()

    @property
    def stop_s(self) -> int:
        """Longest an orderly stop may take [s]: to the start pose, the episode, its recording, the arm to rest."""
        return round(HOME_S + 2 * self.episode_s + READY_S + 2 * ANSWER_S + 3 * STOP_S) + SPARE_S

    def text(self) -> str:
        """The unit file."""
        sections = [
            ("Unit", self._unit()),
            ("Service", self._service()),
            ("Install", [f"WantedBy={'default.target' if self.user is None else 'multi-user.target'}"]),
        ]
        return "\n".join(f"[{title}]\n" + "\n".join(lines) + "\n" for title, lines in sections)

    def _unit(self) -> list[str]:
        return [
            f"Description=Cadenza ({_plain(self.name)})",
            f"StartLimitIntervalSec={LIMIT_S}",
            f"StartLimitBurst={LIMIT}",
        ]

    def _service(self) -> list[str]:
        return [
            "# Ready once the arm may move; alive while its control loop ticks.",
            "Type=notify",
            "NotifyAccess=main",
            f"WatchdogSec={WATCHDOG_S}",
            f"TimeoutStartSec={START_S}",
            f"ExecStart={' '.join(map(quoted, self.command))}",
            f"WorkingDirectory={_folder(self.folder)}",
            "Environment=PYTHONUNBUFFERED=1",
            *self._account(),
            "",
            "# Whoever is started again holds the arm where it stands, and waits for cadenza recover.",
            "Restart=on-failure",
            f"RestartSec={RESTART_S}",
            "",
            "# SIGTERM, to the supervisor alone: it finishes the episode and brings the arm to rest, torque held.",
            "KillMode=mixed",
            "KillSignal=SIGTERM",
            f"TimeoutStopSec={self.stop_s}",
            "",
            "# The control loop: real-time priority, locked memory.",
            f"LimitRTPRIO={self.priority}",
            "LimitMEMLOCK=infinity",
            *([f"CPUAffinity={' '.join(map(str, self.cpus))}"] if self.cpus else []),
            *([] if self.user is None else ["OOMScoreAdjust=-900"]),
            "",
            *self._hardening(),
        ]

    def _account(self) -> list[str]:
        if self.user is None:
            return []
        groups = [f"SupplementaryGroups={' '.join(self.groups)}"] if self.groups else []
        # A service has only those limits that root gives it: no capability is needed beside them.
        return [f"User={self.user}", *groups]

    def _hardening(self) -> list[str]:
        """What costs neither serial ports, cameras, graphics processors nor shared memory.

        Not here, and why: PrivateDevices and ProtectClock close /dev; ProtectKernelTunables makes /sys read-only, where
        the latency timer of USB adapters is; PrivateTmp and PrivateIPC part a run from ``cadenza`` in a terminal;
        RestrictRealtime forbids the priority; MemoryDenyWriteExecute breaks what compiles at run time. A user's manager
        may not do most of it.
        """
        lines = ["# Nothing the run does needs more.", "NoNewPrivileges=yes"]
        if self.user is None:
            return lines
        return [
            *lines,
            "ProtectSystem=full",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "RestrictNamespaces=yes",
            "RestrictSUIDSGID=yes",
            "LockPersonality=yes",
            "SystemCallArchitectures=native",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        ]


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it: % and $ doubled, the rest by its escapes (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = "".join(letter if letter.isprintable() else _bytewise(letter) for letter in escaped)
    plain = escaped and not any(letter.isspace() or letter in "'\";" for letter in word)
    return escaped if plain else f'"{escaped}"'


def startable(program: str) -> bool:
    """Whether a unit can name it: systemd refuses quotes and backslashes in the name of a program, by whatever escape,
    and does not take $$ for $ there as it does in the words after."""
    return program.isprintable() and not set(program) & set("\"'\\$")


def _bytewise(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))  # what systemd's \x stands for is one byte


def _folder(path: Path) -> str:
    """Whole as it is, since nothing is quoted in such a line; its end is a slash, since blanks there would be dropped,
    and a backslash would join the next line to it."""
    return os.path.join(path, "").replace("%", "%%")  # noqa: PTH118 (a Path has no slash at its end)


def _plain(text: str) -> str:
    """One line for people, whatever it was."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).replace("%", "%%").split())
