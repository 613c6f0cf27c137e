"""What a supervisor tells: orders to the control loop, events onto the record, lines to the person watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from controller.damping import Damping
from controller.wiring.ipc import Node, Publisher
from controller.wiring.topics import EVENTS, ORDERS
from controller.workers.playback import PACE
from episodes.records import Order, OrderRecord
from episodes.schema.cadenza_pb2 import Event

SUPERVISOR = "supervisor"
"""Source of the events that are the supervisor's own."""


class Herald:
    """Of one run.

    Args:
        say: takes one line for the person watching.
        witness: takes every event that is worth a line, in place of the line about it; None where nobody does.
        damping: knows which events are.
    """

    orders: Publisher
    events: Publisher

    def __init__(self, say: Callable[[str], None], witness: Callable[[Event], None] | None, damping: Damping) -> None:
        self._say, self._witness, self._damping = say, witness, damping
        self._orders_sent = 0

    def open(self, node: Node) -> None:
        """Before anything is ordered or recorded."""
        self.orders, self.events = node.publisher(ORDERS), node.publisher(EVENTS)

    def order(self, order: Order) -> int:
        """Send one order to the control loop; returns when [ns]."""
        now_ns = time.monotonic_ns()
        self.orders.send(OrderRecord(self._orders_sent, now_ns, int(order)))
        self._orders_sent += 1
        self.record("order", order.name, now_ns)
        return now_ns

    def record(self, kind: str, text: str, now_ns: int | None = None) -> None:
        """Put an event of the supervisor on record; it came about at an instant [ns], None: now."""
        time_ns = time.monotonic_ns() if now_ns is None else now_ns
        event = Event(time_ns=time_ns, source=SUPERVISOR, kind=kind, text=text)
        self.events.send_bytes(event.SerializeToString())

    def announce(self, kind: str, text: str, line: str | None = None) -> None:
        """Put it on record and say it; where given, in the words of that line."""
        self._say(text if line is None else line)
        self.record(kind, text)

    def tell(self, events: Iterable[Event]) -> None:
        """Pass on what a person is to know of what came about; call it often, also with nothing."""
        for event in events:
            if self._damping.passes(event):
                self._tell(event)
        for line in self._damping.due(time.monotonic_ns()):
            self._say(line)

    def _tell(self, event: Event) -> None:
        """Ordinary changes of mode and our own doings are on record; they need no line on the screen."""
        if self._witness is not None:
            self._witness(event)
        elif event.kind == "control" and ("FAULT" in event.text or "->" not in event.text):
            self._say(f"control: {event.text}")
        elif event.kind not in {"control", PACE} and event.source != SUPERVISOR:
            self._say(f"{event.source}: {event.kind.replace('_', ' ')}: {event.text}")
