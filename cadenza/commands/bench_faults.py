"""``cadenza bench faults``: everything goes wrong, at random, a thousand times; does the arm jump, fall or lie?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import check_range, parse, split_robot_overrides
from cadenza.bench_ending import refuse_unwritable
from cadenza.faults.campaign import Journal, Result, play_all, result_of, shrink_all
from cadenza.faults.cases import Case, Setting, read_case, write_case
from cadenza.faults.drawing import draw_case
from cadenza.faults.kinds import kinds_table
from cadenza.faults.live import play_live, prepare_live
from cadenza.faults.picture import draw_campaign
from cadenza.faults.playing import play
from cadenza.faults.summary import figures, kind_table, verdict_lines
from cadenza.faults.verdicts import VERDICTS
from cadenza.picture import save
from spec.errors import CadenzaError, SpecError
from spec.files import write_atomically
from spec.robot import Robot
from spec.robotfile import load_robot

_MOST = 100_000
"""Cases of a campaign: days of work, and drawn into memory before the first is played."""
_SHRUNK = 6
"""Broken cases that are made small at most; one of each sort."""
_SHOWN = ("one_silent", "unplug", "overload", "no_chunk", "chunk_far", "stall")
"""Kinds of the cases in the picture, the first of each."""


@dataclass(frozen=True, slots=True)
class Args:
    """Let everything go wrong on the virtual arm, at random and in combination, and judge what the arm did.

    Nine in ten cases are played in lock-step: the real loop, driver and protocol on a virtual clock, the same to the
    bit for the same seed. The others are played live: the whole daemon, its processes stopped and killed. Each case is
    judged: limits (of every command), jump, limp, reading (what the loop took for where the arm is), data (nothing
    lost), report (every fault that had an effect is named), recovery (on the operator's word), hold (how many ticks
    until the arm stands). A case that breaks a verdict is made as small as it can be and written as a file, to be
    played again alone with --case.

    Writes report.json, faults.png, results.jsonl and broken/*.json into --out. Exit status 1 when a verdict is broken.

    cadenza bench faults --count 1000 --seed 0

    cadenza bench faults --count 1000 --seed 0 --resume

    cadenza bench faults --case runs/bench-faults/broken/case-000031.json

    cadenza bench faults --kinds
    """

    count: int = 1000
    """How many cases."""
    seed: int = 0
    """Of all of them: the same seed, the same cases."""
    out: Path = Path("runs/bench-faults")
    """Folder of the campaign; it must be new or empty, but for --resume."""
    resume: bool = False
    """Go on with a campaign that was broken off in --out."""
    case: Path | None = None
    """Play this case alone, from a file of an earlier campaign."""
    no_live: bool = False
    """Play all cases in lock-step, none with the whole daemon."""
    processes: int = 2
    """Cases played at the same time in lock-step."""
    checkpoint: Path = Path("assets/policy/push")
    """Policy that drives in the live cases."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a virtual arm."""
    kinds: bool = False
    """List every kind of fault, with what must name it, and end."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "bench faults")
    console = Console(stderr=args.json)
    if args.kinds:
        console.print(kinds_table())
        return 0
    check_range("--count", args.count, 1, _MOST)
    check_range("--processes", args.processes, 1, max(2, os.cpu_count() or 1))
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "at least 0")
    robot = load_robot(args.config, overrides)
    if robot.virtual is None or robot.virtual.attach is not None:
        raise SpecError(f"{args.config}: virtual", None, "faults are made on a virtual arm of the bench's own only")
    if args.case is not None:
        return _replay(read_case(args.case), robot, args, console)
    return _campaign(robot, args, console)


def _replay(case: Case, robot: Robot, args: Args, console: Console) -> int:
    """One case alone, in words."""
    if case.setting is Setting.LIVE:
        raise SpecError("--case", str(args.case), "a live case is not the same twice; only lock-step cases are")
    result = result_of(case, robot)
    if args.json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        for trouble in case.troubles:
            values = ", ".join(f"{name} {value}" for name, value in trouble.values.items())
            console.print(f"{trouble.at_s:7.3f} s  {trouble.kind} for {trouble.for_s} s  {values}", highlight=False)
        for at, text in play(case, robot).notices:
            console.print(f"{at:7.3f} s  control: {text}", markup=False, highlight=False, soft_wrap=True)
        _tell_broken(result, console)
    return 1 if result.broken else 0


def _campaign(robot: Robot, args: Args, console: Console) -> int:
    journal = Journal(args.out / "results.jsonl")
    if not args.resume and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise SpecError("--out", str(args.out), "is there already; choose a new folder, or --resume it")
    refuse_unwritable(args.out)
    results = _of_this(journal.read(), args)
    args.out.mkdir(parents=True, exist_ok=True)
    played = {result.case.number for result in results}
    cases = [
        case
        for case in (draw_case(args.seed, k, live=not args.no_live) for k in range(args.count))
        if case.number not in played
    ]
    interrupted = False
    left_out: Sequence[str] = ()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("cases", total=args.count, completed=len(played))

        def done(result: Result) -> None:
            results.append(result)
            journal.add(result)
            progress.advance(task)
            if result.broken:
                _tell_broken(result, console)

        try:
            live = None
            if alive := [case for case in cases if case.setting is Setting.LIVE]:
                live = prepare_live(alive, args.checkpoint, args.out / "live", console)
                left_out = live.left_out
            play_all([case for case in cases if case.setting is Setting.LOCKSTEP], robot, args.processes, done)
            if live is not None:
                play_live(live, robot, done)
        except KeyboardInterrupt:
            interrupted = True
            console.print(f"interrupted; {len(results)} cases are kept, go on with --resume", highlight=False)
    if not results:
        raise CadenzaError("no case was played")
    results.sort(key=lambda result: result.case.number)
    return _conclude(results, robot, args, console, left_out, interrupted)


def _of_this(results: Sequence[Result], args: Args) -> list[Result]:
    """Those of this very campaign. Raises SpecError where the folder holds another's."""
    for result in results:
        if result.case != draw_case(args.seed, result.case.number, live=not args.no_live):
            raise SpecError("--resume", str(args.out), "holds cases of another seed or version; choose a new folder")
    return [result for result in results if result.case.number < args.count]


def _conclude(
    results: list[Result], robot: Robot, args: Args, console: Console, left_out: Sequence[str], interrupted: bool
) -> int:
    """Shrink, draw, report."""
    if not interrupted:
        _write_broken(results, robot, args, console)
    picture = args.out / "faults.png"
    save(draw_campaign(results, [] if interrupted else [play(case, robot) for case in _examples(results)]), picture)
    found = {**figures(results, list(VERDICTS)), "seed": args.seed, "left_out": list(left_out), "picture": str(picture)}
    text = json.dumps({**found, "complete": len(results) == args.count}, indent=2)
    write_atomically(args.out / "report.json", f"{text}\n".encode())
    if args.json:
        print(text)
    console.print(kind_table(results))
    for line in [*verdict_lines(found), *(f"left out: {line}" for line in left_out)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report {args.out / 'report.json'}, picture {picture}", highlight=False, soft_wrap=True)
    if interrupted:
        return 130
    return 1 if any(result.broken for result in results) else 0


def _write_broken(results: Sequence[Result], robot: Robot, args: Args, console: Console) -> None:
    """Every broken case as a file; one of each sort made small first."""
    broken = [result for result in results if result.broken]
    for result in broken:
        write_case(result.case, _reasons(result), args.out / "broken" / f"case-{result.case.number:06d}.json")
    sorts: dict[tuple[str, ...], Result] = {}
    for result in broken:
        if result.case.setting is Setting.LOCKSTEP:
            sorts.setdefault((*sorted(result.broken), *sorted(t.kind for t in result.case.troubles)[:1]), result)
    chosen = list(sorts.values())[:_SHRUNK]
    if not chosen:
        return
    console.print(f"making {len(chosen)} of {len(broken)} broken cases small", highlight=False)
    for small in shrink_all(chosen, robot, args.processes):
        path = args.out / "broken" / f"case-{small.case.number:06d}-small.json"
        write_case(small.case, _reasons(small), path)
        console.print(f"cadenza bench faults --case {path}", highlight=False, soft_wrap=True)
        _tell_broken(small, console)


def _examples(results: Sequence[Result]) -> list[Case]:
    """Cases to look at: one with each of some kinds, alone."""
    alone = [r.case for r in results if len(r.case.troubles) == 1 and r.case.setting is Setting.LOCKSTEP]
    late = [case for case in alone if case.troubles[0].at_s > 1.5]
    found = (next((case for case in late if case.troubles[0].kind == kind), None) for kind in _SHOWN)
    return [case for case in found if case is not None]


def _reasons(result: Result) -> list[str]:
    return [f"{name}: {reason}" for name, reasons in result.broken.items() for reason in reasons]


def _tell_broken(result: Result, console: Console) -> None:
    for reason in _reasons(result) or ["every verdict is kept"]:
        console.print(
            f"case {result.case.number} ({result.case.name}): {reason}", markup=False, highlight=False, soft_wrap=True
        )
