"""The ``cadenza`` command: finds the module of a command and turns refusals into one line and an exit status.

Exit status: 0 done, 1 done but the verdict is bad, 2 refused (bad input, missing device), 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from spec.errors import CadenzaError

# command -> (module, one line for the overview). Modules are imported only when used: the robot PC has no torch.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("cadenza.commands.run", "drive an arm with an exported policy"),
    "collect": ("cadenza.commands.collect", "record demonstrations, or a policy's runs with a person stepping in"),
    "weights": ("cadenza.commands.weights", "look at and change the weights that drive a run, while it runs"),
    "sim": ("cadenza.commands.sim", "start the virtual arm"),
    "calibrate": ("cadenza.commands.calibrate", "measure an arm: joints, takeover"),
    "demos": ("cadenza.commands.demos", "record scripted demonstrations in the virtual arm"),
    "learn": ("cadenza.commands.learn", "train a policy: warmup, online, reward, eval; serve and offer it to robots"),
    "sync": ("cadenza.commands.sync", "send episodes to a learner on another machine, and bring its bundles"),
    "export": ("cadenza.commands.export", "turn a checkpoint into a bundle the robot can run"),
    "import": ("cadenza.commands.import_legacy", "turn a legacy checkpoint into one that can be trained here"),
    "replay": ("cadenza.commands.replay", "an episode again: on an arm, by another policy, tick for tick, on a screen"),
    "episodes": ("cadenza.commands.episodes", "look at, check, recover, label, prune and export recorded episodes"),
    "bench": ("cadenza.commands.bench", "measure what must hold: takeover, learning, online"),
    "demo": ("cadenza.commands.demo", "the whole thing on the virtual arm, with a report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if sys.stdin is None:  # closed by the caller: the next file opened would take its place
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = os.fdopen(0)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        return _refuse(f"cadenza: {name!r}: no such command (valid: {', '.join(COMMANDS)})")
    return _run(name, rest)


def _run(name: str, rest: Sequence[str]) -> int:
    status = 2
    try:
        status = importlib.import_module(COMMANDS[name][0]).main(rest)
    except CadenzaError as error:
        _refuse(f"cadenza {name}: {error}")
    except ModuleNotFoundError as error:
        if (extra := _extra_of(error.name)) is None:
            raise
        remedy = f"in Cadenza's folder: pip install -c constraints.txt '.[{extra}]'"
        _refuse(f"cadenza {name}: needs {error.name}, which is not installed; {remedy}")
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "  # a full disk says no name
        _refuse(f"cadenza {name}: {where}{error.strerror or error or type(error).__name__}")
    except KeyboardInterrupt:
        _refuse(f"cadenza {name}: interrupted")
        status = 130
    return status


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 2


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cadenza COMMAND [OPTIONS]",
            "",
            "Real-time robot control for trained sequence policies.",
            "",
            *lines,
            "",
            "cadenza COMMAND --help explains one command, with examples.",
        ]
    )


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
