"""``cadenza export``: turn a checkpoint into a bundle that the robot can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console

from cadenza.arguments import parse
from export.exporter import export_checkpoint, keep_windows
from spec.errors import SpecError


@dataclass(frozen=True, slots=True)
class Args:
    """Turn a checkpoint into a bundle: two ONNX graphs and a manifest, refused unless they say what the actor says.

    cadenza export assets/policy/push --out runs/push-bundle

    cadenza export runs/push --out runs/push-bundle --data runs/demos --max-ticks 0.5
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


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "export")
    if not args.max_ticks >= 0.0:
        raise SpecError("--max-ticks", args.max_ticks, "zero or more")
    if args.keep_windows and args.data is None:
        raise SpecError("--keep-windows", True, "needs --data FOLDER to take them from")
    torch.set_num_threads(1)
    with Console(stderr=True).status("reading the checkpoint") as status:
        bundle = export_checkpoint(args.checkpoint, args.out, args.data, args.max_ticks, status.update)
        if args.keep_windows and args.data is not None:
            keep_windows(args.checkpoint, args.data)
    if args.json:
        print(bundle.manifest.model_dump_json())
        return 0
    parity = bundle.manifest.parity
    size = sum((bundle.folder / name).stat().st_size for name in bundle.manifest.files) / 1e6
    print(
        f"{bundle.folder}: {size:.1f} MB; parity over {parity.windows} real and as many random windows: "
        f"{parity.max_abs_rad:.2g} rad, {parity.max_ticks:.2g} encoder ticks"
    )
    return 0
