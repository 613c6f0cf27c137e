"""Who asks a run something at its desk, and what is answered: how it is, to recover, and all about weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.desk import Client, Desk
from controller.weights.office import Office


class Reception:
    """Open from its making until :meth:`close`.

    Args:
        folder: of the run.
        office: answers what is about weights; None where no policy drives.
        status: how the run is; JSON-able.
        recover: begins to recover the arm; returns why not, or None once begun.
        outcome: None while it is on its way; then whether it succeeded, and what follows, or else why not.

    Raises:
        CadenzaError: another run is on in that folder.
    """

    def __init__(
        self,
        folder: Path,
        office: Office | None,
        status: Callable[[], dict[str, Any]],
        recover: Callable[[], str | None],
        outcome: Callable[[], tuple[bool, str] | None],
    ) -> None:
        self._desk = Desk(folder)
        self._office, self._status, self._recover, self._outcome = office, status, recover, outcome
        self._waiting: list[Client] = []
        """For the outcome of a recovery."""

    @property
    def trouble(self) -> str | None:
        """Why nobody can ask."""
        return self._desk.trouble

    def look(self) -> None:
        """Hear and answer; never waits."""
        for client, asked in self._desk.requests():
            self._answer(client, asked)
        outcome = self._outcome() if self._waiting else None
        if outcome is not None:
            succeeded, text = outcome
            for client in self._waiting:
                client.answer({"kind": "recovered" if succeeded else "not_recovered", "text": text})
            self._waiting.clear()
        self._desk.send()

    def close(self) -> None:
        """Whoever waits hears no more."""
        self._desk.close()

    def _answer(self, client: Client, asked: dict[str, Any]) -> None:
        match asked.get("do"):
            case "status":
                client.answer({"kind": "status", **self._status()})
            case "recover":
                if client.hung_up:  # while the run was stopped, say: a word that nobody stands by any more
                    client.leaving = True
                elif (refusal := self._recover()) is None:
                    client.answer({"kind": "recovering"}, last=False)
                    self._waiting.append(client)
                else:
                    client.answer({"kind": "error", "text": refusal})
            case "weights" | "swap" | "rollback" | "follow" if self._office is None:
                client.answer({"kind": "error", "text": "no policy drives this run: it has no weights"})
            case _ if self._office is not None:
                self._office.answer(client, asked)
            case _:
                client.answer({"kind": "error", "text": "no such request"})
