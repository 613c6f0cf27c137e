"""``cadenza service``: a run as a service of the machine."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import tyro

from cadenza.arguments import parse, split_robot_overrides
from cadenza.commands import run
from cadenza.service.install import after_install, after_uninstall, remove_unit, unit_path, write_unit
from cadenza.service.unit import GROUPS, Unit, startable
from controller.realtime import usable_cores
from spec.errors import SpecError


class Action(StrEnum):
    """What to do."""

    INSTALL = "install"
    UNINSTALL = "uninstall"
    SHOW = "show"


@dataclass(frozen=True, slots=True)
class Args:
    """Have the machine start a run, keep it alive, and end it in order.

    install writes a systemd unit and says what to type next; it starts nothing. show prints what install would write.
    uninstall takes the unit away. Everything that cadenza run takes can be said here, and is checked before anything
    is written.

    The machine starts a run again that has died, or whose control loop does not tick. It then holds the arm where it
    stands and moves nothing until somebody says: cadenza recover RUN_FOLDER. From then on it goes on by itself, first
    slowly to the start pose. systemctl stop lets the episode end and brings the arm to rest, with its torque on.

    cadenza service show --config robots/koch.yaml --bundle runs/bundle
    cadenza service install --config robots/koch.yaml --bundle runs/bundle --realtime enforce --cpus 2 3
    cadenza service install --user --config robots/virtual.yaml --bundle runs/bundle --name arm2
    cadenza service uninstall --name arm2 --user
    """

    action: tyro.conf.Positional[Action]
    """install, uninstall or show."""
    run: tyro.conf.OmitArgPrefixes[run.Args]
    """As for cadenza run."""
    user: bool = False
    """A unit of your own service manager instead of the machine's. Needs no root, but gets fewer rights."""
    name: str = "cadenza"
    """Of the unit."""
    account: str | None = None
    """Whose rights the run has; by default yours, also under sudo. Not with --user."""
    cpus: Annotated[tuple[int, ...], tyro.conf.arg(metavar="CORE ...")] = ()
    """Cores the run may use; all by default. The control loop takes control.cpu, else the last of them. With --realtime
    enforce have them certified: taskset -c 2,3 cadenza certify, for --cpus 2 3."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "service")
    path = unit_path(args.name, args.user)
    if args.action is Action.UNINSTALL:
        remove_unit(path, args.user)
        print(f"{path} is gone. Next:")
        for line in after_uninstall(args.name, args.user):
            print(f"  {line}")
        return 0
    unit = chosen_unit(args, overrides)
    if args.action is Action.SHOW:
        print(unit.text(), end="")
        return 0
    write_unit(path, unit)
    print(f"{path} is written. Next:")
    for line in after_install(args.name, unit):
        print(f"  {line}")
    return 0


def chosen_unit(args: Args, overrides: Mapping[str, str]) -> Unit:
    """The unit that the command line asks for, once the run itself would be accepted.

    Raises:
        CadenzaError: it would not; or no such account or core.
    """
    wanted = run.wanted_run(args.run, overrides)
    wanted.check()
    if args.run.out is not None:
        raise SpecError("--out", str(args.run.out), "every start has a folder of its own, runs/run-...")
    if args.run.json:
        raise SpecError("--json", True, "a service prints no report; its report.json is in the folder of each run")
    if not str(Path.cwd()).isprintable():
        raise SpecError("working folder", str(Path.cwd()), "a unit takes plain text only; go to another folder")
    if not startable(sys.executable):
        raise SpecError("Python", sys.executable, "systemd starts no program of such a name; install it elsewhere")
    if args.user and args.account is not None:
        raise SpecError("--account", args.account, "not with --user: its units have your rights")
    control = wanted.robot.control
    _check_cores(args.cpus, control.cpu)
    return Unit(
        wanted.robot.name,
        (sys.executable, "-m", "cadenza", "run", "--service", *_options(args.run), *_given(overrides)),
        Path.cwd(),
        wanted.episode_seconds,
        control.priority,
        None if args.user else _account(args.account),
        _present(GROUPS),
        args.cpus,
    )


def _account(name: str | None) -> str:
    """Whoever types, also behind sudo."""
    chosen = (os.environ.get("SUDO_USER") or getpass.getuser()) if name is None else name
    try:
        pwd.getpwnam(chosen)
    except KeyError:
        raise SpecError("--account", chosen, "no such account on this machine") from None
    return chosen


def _present(groups: Sequence[str]) -> tuple[str, ...]:
    known = {group.gr_name for group in grp.getgrall()}
    return tuple(group for group in groups if group in known)


def _check_cores(cores: Sequence[int], control: int | None) -> None:
    usable = usable_cores()
    for core in cores:
        if core not in usable:
            raise SpecError("--cpus", core, "no such core here", usable)
    if cores and control is not None and control not in cores:
        raise SpecError("control.cpu", control, "must be one of --cpus", cores)


def _options(args: run.Args) -> list[str]:
    """A command line that says the same, with paths that hold from any folder."""
    absolute = replace(args, config=_plain(args.config), service=False)
    words: list[str] = []
    for field in fields(absolute):
        value = getattr(absolute, field.name)
        if value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            words += [option] if value is True else [option, _word(value)]
    return words


def _given(overrides: Mapping[str, str]) -> list[str]:
    return [word for field, value in overrides.items() for word in (f"--robot.{field}", value)]


def _word(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return str(_plain(value)) if isinstance(value, Path) else str(value)


def _plain(path: Path) -> Path:
    """From the root on and without ``..``. Else links are kept: where they point to may be changed on purpose."""
    return path.resolve() if ".." in path.parts else path.absolute()
