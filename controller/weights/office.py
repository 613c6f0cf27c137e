"""What a supervisor has of weights: the rollout, the desk where the operator asks, and who waits for which answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.weights.checks import Checks
from controller.weights.desk import Client, Desk
from controller.weights.rollout import Rollout, Said
from export.bundle import Bundle


class Office:
    """Open from its making until :meth:`close`.

    Args:
        bundle: drives at the beginning; verified.
        shelf: to follow, if any.
        folder: of the run.
        tell: sends an order to the inference process.

    Raises:
        CadenzaError: another run is on in that folder.
    """

    def __init__(self, bundle: Bundle, shelf: Path | None, folder: Path, tell: Callable[..., bool]) -> None:
        self._checks = Checks()
        self.rollout = Rollout(bundle, shelf, tell, self._checks)
        self._desk = Desk(folder)
        self._trouble = self._desk.trouble
        self._waiting: dict[int, Client] = {}

    def look(self, now_s: float, *, ready: bool) -> list[Said]:
        """Let time pass; returns what has come about. ``ready``: the inference process takes orders."""
        for client, asked in self._desk.requests():
            self._answer(client, asked)
        self.rollout.look(now_s, ready=ready)
        said = self.rollout.said()
        if self._trouble is not None:
            said.append(Said("weights", f"{self._trouble}; cadenza weights cannot reach this run"))
            self._trouble = None
        for one in said:
            self._pass_on(one)
        self._desk.send()
        return said

    def close(self) -> None:
        """Whoever waits hears no more."""
        self._desk.close()
        self._checks.close()

    def _answer(self, client: Client, asked: dict[str, Any]) -> None:
        rollout, folder = self.rollout, asked.get("bundle")
        match asked.get("do"):
            case "status":
                client.answer({"kind": "status", **rollout.status()})
            case "swap" if isinstance(folder, str) and "\0" not in folder:
                self._waiting[rollout.swap(Path(folder))] = client
            case "rollback":
                self._waiting[rollout.roll_back()] = client
            case "follow" if isinstance(asked.get("on"), bool):
                refusal = rollout.follow(asked["on"])
                told = rollout.status() if refusal is None else {"text": refusal}
                client.answer({"kind": "status" if refusal is None else "error", **told})
            case _:
                client.answer({"kind": "error", "text": "no such request"})

    def _pass_on(self, said: Said) -> None:
        client = None if said.request is None else self._waiting.get(said.request)
        if client is None or said.request is None:
            return
        client.answer({"kind": said.kind, "text": said.text, "distance": said.distance}, last=said.settled)
        if said.settled:
            del self._waiting[said.request]
