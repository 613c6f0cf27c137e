"""``cadenza collect``: record demonstrations, or a policy's runs with a person stepping in."""

from __future__ import annotations

import getpass
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from cadenza.arguments import check_length, parse, split_robot_overrides
from cadenza.collecting.cues import cues
from cadenza.collecting.front import Lines, Operator, Screen
from cadenza.collecting.keys import keys_of
from cadenza.collecting.scripted import ScriptedPerson
from cadenza.collecting.view import times
from cadenza.commands.run import chosen_bundle, chosen_robot, warn_of_force, weights_told
from cadenza.judge import VirtualJudge
from cadenza.scripted_hand import ScriptedHand
from controller.collection.collector import Collector, Hand
from controller.collection.keeping import Keep, Record
from controller.collection.ledger import Asked, Ledger
from controller.collection.machine import End, Plan
from controller.exploration import Exploration, exploration
from controller.session import Judge, NoJudge
from controller.sources import policy_source
from controller.supervisor import Supervisor
from drivers.virtual import VirtualRobot
from export.bundle import Bundle
from spec.calibration import load_calibration, with_takeover
from spec.errors import SpecError
from spec.manifest import check_fit
from spec.robot import ChunkMode, Realtime, Robot
from spec.robotfile import robot_hash

_STATUS = {End.COMPLETE: 0, End.QUIT: 0, End.INTERRUPTED: 130}


class Who(StrEnum):
    """Who is at the teleoperation device."""

    PERSON = "person"
    SCRIPTED = "scripted"
    """A scripted one, at the virtual arm's leader."""


@dataclass(frozen=True, slots=True)
class Args:
    """Record episodes that a person drives, or that a policy drives while a person may step in.

    Without --bundle every episode is a demonstration: the arm goes to its start pose, you prepare the scene, press
    space, and it follows the leader arm until you say how it went. With --bundle the policy drives; take the arm by
    pulling at the leader, by pedal, or by t, correct it, give it back, as often as you like.

    Keys: space start/stop, s success, f fail, d discard, r redo, t take / give back, 0-9 reward, h highlight, q quit.
    Pedals and buttons of the robot file mean the same. Where standard input is no terminal it is read as one word a
    line (start, stop, success, fail, discard, redo, toggle, highlight, quit, reward X, wait SECONDS), each waiting
    until it means something.

    Run again with the same --out to go on with a session that was interrupted, however it was. Nothing is ever
    deleted: what you discard goes to the folder discarded.

    cadenza collect --config robots/koch.yaml --out runs/cubes --episodes 20 --task "push the cube to the goal"

    cadenza collect --bundle runs/bundle --out runs/fixes --task "push the cube to the goal" --record corrections

    cadenza collect --bundle runs/bundle --follow runs/online/shelf --out runs/online/episodes --task "push the cube"

    cadenza collect --out runs/try --task "push the cube" --episodes 2 --hand scripted --reset-seconds 1
    """

    out: Path
    """Folder of the session: episodes, discarded, session.json."""
    task: str
    """What is done, in words; goes into every episode."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file; it must have a teleop section."""
    bundle: Path | None = None
    """Policy that drives; without one every episode is a demonstration."""
    follow: Path | None = None
    """Shelf of a learner: whatever bundle is newest there takes over while the arm moves, after a trial in shadow.
    Without --bundle its newest drives from the beginning."""
    explore: float = 0.0
    """Share of the policy's own spread to explore with, 0 to 1; 0 is its mean. Seed and share go on record, so that
    every chunk can be worked out again."""
    episodes: int = 20
    """How many there shall be in the folder at the end, discarded and broken ones not counted."""
    episode_seconds: float = 60.0
    """Longest an episode may take [s]."""
    reset_seconds: float = 10.0
    """Time to prepare the scene before each episode [s]; space cuts it short."""
    auto_start: bool = False
    """Start when that time is over, instead of waiting for a key."""
    operator: str = ""
    """Your name, for the record; that of the account by default."""
    record: Record = Record.EPISODES
    """episodes: a file each. corrections: only while you drive, and some seconds around it. continuous: everything,
    a new file now and then. highlight: the last seconds, whenever h is pressed."""
    before_seconds: float = Keep().before_s
    """What a correction begins with, before the takeover [s]."""
    after_seconds: float = Keep().after_s
    """What it ends with, after the release [s]."""
    highlight_seconds: float = Keep().highlight_s
    """What a highlight holds [s]."""
    rotate_mb: float = Keep().rotate_mb
    """When a continuous recording goes on in a new file [MB]."""
    mode: tyro.conf.EnumChoicesFromValues[ChunkMode | None] = None
    """How chunks become targets; the robot file's choice by default."""
    realtime: tyro.conf.EnumChoicesFromValues[Realtime | None] = None
    """Demand real-time privileges, take what can be had, or ask for none; the robot file's choice by default."""
    hand: Who = Who.PERSON
    """Let the scripted person of the virtual arm do it."""
    seed: int | None = None
    """Of the virtual scene; the robot file's by default. Episode k uses seed + k."""
    quiet: bool = False
    """No sounds."""
    json: bool = False
    """Print the report as JSON and nothing else on standard output."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session, checked."""

    robot: Robot
    bundle: Bundle | None
    out: Path
    task: str
    operator: str
    plan: Plan
    keep: Keep
    scripted: bool = False
    follow: Path | None = None
    explore: Exploration | None = None

    @property
    def source(self) -> str:
        return "teleop" if self.bundle is None else "policy"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a session has brought."""

    ending: End
    report: dict[str, Any]

    @property
    def status(self) -> int:
        return _STATUS.get(self.ending, 1)


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "collect")
    wanted = _wanted(args, overrides)
    console = Console(stderr=args.json)
    title = f"{wanted.robot.name} · {wanted.task}"

    def operator() -> Operator:
        display = Screen(console, title) if console.is_terminal else Lines(console)
        return Operator(keys_of(sys.stdin, ends=not wanted.plan.auto_start), cues(quiet=args.quiet), display)

    collected = collect(wanted, operator)
    if args.json:
        print(json.dumps(collected.report, indent=2))
    else:
        _print(collected, console)
    return collected.status


def collect(wanted: Wanted, operator: Callable[[], Operator]) -> Collected:
    """Run a session to its end, and end everything.

    Args:
        wanted: checked.
        operator: makes the operator's side; it is entered once nothing can be refused any more.

    Raises:
        CadenzaError: something is missing or does not fit; nothing has moved then.
    """
    robot, bundle = with_takeover(wanted.robot), wanted.bundle
    front = operator()
    # The robot file as it was given: what was measured since is no other robot.
    asked = Asked(wanted.task, wanted.source, wanted.keep.record.value, robot_hash(wanted.robot), _digest(wanted))
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(wanted.out, asked))
        judge: Judge = NoJudge()
        hand: Hand | None = None
        if robot.virtual is not None:
            virtual = stack.enter_context(VirtualRobot(robot, robot.virtual.seed))
            judge = VirtualJudge(virtual.client, robot.virtual.seed)
            if wanted.scripted:
                hand = ScriptedPerson(ScriptedHand(robot, virtual.client), robot.virtual.seed + ledger.next)
            robot = virtual.robot
        source = None if bundle is None else policy_source(bundle, wanted.explore)
        supervisor = stack.enter_context(
            Supervisor(robot, source, wanted.out, front.say, bundle=bundle, follow=wanted.follow, teleop=True)
        )
        supervisor.word.sequel = "the arm rests where it stands, until space (start) is pressed in the session"
        stack.enter_context(front)
        if bundle is not None:
            warn_of_force(robot, front.say)
        ledger.reconcile()
        if ledger.resumed:
            front.say(f"session {ledger.session} goes on: {ledger.saved} of {wanted.plan.target} saved")
        labels = {"task": wanted.task, "operator": wanted.operator, "source": wanted.source}
        labels |= {"session": ledger.session, "record": wanted.keep.record.value}
        collector = Collector(supervisor, judge, wanted.plan, wanted.keep, ledger, labels, front, hand)
        collector.collect()
    return Collected(collector.now.ending or End.ERROR, _report(collector, supervisor))


def _wanted(args: Args, overrides: Mapping[str, str]) -> Wanted:
    """The session that is asked for. Raises SpecError."""
    check_length(args.episodes, args.episode_seconds)
    if not args.task.strip():
        raise SpecError("--task", args.task, "say what is done, in words")
    for name in ("reset", "before", "after"):
        if not 0 <= getattr(args, f"{name}_seconds") < math.inf:
            raise SpecError(f"--{name}-seconds", getattr(args, f"{name}_seconds"), "zero or more")
    if not 0 < args.highlight_seconds < math.inf:
        raise SpecError("--highlight-seconds", args.highlight_seconds, "must be above 0")
    if not 1 <= args.rotate_mb < math.inf:
        raise SpecError("--rotate-mb", args.rotate_mb, "at least 1")
    if args.out.exists() and not args.out.is_dir():
        raise SpecError("--out", str(args.out), "is a file, not a folder")
    robot = chosen_robot(args.config, overrides, args.mode, args.realtime, args.seed)
    scripted = args.hand is Who.SCRIPTED
    if robot.teleop is None:
        raise SpecError(f"{args.config}: teleop", None, "collecting needs a device that a person moves the arm with")
    if scripted and (robot.virtual is None or robot.leader is None):
        raise SpecError("--hand", args.hand.value, "there is a scripted person at a virtual leader arm only")
    bundle = None if args.bundle is None and args.follow is None else chosen_bundle(args.bundle, args.follow)
    if bundle is not None:
        check_fit(bundle.manifest, robot, load_calibration(robot.follower).digest())
    explore = exploration(args.explore)
    if explore is not None and bundle is None:
        raise SpecError("--explore", args.explore, "there is no policy to explore with; say --bundle")
    plan = Plan(
        target=args.episodes,
        reset_s=args.reset_seconds,
        limit_s=args.episode_seconds,
        auto_start=args.auto_start or scripted,
        demonstration=bundle is None,
        judged=robot.virtual is not None,
    )
    keep = Keep(args.record, args.before_seconds, args.after_seconds, args.highlight_seconds, args.rotate_mb)
    who = args.operator or ("scripted hand" if scripted else _account())
    return Wanted(robot, bundle, args.out, args.task.strip(), who, plan, keep, scripted, args.follow, explore)


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _digest(wanted: Wanted) -> str:
    """What must be the same when a session goes on. One that follows a shelf goes on with what is newest then."""
    if wanted.bundle is None or wanted.follow is not None:
        return "" if wanted.follow is None else "newest of a shelf"
    return " ".join(sorted(wanted.bundle.manifest.files.values()))


def _report(collector: Collector, supervisor: Supervisor) -> dict[str, Any]:
    ledger = collector.ledger
    return {
        "session": ledger.session,
        "ended": (collector.now.ending or End.ERROR).value,
        "saved": ledger.saved,
        "target": collector.plan.target,
        "folder": str(ledger.folder),
        "episodes": [asdict(line) for line in ledger.lines],
        "run": supervisor.report(),
    }


def _print(collected: Collected, console: Console) -> None:
    report = collected.report
    lines = report["episodes"]
    counts = {
        outcome: sum(line["outcome"] == outcome for line in lines) for outcome in ("success", "fail", "unlabelled")
    }
    shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "none"
    taken, run = sum(line["interventions"] for line in lines), report["run"]
    console.print(
        f"{report['saved']} of {report['target']} episodes ({shown}){f', taken over {times(taken)}' if taken else ''}; "
        f"{run['ticks']} ticks, {run['missed_ticks']} missed, {run['bus_errors']} bus errors",
        highlight=False,
        soft_wrap=True,
    )
    if changes := weights_told(run):
        console.print(changes, highlight=False)
    console.print(f"session {report['session']} in {report['folder']}", highlight=False, soft_wrap=True)
    if collected.ending is not End.COMPLETE:
        console.print(
            f"ended: {collected.ending.value.replace('_', ' ')}; the same command goes on with it", highlight=False
        )
