"""``cadenza import``: turn a legacy checkpoint into one of ours, to go on learning from."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from cadenza.arguments import parse
from cadenza.legacy_arguments import LegacyArgs
from export.legacy.convert import converted, disagreement
from export.legacy.remarks import not_carried, remarks
from learning.checkpoint import CheckpointConfig, save_checkpoint
from spec.errors import CadenzaError, SpecError

_TOLERANCE = 1e-4
"""Of means and log-stds, normalised; rounding gives some 3e-6."""


@dataclass(frozen=True, slots=True)
class Args:
    """Turn a legacy checkpoint of the LeRobot fork into one that can be trained here.

    It says what the original said in training; what the original said at run time is to be had by cadenza export.

    cadenza import final.pt --out runs/warm --config robots/koch.yaml --action-space joint_delta --step-s 0.1
    --action-low -0.1 --action-high 0.1

    cadenza import outputs/pretrained_model --out runs/warm --joints a b c d e f --action-space joint_delta --step-s 0.1
    --action-low -0.1 --action-high 0.1 --log-std-min -5 --log-std-max 2
    """

    checkpoint: tyro.conf.Positional[Path]
    """A .pt file of the warm-up, a folder with config.json and model.safetensors, or a .safetensors file."""
    out: Path
    """Folder of the new checkpoint."""
    json: bool = False
    """Print what became of it as JSON."""
    legacy: Annotated[LegacyArgs, tyro.conf.arg(name="")] = field(default_factory=LegacyArgs)


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "import")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise SpecError(str(args.out), "already there", "not replaced; choose another --out")
    torch.set_num_threads(1)
    with Console(stderr=True).status("reading the checkpoint") as status:
        policy, legacy = args.legacy.load(args.checkpoint)
        actor = converted(policy)
        status.update("comparing what both say")
        apart = disagreement(policy, actor)
        if not apart <= _TOLERANCE:
            raise CadenzaError(
                f"{args.checkpoint}: the conversion is {apart:.3g} from the original; nothing was written"
            )
        lost = not_carried(policy.original)
        history = {"legacy": str(args.checkpoint), "format": legacy.format, "apart": apart, "not_carried": lost}
        save_checkpoint(args.out, actor, CheckpointConfig(actor=policy.config, training=history))
    parameters = sum(parameter.numel() for parameter in policy.original.parameters())
    if args.json:
        print(json.dumps(history | {"checkpoint": str(args.out), "parameters": parameters, "left": legacy.left}))
        return 0
    for line in remarks(legacy, policy):
        print(f"{args.checkpoint}: {line}", file=sys.stderr)
    print(f"{args.out}: {parameters / 1e6:.1f} M parameters; within {apart:.1g} of what the original said in training")
    for line in lost:
        print(f"  not carried over: {line}")
    return 0
