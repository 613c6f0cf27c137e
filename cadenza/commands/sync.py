"""``cadenza sync``: send a robot's episodes to a learner on another machine, and bring its bundles."""

from __future__ import annotations

import json
import platform
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from cadenza.arguments import parse
from cadenza.background import give_way
from cadenza.shelf_copy import ShelfCopy
from cadenza.syncing import LONG_POLL_S, LOOK_S, Progress, Report, Sending, bring, keep_on
from learning.fleet.client import AccessError, Link, LinkError, check_address
from learning.fleet.names import checked_name
from learning.fleet.outbox import Outbox
from learning.fleet.token import read_token
from spec.errors import SpecError

_NICE = 10
"""The robot comes first."""
_SLOWEST_KB_S = 8.0
"""The learner gives up on slower ones."""


@dataclass(frozen=True, slots=True)
class Args:
    """Send closed episodes to a learner on another machine, oldest first, and bring its newest bundle. Goes on until
    Ctrl-C, through days without a network; what was sent is not sent again, and half an upload is gone on with.

    cadenza sync --server https://learner:8470 --token-file token --episodes runs/x/episodes --bundles runs/x/bundles

    cadenza sync --server http://127.0.0.1:8470 --token-file runs/fleet/token --episodes runs/x/episodes --once

    The address, and the file that holds the token, are printed by: cadenza learn serve
    """

    server: str
    """Address of the learner."""
    episodes: tuple[Path, ...] = ()
    """Folders whose closed episodes are sent; not the folders in them."""
    bundles: Path | None = None
    """Folder for the learner's bundles; the daemon follows it."""
    token_file: Path | None = None
    """Holds the learner's token, mode 600; without it CADENZA_TOKEN does."""
    name: str = ""
    """What this robot is called there; default: this machine's name."""
    ca: Path | None = None
    """Certificate that the learner's must be, or be signed by; default: those this machine trusts."""
    plain_http: bool = False
    """Send token and episodes unencrypted over a network where anyone could read and alter them."""
    settle_s: float = 5.0
    """An episode is sent so long after it was last written: it may yet be labelled or discarded [s]."""
    limit_kb_s: float | None = None
    """Most that goes out [kB/s]."""
    beside: Path | None = None
    """Robot file, where this runs on the PC that controls the robot: its control core is left alone."""
    keep_bundles: int = 20
    """Bundles that stay, to go back to; 0 keeps all."""
    once: bool = False
    """Send and bring what there is, then end; status 1 where the learner rejected an episode."""
    json: bool = False
    """Print one JSON object a line instead of text."""


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "sync")
    robot = _checked(args)
    give_way(_NICE, args.beside)
    stop = threading.Event()
    if args.bundles is not None:
        args.bundles.mkdir(parents=True, exist_ok=True)  # whoever follows it may be started before the learner answers
    with _shown(args.json) as (report, progress):
        sending = Sending(robot, [Outbox(folder, args.settle_s) for folder in args.episodes], report, progress)
        copy = None if args.bundles is None else ShelfCopy(args.bundles, args.keep_bundles)
        if args.once:
            with _link(args, stop) as link:
                if copy is not None:
                    bring(link, copy, report, 0)
                sending.once(link)
                rejected = sending.rejected(link)
                report({"event": "done", "rejected": rejected})
                return 1 if rejected else 0
        _first_contact(args, robot, report, stop)
        _go_on(args, sending, copy, report, stop)
    return 0


def _first_contact(args: Args, robot: str, report: Report, stop: threading.Event) -> None:
    """A wrong token or certificate ends it here, where somebody watches; without a network it just begins later."""
    with _link(args, stop) as link:
        try:
            report({"event": "linked", "server": args.server, "learner": link.identity(), "robot": robot})
        except AccessError:
            raise
        except LinkError as error:
            report({"event": "trouble", "what": "link", "why": str(error)})


def _go_on(args: Args, sending: Sending, copy: ShelfCopy | None, report: Report, stop: threading.Event) -> None:
    """Both tasks until Ctrl-C or SIGTERM. Whatever they are at can be broken off at any instant."""

    def send() -> None:
        with _link(args, stop) as link:
            keep_on(lambda: sending.once(link), "sending", LOOK_S, stop, report)

    def fetch(copy: ShelfCopy) -> None:
        with _link(args, stop) as link:
            keep_on(lambda: bring(link, copy, report, LONG_POLL_S), "bundles", 0.0, stop, report)

    tasks = [send] if args.episodes else []
    if copy is not None:
        tasks.append(lambda: fetch(copy))
    ended = SimpleQueue[BaseException | None]()

    def watched(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            ended.put(error)

    signal.signal(signal.SIGTERM, lambda *_: ended.put(None))
    for task in tasks:
        threading.Thread(target=watched, args=(task,), daemon=True).start()
    try:
        if (error := ended.get()) is not None:
            raise error
    finally:
        stop.set()


def _link(args: Args, stop: threading.Event) -> Link:
    rate = None if args.limit_kb_s is None else args.limit_kb_s * 1e3
    return Link(args.server, lambda: read_token(args.token_file), args.ca, rate, stop)


def _checked(args: Args) -> str:
    """The robot's name. Raises SpecError for arguments that cannot be meant."""
    if not args.episodes and args.bundles is None:
        raise SpecError("--episodes, --bundles", "", "name at least one of them")
    for folder in args.episodes:
        if not folder.is_dir():
            raise SpecError("--episodes", str(folder), "no such folder")
    check_address(args.server)
    parts = urlsplit(args.server)
    if parts.scheme == "http" and not args.plain_http and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        reason = "unencrypted: weights could be altered on their way to the arm; use https, or say --plain-http"
        raise SpecError("--server", args.server, reason)
    if not 0.0 <= args.settle_s <= 86_400.0:
        raise SpecError("--settle-s", args.settle_s, "from 0 to a day")
    if args.limit_kb_s is not None and not args.limit_kb_s >= _SLOWEST_KB_S:
        raise SpecError("--limit-kb-s", args.limit_kb_s, f"at least {_SLOWEST_KB_S:g}")
    if args.keep_bundles < 0:
        raise SpecError("--keep-bundles", args.keep_bundles, "zero or more")
    read_token(args.token_file)
    if args.name:
        return checked_name("--name", args.name)
    return checked_name("--name", re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node()).strip(".-_")[:100])


@contextmanager
def _shown(as_json: bool) -> Iterator[tuple[Report, Progress]]:
    """Events as lines, the upload as a bar on a terminal."""
    if as_json:
        yield lambda event: print(json.dumps(event), flush=True), lambda _file, _done, _size: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        upload = bar.add_task("", visible=False)

        def report(event: dict[str, Any]) -> None:
            bar.update(upload, visible=False)
            print(_line(event), flush=True)

        def progress(file: str, done: int, size: int) -> None:
            bar.update(upload, description=Path(file).name, completed=done, total=size, visible=True)

        yield report, progress


def _line(event: dict[str, Any]) -> str:
    match event["event"]:
        case "linked":
            line = f"{event['server']}: linked as {event['robot']}; Ctrl-C ends"
        case "sent" | "there already":
            line = f"{event['file']}: {event['event']}, {event['bytes'] / 1e6:.1f} MB"
        case "rejected":
            line = f"{event['file']}: rejected: {event['why']}"
        case "fetched":
            line = f"{event['bundle']}: fetched{', a rollback' if event['rollback'] else ''}"
        case "trouble":
            line = f"{event['what']}: {event['why']}; trying again"
        case "well again":
            line = f"{event['what']}: well again"
        case _:
            rejected = event["rejected"]
            line = "all there" if not rejected else f"all there but {len(rejected)} rejected: {', '.join(rejected)}"
    return line
