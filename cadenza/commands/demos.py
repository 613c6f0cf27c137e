"""``cadenza demos``: record scripted demonstrations in the virtual arm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cadenza.arguments import parse, split_robot_overrides
from cadenza.demonstrations import DemonstrationRecorder, Settings
from spec.errors import CadenzaError, SpecError
from spec.robotfile import load_robot

# llvmpipe gains nothing from threads at these picture sizes, and takes the cores from everyone else.
os.environ.setdefault("LP_NUM_THREADS", "1")


@dataclass(frozen=True, slots=True)
class Args:
    """Record scripted demonstrations of the virtual arm's task, in simulated time, as ordinary episodes.

    Only successes are kept. Run again with the same folder to go on where it stopped.

    cadenza demos --config robots/virtual.yaml --episodes 300 --out runs/demos
    """

    out: Path
    """Folder for the episodes."""
    config: Path = Path("robots/virtual.yaml")
    """Robot file with a virtual arm."""
    episodes: int = 300
    """How many there shall be in the folder."""
    seed: int = 0
    """Makes the series reproducible."""
    cameras: tuple[str, ...] = ("top",)
    """Cameras to record."""
    noise: float = Settings().noise
    """Disturbance of what is executed, not of what is written down as the right action [rad]."""


def main(argv: Sequence[str]) -> int:
    rest, overrides = split_robot_overrides(argv)
    args = parse(Args, rest, "demos")
    robot = load_robot(args.config, overrides)
    if robot.virtual is None:
        raise SpecError(f"{args.config}: virtual", None, "demonstrations are scripted for the virtual arm only")
    if args.episodes < 1:
        raise SpecError("--episodes", args.episodes, "at least 1")
    if args.seed < 0:
        raise SpecError("--seed", args.seed, "zero or more")
    if not 0.0 <= args.noise <= 1.0:
        raise SpecError("--noise", args.noise, "from 0 to 1 rad")
    cameras = tuple(dict.fromkeys(args.cameras))
    for name in cameras:
        if name not in robot.cameras:
            raise SpecError("--cameras", name, "no such camera on this robot", robot.cameras)
    wanted = [args.out / f"demo-{number:05d}.mcap" for number in range(args.episodes)]
    missing = [(number, path) for number, path in enumerate(wanted) if not path.exists()]
    recorder = DemonstrationRecorder(robot, cameras, Settings(noise=args.noise))
    steps = 0
    columns = (TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns) as progress:
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(missing))
            for number, path in missing:
                path.with_name(path.name + ".part").unlink(missing_ok=True)  # left by an interrupted recording
                steps += recorder.record(path, args.seed, number)
                progress.advance(task)
    except OSError as error:
        raise CadenzaError(f"{args.out}: {error.strerror}; what was recorded so far is kept") from None
    finally:
        recorder.close()
    print(f"{len(missing)} episodes recorded ({steps} policy steps), {len(wanted)} in {args.out}")
    return 0
