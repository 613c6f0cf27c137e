"""The ``cadenza`` command: finds the module of a command and turns refusals into one line and an exit status.

Exit status: 0 done, 1 done but the verdict is bad, 2 refused (bad input, missing device), 130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from cadenza.unread import never_mind_the_reader
from spec.errors import CadenzaError

# command -> (module, one line for the overview). Modules are imported only when used: the robot PC has no torch.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("cadenza.commands.run", "drive an arm with an exported policy"),
    "collect": ("cadenza.commands.collect", "record demonstrations, or a policy's runs with a person stepping in"),
    "status": ("cadenza.commands.status", "how a run is: mode, fault, timing, processes, and what to do next"),
    "recover": ("cadenza.commands.recover", "tell a run that the cause of a fault is gone"),
    "weights": ("cadenza.commands.weights", "look at and change the weights that drive a run, while it runs"),
    "doctor": ("cadenza.commands.doctor", "look at machine, ports, servos and cameras, and say what to mend"),
    "service": ("cadenza.commands.service", "a run that the machine starts, watches and ends: systemd unit"),
    "certify": ("cadenza.commands.certify", "prove the timing of the control loop on this machine"),
    "sim": ("cadenza.commands.sim", "start the virtual arm"),
    "calibrate": ("cadenza.commands.calibrate", "measure an arm: joints, envelope, takeover"),
    "demos": ("cadenza.commands.demos", "record scripted demonstrations in the virtual arm"),
    "learn": ("cadenza.commands.learn", "train a policy: warmup, online, reward, eval; serve and offer it to robots"),
    "sync": ("cadenza.commands.sync", "send episodes to a learner on another machine, and bring its bundles"),
    "export": ("cadenza.commands.export", "turn a checkpoint into a bundle the robot can run"),
    "import": ("cadenza.commands.import_legacy", "turn a legacy checkpoint into one that can be trained here"),
    "replay": ("cadenza.commands.replay", "an episode again: on an arm, by another policy, tick for tick, on a screen"),
    "episodes": ("cadenza.commands.episodes", "look at, check, recover, label, prune and export recorded episodes"),
    "bench": ("cadenza.commands.bench", "measure what must hold: takeover, learning, online, faults, soak, fuzz"),
    "demo": ("cadenza.commands.demo", "the whole thing on the virtual arm, with a report"),
}

_DRIVING = {"run", "collect", "demos", "demo", "replay", "certify", "calibrate", "bench", "sim"}
"""Whoever reads what these say may leave; the arm, and what is on record of it, are looked after to the end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if sys.stdin is None:  # closed by the caller: the next file opened would take its place
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = os.fdopen(0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # none where the caller closed it
        sys.stdout.reconfigure(errors="replace")  # a terminal without a letter for µ is no reason to fail
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        return _answered("cadenza", partial(_overview, 0 if arguments else 2))
    name, *rest = arguments
    if name not in COMMANDS:
        return _refuse(f"cadenza: {name!r}: no such command (valid: {', '.join(COMMANDS)})")
    said, work = f"cadenza {name}", partial(_run, name, rest)
    if name not in _DRIVING:
        return _answered(said, work)
    with never_mind_the_reader() as lost:
        status = _answered(said, work)
    return _refuse(f"{said}: what it printed is not whole: {lost[0].strerror}") if lost and not status else status


def _run(name: str, rest: Sequence[str]) -> int:
    try:
        os.getcwd()  # noqa: PTH109 (only whether there is one)
    except OSError as error:
        raise CadenzaError(f"the working folder is gone ({error.strerror}); go to another, or into it anew") from None
    status: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    return status


def _answered(said: str, work: Callable[[], int]) -> int:
    """The exit status of some work, its refusals told in one line that begins with ``said``."""
    status = 2
    try:
        with _written_out():
            status = work()
    except CadenzaError as error:
        _refuse(f"{said}: {error}")
    except ModuleNotFoundError as error:
        if (extra := _extra_of(error.name)) is None:
            raise
        remedy = f"in Cadenza's folder: pip install -c constraints.txt '.[{extra}]'"
        _refuse(f"{said}: needs {error.name}, which is not installed; {remedy}")
    except BrokenPipeError:  # whoever read our output has seen enough (`| head`)
        status = 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "  # a full disk says no name
        status = _refuse(f"{said}: {where}{error.strerror or error or type(error).__name__}")
    except KeyboardInterrupt:
        _refuse(f"{said}: interrupted")
        status = 130
    return status


@contextmanager
def _written_out() -> Iterator[None]:
    """Standard output fails in here or not at all: Python would try again while it closes it, and complain."""
    try:
        yield
    except (Exception, KeyboardInterrupt):  # which say more than that they cannot be printed
        with suppress(OSError):
            _flush()
        raise
    except SystemExit:
        _flush()
        raise
    _flush()


def _flush() -> None:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 2


def _overview(status: int) -> int:
    width = max(map(len, COMMANDS))
    print("usage: cadenza COMMAND [OPTIONS]")
    print("\nReal-time robot control for trained sequence policies.\n")
    for name, (_, summary) in COMMANDS.items():
        print(f"  {name:<{width}}  {summary}")
    print("\ncadenza COMMAND --help explains one command, with examples.")
    return status


def _extra_of(module: str | None) -> str | None:
    """The optional extra that brings a missing module."""
    modules = {
        "learn": ("torch", "safetensors", "onnx", "onnxscript", "starlette", "uvicorn"),
        "sim": ("gymnasium",),
        "dataset": ("pyarrow", "av"),
        "view": ("rerun",),
    }
    package = (module or "").partition(".")[0]
    return next((extra for extra, brings in modules.items() if package in brings), None)
