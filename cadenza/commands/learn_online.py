"""``cadenza learn online``: go on learning from the episodes of a robot at work."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import ValidationError

from cadenza.arguments import parse, refusal
from cadenza.background import give_way
from cadenza.learner_view import LearnerView
from export.publishing import ShelfPublisher
from learning.checkpoint import MODEL_FILE, CheckpointConfig, load_checkpoint
from learning.network.actor import SequenceActor
from learning.online.board import TensorBoard
from learning.online.curves import CURVES_FILE, plot_curves
from learning.online.intake import Intake
from learning.online.learner import BUNDLES, STORE, Did, Learner, Plan
from learning.online.lock import only_learner
from learning.online.metrics import Metrics
from learning.online.watch import Watch
from learning.replay.cut import Source
from learning.replay.mix import Mixed
from learning.replay.rewards import taking_over_costs
from learning.replay.rows import Rows
from learning.replay.store import Store
from learning.reward.classifier import load_classifier
from learning.reward.rewarding import rewarded
from learning.sac.agent import Agent
from learning.sac.settings import Settings
from spec.errors import MisfitError, SpecError
from spec.files import sha256_of

_IDLE_S = 0.2
_PLOT_S = 60.0


class Reward(StrEnum):
    """Where it comes from."""

    LABELS = "labels"
    """What the operator said of each episode, and rewards logged on the way."""
    SIMULATOR = "simulator"
    """The virtual arm's judge; it writes what an operator would."""
    CLASSIFIER = "classifier"
    """A classifier of success looks at the pictures: --classifier FOLDER."""


class Learning(Settings):
    __doc__ = Settings.__doc__

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:  # which tyro would print in a frame, with all that pydantic has to say
            raise refusal(error) from None


@dataclass(frozen=True, slots=True)
class Args:
    """Go on learning from the episodes of a robot at work, and offer it new weights. Run again to resume.

    cadenza learn online --checkpoint runs/push --data runs/demos --watch runs/x/episodes --out runs/online

    Closed episodes are taken in once, whenever they come; files are left as they are. New bundles appear in
    OUT/bundles, which `cadenza run --follow OUT/bundles` drives. Writes state.safetensors, journal.jsonl,
    metrics.jsonl, curves.png and tb/ (tensorboard --logdir OUT/tb) into --out; OUT/checkpoint is the newest policy.
    Killed at any instant it goes on from the last state and ends where it would have.
    """

    checkpoint: Path
    """Policy to begin with, from `cadenza learn warmup`."""
    out: Path
    """Folder of this run."""
    watch: tuple[Path, ...]
    """Folders that episodes come into, folders below them included; they need not be there yet."""
    data: tuple[Path, ...] = ()
    """Folders of demonstrations."""
    reward: Reward = Reward.LABELS
    classifier: Path | None = None
    """From `cadenza learn reward`, for --reward classifier."""
    takeover_cost: float = 0.0
    """What the policy pays where a person takes the arm from it, which then also ends its attempt. 0: a success that
    the person brought about counts for the policy that had to be relieved."""
    wait_for_label: bool = False
    """Leave episodes alone until somebody has judged them: cadenza episodes label."""
    learning: Annotated[Learning, tyro.conf.OmitArgPrefixes] = field(default_factory=Learning)
    offline_updates: int = 0
    """Updates beside those that online rows allow, from the demonstrations alone."""
    export_every: int = 500
    """Updates between bundles. There is also one as soon as an episode has been learned from: after as many updates as
    its rows allow."""
    save_every: int = 500
    """Updates between states; a kill costs as many at most."""
    disk_gb: float = 20.0
    """What demonstrations and online rows may each take on the disk; the oldest rows go first [10⁹ bytes]."""
    max_ticks: float = 1.0
    """Largest difference of a bundle from the policy that is accepted, in encoder ticks."""
    keep_bundles: int = 20
    """Newest bundles that stay, to go back to."""
    until_updates: int | None = None
    """Stop after so many updates in all."""
    until_idle_s: float | None = None
    """Stop when there has been nothing to do for so long [s]."""
    device: str = "cpu"
    """Where to learn: cpu, cuda or cuda:1. A run that was killed ends with the same bits on a CPU only."""
    threads: int = 1
    """CPU threads."""
    nice: int = 10
    """Give way to other programs, the robot's above all; 0 for not."""
    beside: Path | None = None
    """Robot file, where the learner runs on the robot's own PC: its control core is left alone."""
    json: bool = False
    """Print one JSON object a line: what happens, and every few seconds where learning stands."""


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "learn online")
    _check(args)
    device = _device(args.device)
    torch.set_num_threads(args.threads)
    give_way(args.nice, args.beside)
    actor, config = load_checkpoint(args.checkpoint)
    if actor.config.vectors:
        wants = ", ".join(actor.config.vectors)
        way_out = "cadenza import --state says which of an arm's numbers they are"
        raise MisfitError(f"{args.checkpoint}: the actor wants {wants}, which no episode holds; {way_out}")
    actor.to(device)
    with only_learner(args.out), LearnerView(args.out, args.json) as view:
        publisher = ShelfPublisher(args.out / BUNDLES, args.max_ticks, args.keep_bundles)
        learner = _learner(args, actor, config, publisher, view.tell)
        try:
            return _run(args, learner, view)
        finally:
            learner.close()


def _check(args: Args) -> None:
    for name in ("export_every", "save_every", "keep_bundles", "threads"):
        if getattr(args, name) < 1:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "at least 1")
    for name in ("offline_updates", "nice", "max_ticks", "takeover_cost", "until_updates", "until_idle_s"):
        if not 0.0 <= (getattr(args, name) or 0.0) < math.inf:
            raise SpecError(f"--{name.replace('_', '-')}", getattr(args, name), "zero or more")
    if not 0.0 < args.disk_gb < 1e6:
        raise SpecError("--disk-gb", args.disk_gb, "above 0")
    if (args.reward is Reward.CLASSIFIER) != (args.classifier is not None):
        raise SpecError("--classifier", str(args.classifier), "goes with --reward classifier")
    if not args.watch:
        raise SpecError("--watch", "", "name a folder that episodes come into")
    for name, folders in (("--watch", args.watch), ("--data", args.data)):
        for folder in folders:
            _check_folder(name, folder)
    for shown, watched in product(args.data, args.watch):
        one, other = shown.resolve(), watched.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise SpecError("--watch", str(watched), f"an episode is shown or lived, not both: --data {shown}")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a name alone says nothing of what is there
    except (RuntimeError, AssertionError):
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise SpecError("--device", name, "no such device here", there) from None
    return device


def _check_folder(name: str, folder: Path) -> None:
    """Episodes can be found in it; one that is watched need not be there yet."""
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        if name == "--data":
            raise SpecError(name, str(folder), "no such folder") from None
    except NotADirectoryError:
        raise SpecError(name, str(folder), "not a folder") from None
    except OSError as error:
        raise SpecError(name, str(folder), f"cannot be looked into: {error.strerror}") from None


def _learner(
    args: Args,
    actor: SequenceActor,
    config: CheckpointConfig,
    publisher: ShelfPublisher,
    tell: Callable[[dict[str, Any]], None],
) -> Learner:
    settings = args.learning
    agent = Agent(actor, settings)
    stores = {
        source: Store.on_disk(args.out / STORE / source, actor.config, settings.window, round(args.disk_gb * 1e9))
        for source in Source
    }

    def prepare() -> None:
        tell({"event": "preparing", "reason": "tracing the policy's graphs, once"})
        with _interruptible():
            publisher.prepare(actor)

    watched = dict.fromkeys(args.data, Source.DEMONSTRATION) | dict.fromkeys(args.watch, Source.ONLINE)
    return Learner(
        args.out,
        agent,
        Plan(
            utd=settings.utd,
            batch=settings.batch,
            seed=settings.seed,
            offline_updates=args.offline_updates,
            critic_warmup=settings.critic_warmup,
            save_every=args.save_every,
            export_every=args.export_every,
            first_weights=config.weights,
            calibration=config.calibration,
            settings=_what_must_not_change(args),
        ),
        stores,
        Mixed(stores[Source.DEMONSTRATION], stores[Source.ONLINE]),
        Intake(actor.config, _reward(args), config.calibration, args.wait_for_label),
        lambda journal: Watch(watched, journal.entries),
        publisher,
        Metrics(args.out, TensorBoard(args.out), tell=tell),
        tell,
        prepare,
    )


def _reward(args: Args) -> Callable[[Rows], Rows]:
    classifier = None if args.classifier is None else load_classifier(args.classifier)

    def reward(rows: Rows) -> Rows:
        if classifier is not None:
            rows = rewarded(rows, classifier)
        return taking_over_costs(rows, args.takeover_cost) if args.takeover_cost else rows

    return reward


def _what_must_not_change(args: Args) -> dict[str, Any]:
    return {
        **args.learning.model_dump(mode="json"),
        "offline_updates": args.offline_updates,
        "disk_gb": args.disk_gb,
        "reward": args.reward.value,
        "takeover_cost": args.takeover_cost,
        "classifier": None if args.classifier is None else load_classifier(args.classifier).digest[:12],
        "checkpoint": sha256_of(args.checkpoint / MODEL_FILE)[:12],
    }


def _run(args: Args, learner: Learner, view: LearnerView) -> int:
    with _stopped_by_signals() as stop:
        _turn_until(stop, args, learner, view)
        interrupted = stop.is_set()
        if interrupted:
            learner.save()
        else:
            learner.finish()
    _plot(args, learner)
    view.end(learner, interrupted)
    return 130 if interrupted else 0


def _turn_until(stop: threading.Event, args: Args, learner: Learner, view: LearnerView) -> None:
    """Go on until asked to stop, or as long as ``args`` say."""
    idle_since_s: float | None = None
    plotted_s = time.monotonic()
    while not stop.is_set():
        if args.until_updates is not None and learner.counters.update >= args.until_updates:
            break
        did = learner.turn()
        view.show(learner, did)
        now_s = time.monotonic()
        if did is not Did.NOTHING:
            idle_since_s = None
        elif idle_since_s is None:
            idle_since_s = now_s
        if idle_since_s is not None:
            if args.until_idle_s is not None and now_s - idle_since_s >= args.until_idle_s:
                break
            stop.wait(_IDLE_S)
        if now_s - plotted_s >= _PLOT_S:
            _plot(args, learner)
            plotted_s = time.monotonic()


def _plot(args: Args, learner: Learner) -> None:
    with learner.metrics.not_needed(args.out / CURVES_FILE):
        plot_curves(args.out, args.out / CURVES_FILE)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is done here, also where the exporter makes an error of its own of them, or loses
    them because they came while an object was cleaned up."""
    asked = False
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    except Exception:
        if not asked:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Set by Ctrl-C and by SIGTERM, so that the update at work is ended and saved; a second one does not wait."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
