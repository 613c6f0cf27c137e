"""The socket of a run: whoever may connect can say anything."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from cadenza.fuzzing.documents import Rewriter
from cadenza.fuzzing.mutation import Mutator
from cadenza.fuzzing.parsers.files import scratch
from cadenza.fuzzing.target import Layer, check
from controller.desk import Desk, connected

_ASKED = (
    {"do": "status"},
    {"do": "recover"},
    {"do": "swap", "bundle": "/tmp/bundle"},  # noqa: S108 (nobody opens it)
    {"do": "follow", "on": True},
    {"do": "rollback"},
)
_WORDS = (b"\n", b"\n\n", b"null\n", b"[]\n", b'{"do": ', b"\\ud800", b"\x00", b"NaN", b"[" * 2000, b"9" * 5000)


@contextmanager
def desk() -> Iterator[list[Layer]]:
    """Every line is a request or answered with an error, and nobody is kept who has gone."""
    lines = [json.dumps(asked).encode() + b"\n" for asked in _ASKED]
    rewriter = Rewriter(_ASKED)
    with scratch() as folder:
        run = Desk(folder)

        def feed(data: bytes) -> None:
            with connected(folder) as link:
                if link is None:
                    check(_descriptors_are_out(), "nobody listens")
                    return
                link.setblocking(False)
                said = data[: 1 << 15]  # what the kernel takes at once
                link.sendall(said)
                asked = run.requests()
                for client, document in asked:
                    json.dumps(document, ensure_ascii=False).encode()  # goes to a log
                    client.answer({"kind": "error", "text": str(document.get("do"))}, last=False)
                run.send()
                check(len(asked) <= said.count(b"\n"), "more requests than lines")
            run.requests()
            run.send()

        try:
            yield [
                Layer("text", 2, Mutator([b"".join(lines), *lines], _WORDS).case, feed),
                Layer("document", 1, lambda dice: rewriter.case(dice) + b"\n", feed),
            ]
        finally:
            run.close()


def _descriptors_are_out() -> bool:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 16
