"""Where units lie, and what is typed after one was written or taken away."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cadenza.service.unit import Unit
from spec.errors import CadenzaError, SpecError
from spec.files import place_of, write_atomically

SYSTEM = Path("/etc/systemd/system")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,63}")


def unit_path(name: str, user: bool) -> Path:
    """Of the unit of that name, of the machine or of this user.

    Raises:
        SpecError: no name of a unit.
    """
    if not _NAME.fullmatch(name) or name.endswith(".service"):
        raise SpecError("--name", name, "letters, digits, : _ . and -, without .service")
    given = os.environ.get("XDG_CONFIG_HOME", "")  # a relative one counts as none (XDG Base Directory Specification)
    home = Path(given) if given.startswith("/") else Path.home() / ".config"
    return (home / "systemd/user" if user else SYSTEM) / f"{name}.service"


def write_unit(path: Path, unit: Unit) -> None:
    """Put it there, all of it or nothing.

    Raises:
        CadenzaError: not allowed to, or it is masked; says what is.
    """
    if place_of(path) == Path(os.devnull):
        raise CadenzaError(f"{path}: is masked; first {_control(unit.user is None)} unmask {path.stem}")
    try:
        write_atomically(path, unit.text().encode())
    except PermissionError:
        raise CadenzaError(f"{_forbidden(path, 'install')}, or use --user") from None


def remove_unit(path: Path, user: bool) -> None:
    """Take it away.

    Raises:
        CadenzaError: there is none, the machine still starts it, or not allowed to.
    """
    # systemctl disable finds nothing to do once the file is gone, and leaves links to nowhere behind.
    if any(os.path.lexists(wants / path.name) for wants in path.parent.glob("*.wants")):
        raise CadenzaError(f"{path}: is still enabled; first {_control(user)} disable --now {path.stem}")
    try:
        path.unlink()
    except FileNotFoundError:
        raise CadenzaError(f"{path}: no such unit; nothing is installed under this name") from None
    except PermissionError:
        raise CadenzaError(_forbidden(path, "uninstall")) from None


def after_install(name: str, unit: Unit) -> list[str]:
    """What to type next, for people."""
    control = _control(unit.user is None)
    lines = [f"{control} daemon-reload", f"{control} enable --now {name}", f"{control} status {name}"]
    journal = "journalctl --user" if unit.user is None else "journalctl"
    lines.append(f"{journal} -u {name} -f")
    if unit.user is not None:
        return lines
    # A user's manager hands on no more than it has: systemd.exec(5), Limit...=
    limits = f"[Service]\\nLimitRTPRIO={unit.priority}\\nLimitMEMLOCK=infinity\\n"
    return [
        "sudo mkdir -p /etc/systemd/system/user@.service.d",
        f"printf '{limits}' | sudo tee /etc/systemd/system/user@.service.d/cadenza.conf",
        "sudo systemctl daemon-reload    (and log out and in again: your manager gets its limits when it starts)",
        "loginctl enable-linger    (or the run ends when you log out)",
        *lines,
    ]


def after_uninstall(name: str, user: bool) -> list[str]:
    """What to type next, for people: it may run though nothing starts it by itself."""
    return [f"{_control(user)} stop {name}", f"{_control(user)} daemon-reload"]


def _control(user: bool) -> str:
    return "systemctl --user" if user else "sudo systemctl"


def _forbidden(path: Path, action: str) -> str:
    return f"{path}: permission denied; repeat it with sudo (sudo $(which cadenza) service {action} ...)"
