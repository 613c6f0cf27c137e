"""``cadenza export``: turn a checkpoint into a bundle that the robot can run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from cadenza.arguments import parse
from cadenza.legacy_arguments import LegacyArgs
from export.bundle import Bundle, refuse_to_replace
from export.exporter import export_checkpoint, keep_windows, windows_from
from export.legacy.bundle import export_legacy
from export.legacy.formats import is_legacy
from export.legacy.remarks import remarks
from spec.errors import SpecError
from spec.manifest import Parity


@dataclass(frozen=True, slots=True)
class Args:
    """Turn a checkpoint into a bundle: two ONNX graphs and a manifest, refused unless they say what the actor says.

    cadenza export assets/policy/push --out runs/push-bundle

    cadenza export runs/push --out runs/push-bundle --data runs/demos --max-ticks 0.5

    A legacy checkpoint of the LeRobot fork, as it is: a .pt file of the warm-up, a folder, or a .safetensors file.

    cadenza export final.pt --out runs/legacy --config robots/koch.yaml --action-space joint_delta --step-s 0.1
    --action-low -0.1 --action-high 0.1
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    """Folder of the bundle; an older one there is replaced."""
    data: Path | None = None
    """Episodes to measure parity on; default: the windows kept beside the checkpoint."""
    max_ticks: float = 1.0
    """Largest accepted difference from the actor, in encoder ticks."""
    keep_windows: bool = False
    """Also keep some windows of --data beside the checkpoint, so that it can be exported without its episodes."""
    json: bool = False
    """Print the manifest as JSON."""
    legacy: Annotated[LegacyArgs, tyro.conf.arg(name="")] = field(default_factory=LegacyArgs)


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "export")
    if not args.max_ticks >= 0.0:
        raise SpecError("--max-ticks", args.max_ticks, "zero or more")
    if args.keep_windows and args.data is None:
        raise SpecError("--keep-windows", True, "needs --data FOLDER to take them from")
    torch.set_num_threads(1)
    legacy = args.legacy.format is not None or is_legacy(args.checkpoint)
    if not legacy and args.legacy != LegacyArgs():
        raise SpecError(str(args.checkpoint), "not a legacy checkpoint", "what is said of one has no meaning here")
    if legacy and args.keep_windows:
        raise SpecError("--keep-windows", True, "not beside a legacy checkpoint")
    with Console(stderr=True).status("reading the checkpoint") as status:
        if legacy:
            bundle = _export_legacy(args, status.update)
        else:
            bundle = export_checkpoint(args.checkpoint, args.out, args.data, args.max_ticks, status.update)
        if args.keep_windows and args.data is not None:
            keep_windows(args.checkpoint, args.data)
    if args.json:
        print(bundle.manifest.model_dump_json())
        return 0
    parity = bundle.manifest.parity
    size = sum((bundle.folder / name).stat().st_size for name in bundle.manifest.files) / 1e6
    print(
        f"{bundle.folder}: {size:.1f} MB; parity over {_compared(parity)} windows: "
        f"{parity.max_abs_rad:.2g} rad, {parity.max_ticks:.2g} encoder ticks"
    )
    return 0


def _export_legacy(args: Args, progress: Callable[[str], None]) -> Bundle:
    refuse_to_replace(args.out)
    policy, legacy = args.legacy.load(args.checkpoint)
    for line in remarks(legacy, policy):
        print(f"{args.checkpoint}: {line}", file=sys.stderr)
    windows = None if args.data is None else windows_from(args.data, policy.config)
    return export_legacy(policy, args.checkpoint, args.out, windows, args.max_ticks, progress)


def _compared(parity: Parity) -> str:
    return f"{parity.windows} real and as many random" if parity.windows else f"{parity.random} random"
