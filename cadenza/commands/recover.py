"""``cadenza recover``: tell a run that the cause of a fault is gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cadenza.arguments import parse
from cadenza.runs import the_run
from controller.desk import answers
from spec.errors import CadenzaError

HEARD_S = 5.0
"""Longest time a run may take to hear the word [s]; it looks fifty times a second."""
PATIENCE_S = 60.0
"""Longest time a recovery may take [s]: a control process is started, every servo looked at again."""


@dataclass(frozen=True, slots=True)
class Args:
    """Tell a run that the cause of a fault is gone, and that the arm may move again.

    Look at the arm first. Its port is opened again if it was gone, every servo is checked for identity, calibration and
    safety settings, one that shut down is restarted, and a control process that died is replaced. The arm is then
    held where it stands, and a run that waits for your word goes on by itself: the arm moves slowly to its start pose.
    Stay clear of it. A session of cadenza collect rests until space is pressed there. What cannot be recovered stays
    stopped, and the reason is said. Exit status: 0 recovered, 1 not, 2 the run did not hear the word in time or refused
    it, 130 interrupted.

    cadenza recover
    cadenza recover runs/run-20260101-120000
    """

    run: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[RUN]")]] = None
    """Folder of the run; by default the only one under runs/ that is on."""
    json: bool = False
    """Print the answer as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "recover")
    said = _give_word(the_run(args.run))
    if said is None:
        return 130
    recovered = said["kind"] == "recovered"
    if args.json:
        print(json.dumps(said, indent=2))
    else:
        print(f"{'recovered' if recovered else 'not recovered'}: {said['text']}")
    return 0 if recovered else 1


def _give_word(run: Path) -> dict[str, Any] | None:
    """What came of it; None where nobody waited for that. A word the run has not heard yet goes with whoever leaves.

    Raises:
        CadenzaError: the run does not hear it, refuses it, or says nothing of what came of it.
    """
    said: dict[str, Any] = {"kind": "unheard"}
    try:
        for said in answers(run, {"do": "recover"}, PATIENCE_S, first_s=HEARD_S):
            if said["kind"] == "error":
                raise CadenzaError(said["text"])
    except KeyboardInterrupt:
        if said["kind"] == "unheard":
            # What it answers takes until its next look at its desk: nobody here can say that it has not.
            print(
                "interrupted before the run answered: if it has heard the word by now it recovers by itself, and the "
                f"arm may move then; otherwise it will not; to see: cadenza status {run}",
                file=sys.stderr,
            )
        else:
            print(
                f"interrupted, but the word is given: the run recovers by itself, and the arm may move then; to see: "
                f"cadenza status {run}",
                file=sys.stderr,
            )
        return None
    if said["kind"] in {"unheard", "recovering"}:
        raise CadenzaError(f"{run}: the run ended before it {'heard' if said['kind'] == 'unheard' else 'recovered'}")
    return said
