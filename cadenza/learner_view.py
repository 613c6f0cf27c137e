"""What a person sees of ``cadenza learn online``: a line for each thing that happens, and where learning stands."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from learning.online.learner import Did, Learner

_STATUS_S = 5.0
"""Between lines of status where there is no terminal to keep one on."""
_REDRAW_S = 0.25


class LearnerView:
    """On a terminal a few lines that stay; elsewhere, and as JSON, a line now and then."""

    def __init__(self, out: Path, as_json: bool) -> None:
        self._out, self._json = out, as_json
        self._console = Console(stderr=as_json, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._stays else None
        self._episode, self._weights = "none yet", "none yet"
        self._shown_s = -_STATUS_S

    @property
    def _stays(self) -> bool:
        return self._console.is_terminal and not self._json

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, event: dict[str, Any]) -> None:
        """Something happened."""
        line = _line(event)
        if event["event"] == "episode":
            self._episode = line
        elif event["event"] == "weights":
            self._weights = f"{event['weights']}, after {event['update']} updates"
        if self._json:
            print(json.dumps(event), flush=True)
        else:
            bad = event["event"] in {"refused", "not_offered", "lost", "not_shown", "unreadable"}
            self._console.print(line, style="red" if bad else None, markup=False, soft_wrap=True)

    def show(self, learner: Learner, did: Did) -> None:
        """Where learning stands, if it was not said lately."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (_REDRAW_S if self._stays else _STATUS_S):
            return
        self._shown_s = now_s
        status = _status(learner, did)
        if self._json:
            print(json.dumps({"event": "status", **status}), flush=True)
        elif self._live is None:
            self._console.print(_sentence(status), markup=False, soft_wrap=True)
        else:
            self._live.update(self._table(status), refresh=True)

    def end(self, learner: Learner, interrupted: bool) -> None:
        """Last line."""
        if self._live is not None:
            self._live.stop()
        due = learner.counters.update < learner.budget
        status = _status(learner, Did.UPDATED if due else Did.NOTHING)
        if self._json:
            print(json.dumps({"event": "interrupted" if interrupted else "end", **status}), flush=True)
            return
        said = "interrupted, saved; run the same command to go on" if interrupted else "done"
        self._console.print(f"{self._out}: {said}: {_sentence(status)}", markup=False, soft_wrap=True)

    def _table(self, status: dict[str, Any]) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_row("updates", f"{status['updates']:,} of {status['allowed']:,}", _doing(status))
        table.add_row(
            "online rows", f"{status['rows']:,}", f"{status['episodes']} episodes, {status['refused']} refused"
        )
        table.add_row("demonstrations", f"{status['demonstrations']:,} rows", "")
        if status["note"]:
            table.add_row("", "", status["note"])
        table.add_row("weights", self._weights, "")
        table.add_row("last episode", self._episode, "")
        return table


def _status(learner: Learner, did: Did) -> dict[str, Any]:
    counters, metrics = learner.counters, learner.metrics.newest
    taken = learner.tally
    return {
        "updates": counters.update,
        "allowed": learner.budget,
        "rows": counters.online_rows,
        "episodes": taken.episodes,
        "refused": taken.refused,
        "demonstrations": taken.demonstration_rows,
        "weights": counters.weights,
        "skipped": counters.skipped,
        "waiting": did is Did.NOTHING,
        "note": learner.source.note,
        **{name: metrics[name] for name in ("updates_per_s", "critic_loss", "actor_loss", "q") if name in metrics},
    }


def _doing(status: dict[str, Any]) -> str:
    if status["waiting"]:
        return "waiting for episodes"
    rate = status.get("updates_per_s")
    skipped = f", {status['skipped']} skipped" if status["skipped"] else ""
    return f"{rate:.1f} a second{skipped}" if rate else "learning"


def _sentence(status: dict[str, Any]) -> str:
    return (
        f"{status['updates']:,} of {status['allowed']:,} updates, {status['rows']:,} rows of {status['episodes']} "
        f"episodes ({status['refused']} refused), weights {status['weights']}, {_doing(status)}"
    )


def _line(event: dict[str, Any]) -> str:
    match event["event"]:
        case "episode":
            facts = event["facts"]
            by = ", ".join(str(version) for version in facts["weights"])
            return (
                f"{event['path']}: {event['source']}, {facts['rows']} rows, {facts['outcome']}, "
                f"return {facts['reward']:g}, {facts['intervention']:.0%} by hand" + (f", weights {by}" if by else "")
            )
        case "weights":
            return f"weights {event['weights']} offered after {event['update']} updates: {event['bundle']}"
        case "not_offered":
            return f"weights {event['weights']} not offered: {event['reason']}"
        case "refused":
            reason = str(event["refused"]).removeprefix(f"{event['path']}: ")
            return f"{event['path']}: refused: {reason}"
        case _:
            return str(event.get("reason", event["event"]))
