"""``cadenza learn serve``: the learner's end of the link to robots on other machines."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadenza.arguments import parse
from learning.fleet.inbox import Inbox, Limits
from learning.fleet.listening import bound_socket, check_certificate, is_loopback, server
from learning.fleet.server import Conduct, fleet_app
from learning.fleet.token import read_or_make_token
from spec.errors import SpecError


@dataclass(frozen=True, slots=True)
class Args:
    """Take in the episodes of robots on other machines, and offer them the learner's bundles. Runs until Ctrl-C.

    cadenza learn serve --out runs/fleet --bundles runs/online/bundles

    cadenza learn serve --out runs/fleet --bundles runs/online/bundles --host 0.0.0.0 --tls-cert c.pem --tls-key k.pem

    Episodes come to OUT/episodes/ROBOT: have the learner watch OUT/episodes. The token is made at the first start;
    bring it to each robot in a file of its own, mode 600.
    """

    out: Path
    """Folder of what robots send."""
    bundles: Path | None = None
    """The learner's shelf: its folder of bundles with newest.json. It need not be there yet."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 8470
    """0 takes any that is free."""
    token_file: Path | None = None
    """Default: OUT/token."""
    tls_cert: Path | None = None
    """Certificate, PEM."""
    tls_key: Path | None = None
    """Its key, PEM, without a password."""
    max_episode_gb: float = 4.0
    """The largest episode that is taken [GB]."""
    max_total_gb: float | None = None
    """All that is kept together [GB]; default: as far as the disk goes."""
    keep_free_gb: float = 2.0
    """Left free on the disk [GB]."""
    uploads: int = 8
    """Robots that may send at a time."""
    json: bool = False
    """Print one JSON object a line instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run until SIGINT or SIGTERM."""
    args = parse(Args, argv, "learn serve")
    limits, tls = _limits(args), _tls(args)
    token_file = args.token_file or args.out / "token"
    token = read_or_make_token(token_file)
    inbox = Inbox(args.out, limits)
    try:
        listening = bound_socket(args.host, args.port)
        address = f"{'http' if tls is None else 'https'}://{_host(args.host)}:{listening.getsockname()[1]}"
        inbox.prepare()
        report = _reporter(args.json)
        plain = tls is None and not is_loopback(args.host)
        facts = {"url": address, "token_file": str(token_file), "episodes": str(inbox.episodes), "plain": plain}
        report({"event": "serving", **facts})
        for noisy in ("uvicorn", "asyncio"):  # what strangers cause; what matters is reported
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        running = server(fleet_app(inbox, args.bundles, token, Conduct(uploads=args.uploads), report), tls)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn passes both on when it has ended
        try:
            running.run(sockets=[listening])
        except KeyboardInterrupt:
            report({"event": "stopped"})
    finally:
        inbox.close()
    return 0


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _limits(args: Args) -> Limits:
    sizes = {
        "--max-episode-gb": args.max_episode_gb,
        "--max-total-gb": args.max_total_gb,
        "--keep-free-gb": args.keep_free_gb,
    }
    for name, value in sizes.items():
        if value is not None and not 0.0 <= value <= 1e6:
            raise SpecError(name, value, "from 0 to 1000000")
    if not args.max_episode_gb:
        raise SpecError("--max-episode-gb", args.max_episode_gb, "above 0")
    if args.uploads < 1:
        raise SpecError("--uploads", args.uploads, "at least 1")
    if not 0 <= args.port <= 65_535:
        raise SpecError("--port", args.port, "from 0 to 65535")
    return Limits(
        episode=round(args.max_episode_gb * 1e9),
        total=None if args.max_total_gb is None else round(args.max_total_gb * 1e9),
        keep_free=round(args.keep_free_gb * 1e9),
    )


def _tls(args: Args) -> tuple[Path, Path] | None:
    if args.tls_cert is None and args.tls_key is None:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise SpecError("--tls-cert, --tls-key", "one of them", "both are needed")
    check_certificate(args.tls_cert, args.tls_key)
    return args.tls_cert, args.tls_key


def _reporter(as_json: bool) -> Any:
    def report(event: dict[str, Any]) -> None:
        print(json.dumps(event) if as_json else _line(event), flush=True)

    return report


def _line(event: dict[str, Any]) -> str:
    match event["event"]:
        case "serving":
            lines = [
                f"serving at {event['url']}; Ctrl-C stops it",
                f"token:    {event['token_file']}",
                f"episodes: {event['episodes']}",
            ]
            if event["plain"]:
                lines.append("TLS is off: whoever is on this network can read the token; use --tls-cert and --tls-key")
            return "\n".join(lines)
        case "received":
            return f"{event['robot']}: {event['episode']}: received, {event['bytes'] / 1e6:.1f} MB"
        case "refused":
            return f"{event['robot']}: {event['episode']}: refused: {event['why']}"
        case "failed":
            return f"failed: {event['why']}"
        case _:
            return "stopped"
