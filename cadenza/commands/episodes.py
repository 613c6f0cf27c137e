"""``cadenza episodes``: look at, check and recover recorded episodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cadenza.arguments import parse
from cadenza.report import lateness_us, percentiles
from episodes.check import check
from episodes.reader import Episode, read_episode
from episodes.recovery import being_written, recover
from episodes.writer import PART
from spec.errors import CadenzaError


@dataclass(frozen=True, slots=True)
class Args:
    """Recorded episodes: files called *.mcap, and *.mcap.part where the writer was killed.

    list: one line each. info: all about them. check: read everything and say what is wrong (exit status 1 if
    anything is). recover: make whole files of unfinished ones.

    cadenza episodes list runs/demo/episodes
    cadenza episodes info runs/demo/episodes/episode-000000.mcap --json
    cadenza episodes check runs
    cadenza episodes recover runs
    """

    action: tyro.conf.Positional[Literal["list", "info", "check", "recover"]]
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders to search."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    args = parse(Args, argv, "episodes")
    if not args.paths:
        raise CadenzaError("name at least one episode or folder, e.g. cadenza episodes list runs")
    files = [file for path in args.paths for file in _files(path, unfinished_only=args.action == "recover")]
    match args.action:
        case "list":
            return _list(files, args.json)
        case "info":
            return _info(files, args.json)
        case "check":
            return _check(files, args.json)
        case "recover":
            return _recover(files, args.json)


def _files(path: Path, unfinished_only: bool) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CadenzaError(f"{path}: no such file or folder")
    found = {*path.rglob(f"*.mcap{PART}")}
    return sorted(found if unfinished_only else found | {*path.rglob("*.mcap")})


def summary(episode: Episode) -> dict[str, Any]:
    """One episode in figures, JSON-able."""
    lateness = lateness_us(episode)
    return {
        "path": str(episode.path),
        "outcome": episode.outcome.value,
        "termination": None if episode.termination is None else episode.termination.value,
        "seconds": round(episode.duration_s, 3),
        "ticks": len(episode.ticks),
        "missed_ticks": int(episode.ticks["skipped"].sum()),
        "lateness_us": percentiles(lateness, (50, 99)),
        "chunks": len(episode.chunks),
        "frames": {name: len(frames) for name, frames in episode.frames.items()},
        "events": len(episode.events),
        "megabytes": round(episode.path.stat().st_size / 1e6, 2),
        "damage": episode.damage,
    }


def _list(files: list[Path], as_json: bool) -> int:
    rows = [summary(read_episode(file, cameras=())) for file in _progress(files, as_json)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("episode", "outcome", "ended by", "seconds", "ticks", "missed", "chunks", "frames", "MB", box=None)
    for row in rows:
        frames = ", ".join(f"{name} {count}" for name, count in row["frames"].items())
        ended = "unfinished" if row["damage"] else row["termination"]
        cells = (row["path"], row["outcome"], ended, row["seconds"], row["ticks"], row["missed_ticks"], row["chunks"])
        table.add_row(*map(str, cells), frames, str(row["megabytes"]))
    _console().print(table)
    return 0


def _info(files: list[Path], as_json: bool) -> int:
    rows = []
    for file in files:
        episode = read_episode(file, cameras=())
        facts = {"facts": dict(episode.facts), "labels": dict(episode.labels), "result": dict(episode.result)}
        events = [
            {"time_ns": event.time_ns, "source": event.source, "kind": event.kind, "text": event.text}
            for event in episode.events
        ]
        attachments = {name: len(content) for name, content in episode.attachments.items()}
        rows.append({**summary(episode), **facts, "attachments": attachments, "events": events})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    console = _console()
    for row in rows:
        start = int(row["facts"].get("started_ns", 0))
        for key, value in row.items():
            if key != "events":
                console.print(f"[bold]{key}[/]: {value}", highlight=False)
        for event in row["events"]:
            seconds = (event["time_ns"] - start) * 1e-9
            console.print(f"  {seconds:8.3f} s  {event['source']}: {event['kind']}: {event['text']}", highlight=False)
    return 0


def _check(files: list[Path], as_json: bool) -> int:
    findings = {str(file): check(file) for file in _progress(files, as_json)}
    bad = {file: found for file, found in findings.items() if found}
    if as_json:
        print(json.dumps({"checked": len(files), "findings": bad}, indent=2))
    else:
        for file, found in bad.items():
            for line in found:
                print(f"{file}: {line}")
        print(f"{len(files)} checked, {len(files) - len(bad)} sound")
    return 1 if bad else 0


def _recover(files: list[Path], as_json: bool) -> int:
    rows: list[dict[str, Any]] = []
    for file in files:
        if being_written(file):
            rows.append({"part": str(file), "episode": None, "messages": 0, "note": "is being written"})
            continue
        try:
            found = recover(file)
        except OSError as error:
            raise CadenzaError(f"{file}: cannot recover: {error.strerror}") from None
        if found is not None:
            episode = None if found.episode is None else str(found.episode)
            rows.append({"part": str(file), "episode": episode, "messages": found.messages, "note": found.damage})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['part']}: {row['messages']} records -> {row['episode'] or 'nothing'} ({row['note'] or 'whole'})")
    print(f"{sum(row['episode'] is not None for row in rows)} recovered")
    return 0


def _progress(files: list[Path], quiet: bool) -> list[Path] | Any:
    return track(files, "reading", console=Console(stderr=True), transient=True, disable=quiet or len(files) < 5)


def _console() -> Console:
    console = Console()
    # Piped output is for other programs: paths must not be broken over lines.
    return console if console.is_terminal else Console(width=240)
