"""What a supervisor has of weights: the rollout, and who at the run's desk waits for which answer about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.desk import Client
from controller.weights.checks import Checks
from controller.weights.rollout import Rollout, Said
from export.bundle import Bundle


class Office:
    """Open from its making until :meth:`close`.

    Args:
        bundle: drives at the beginning; verified.
        shelf: to follow, if any.
        tell: sends an order to the inference process.
    """

    def __init__(self, bundle: Bundle, shelf: Path | None, tell: Callable[..., bool]) -> None:
        self._checks = Checks()
        self.rollout = Rollout(bundle, shelf, tell, self._checks)
        self._waiting: dict[int, Client] = {}

    def look(self, now_s: float, *, ready: bool) -> list[Said]:
        """Let time pass; returns what has come about. ``ready``: the inference process takes orders."""
        self.rollout.look(now_s, ready=ready)
        said = self.rollout.said()
        for one in said:
            self._pass_on(one)
        return said

    def close(self) -> None:
        """No bundle is checked any more."""
        self._checks.close()

    def answer(self, client: Client, asked: dict[str, Any]) -> None:
        """What somebody asks of weights: at once, or once it has come about."""
        rollout, folder = self.rollout, asked.get("bundle")
        match asked.get("do"):
            case "weights":
                client.answer({"kind": "weights", **rollout.status()})
            case "swap" if isinstance(folder, str) and "\0" not in folder:
                self._waiting[rollout.swap(Path(folder))] = client
            case "rollback":
                self._waiting[rollout.roll_back()] = client
            case "follow" if isinstance(asked.get("on"), bool):
                refusal = rollout.follow(asked["on"])
                told = rollout.status() if refusal is None else {"text": refusal}
                client.answer({"kind": "weights" if refusal is None else "error", **told})
            case _:
                client.answer({"kind": "error", "text": "no such request"})

    def _pass_on(self, said: Said) -> None:
        client = None if said.request is None else self._waiting.get(said.request)
        if client is None or said.request is None:
            return
        client.answer({"kind": said.kind, "text": said.text, "distance": said.distance}, last=said.settled)
        if said.settled:
            del self._waiting[said.request]
