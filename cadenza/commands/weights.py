"""``cadenza weights``: look at and change the weights that drive a run, from another terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cadenza.arguments import parse
from cadenza.runs import the_run
from controller.desk import answers
from spec.errors import CadenzaError, SpecError


class Action(StrEnum):
    """What to do."""

    STATUS = "status"
    SWAP = "swap"
    ROLLBACK = "rollback"
    FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class Args:
    """Look at, change, or take back the weights that drive a run, while it runs.

    status: what drives, what came before, what is being tried. swap BUNDLE: have that bundle drive, after a trial in
    shadow. rollback: have the weights before drive again, at once; a shelf is not followed then until it has something
    newer. follow on, follow off: follow the shelf the run was started with, or not; on also takes what was rolled back
    from.

    The arm passes from one policy to the next within half a second, without a stop. Ctrl-C leaves the wish standing.

    cadenza weights runs/run-20260101-120000 status
    cadenza weights runs/run-20260101-120000 swap runs/bundle2
    cadenza weights runs/run-20260101-120000 rollback
    cadenza weights runs/run-20260101-120000 follow off
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Folder of a run, or of a session of collecting."""
    action: tyro.conf.Positional[Action] = Action.STATUS
    """status, swap, rollback or follow."""
    what: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="BUNDLE|on|off")]] = ""
    """For swap: a bundle. For follow: on or off."""
    json: bool = False
    """Print JSON instead of text: one document, the last answer."""


def main(argv: Sequence[str]) -> int:
    """Run the command: 0 done, 1 the weights were refused."""
    args = parse(Args, argv, "weights")
    request = _request(args)
    console = Console(stderr=args.json)
    answer: dict[str, Any] = {}
    for answer in _answers(the_run(args.run), request):
        if answer["kind"] not in {"weights", "error"} and not (args.json and answer["kind"] != "swap_trial"):
            console.print(_line(answer), markup=False, highlight=False, soft_wrap=True)
    if answer["kind"] == "error":
        raise CadenzaError(answer["text"])
    if args.json:
        print(json.dumps(answer, indent=2))
    elif answer["kind"] == "weights":
        for line in _status(answer):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(answer["kind"] == "swap_refused")


def _request(args: Args) -> dict[str, Any]:
    match args.action:
        case Action.SWAP:
            if not args.what:
                raise SpecError("swap", None, "say which bundle")
            return {"do": "swap", "bundle": str(Path(args.what).resolve())}
        case Action.FOLLOW:
            if args.what not in {"on", "off"}:
                raise SpecError("follow", args.what, "on or off")
            return {"do": "follow", "on": args.what == "on"}
        case _:
            if args.what:
                raise SpecError(args.action.value, args.what, "takes nothing more")
            return {"do": "weights" if args.action is Action.STATUS else args.action.value}


def _answers(run: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything the run says about it; at least one.

    Raises:
        CadenzaError: there is no run, or it ended meanwhile.
    """
    settled = False
    for answer in answers(run, request):
        settled = answer["kind"] != "swap_trial"
        yield answer
    if not settled:
        raise CadenzaError(f"{run}: the run ended before it answered")


def _line(answer: dict[str, Any]) -> str:
    return f"{answer['kind'].removeprefix('swap_')}: {answer['text']}"


def _status(status: dict[str, Any]) -> Iterator[str]:
    yield f"weights {status['driving']} drive ({status['bundle']})"
    before = status["previous"]
    yield "none before in this run" if before is None else f"before: weights {before}"
    if status["shelf"] is not None:
        offered = "nothing yet" if status["offered"] is None else f"weights {status['offered']}"
        above = f", taking what is above {status['above']}" if status["above"] is not None else ""
        yield f"{'following' if status['following'] else 'not following'} {status['shelf']}: offers {offered}{above}"
    if (candidate := status["candidate"]) is not None:
        yield f"candidate of the {candidate['by']}: {candidate['what']}, {candidate['state']}"
