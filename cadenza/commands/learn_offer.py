"""``cadenza learn offer``: say which bundle of a shelf the robots are to drive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cadenza.arguments import parse
from export.bundle import read_bundle
from export.shelf import bundle_name, highest, offer, read_newest, versions
from spec.errors import SpecError


@dataclass(frozen=True, slots=True)
class Args:
    """Offer a bundle of a shelf to every robot that follows it: an older one to have them all go back.

    A learner that is still running offers its next bundle as before; its numbers go on from the highest.

    cadenza learn offer --bundles runs/online/bundles

    cadenza learn offer --bundles runs/online/bundles --weights 11
    """

    bundles: Path
    """The shelf: the learner's folder of bundles, with newest.json."""
    weights: int | None = None
    """Weight version to offer; without it, what there is is shown."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    args = parse(Args, argv, "learn offer")
    if not args.bundles.is_dir():
        raise SpecError("--bundles", str(args.bundles), "no such folder")
    newest = read_newest(args.bundles)
    if args.weights is not None:
        folder = args.bundles / bundle_name(args.weights)
        if not folder.is_dir():
            raise SpecError("--weights", args.weights, "not on the shelf", versions(args.bundles))
        bundle = read_bundle(folder)
        if bundle.manifest.weights != args.weights:
            raise SpecError(str(folder), bundle.manifest.weights, "weight version differs from the folder's name")
        # Whatever is on offer now: 40, back to 11, on to 30 is still to be driven by a robot that has 40.
        newest = offer(args.bundles, bundle, rollback=args.weights < highest(args.bundles))
    there = versions(args.bundles)
    if args.json:
        print(json.dumps({"newest": None if newest is None else newest.model_dump(), "versions": there}))
    elif newest is None:
        print(f"{args.bundles}: offers nothing; there: {', '.join(map(str, there)) or 'no bundle'}")
    else:
        back_to = ", a rollback" if newest.rollback else ""
        print(f"{args.bundles}: offers weights {newest.weights}{back_to}; there: {', '.join(map(str, there))}")
    return 0
