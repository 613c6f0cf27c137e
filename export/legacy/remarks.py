"""What a person should know of a legacy checkpoint that was read, one line each."""

from __future__ import annotations

from export.legacy.formats import Legacy
from export.legacy.original import Original
from export.legacy.policy import LegacyPolicy
from learning.network.config import Backbone


def remarks(legacy: Legacy, policy: LegacyPolicy) -> list[str]:
    """What was taken for granted, and what follows from it."""
    anatomy, config = policy.original.anatomy, policy.config
    lines: list[str] = []
    inputs = {camera.key for camera in anatomy.cameras} | set(policy.slices)
    if bare := sorted(inputs - set(anatomy.statistics)):
        lines.append(f"no statistics of {', '.join(bare)}: taken as they are, as in the original")
    if anatomy.backbone is not Backbone.CNN and not legacy.wrapped and anatomy.same_padding:
        lines.append(
            "the ResNet-10 has the names of a revision that may have padded one all round: --resnet-padding one"
        )
    if config.vectors:
        numbers = ", ".join(f"{name} ({size} numbers)" for name, size in config.vectors.items())
        lines.append(
            f"wants {numbers}, which no arm measures: runs in simulation only, unless --state says what they are"
        )
    if legacy.left:
        lines.append(f"left behind, parts of the learner: {', '.join(sorted(legacy.left))}")
    return lines


def not_carried(original: Original) -> list[str]:
    """What of ``original`` a converted actor does not have."""
    lines = [
        "at run time it fed hidden states back, and from step 1 on said something else than in training; this does not",
        "frames missing from a history were replaced by the oldest real one; here they are masked",
        "its positions were fixed; here they are learned from there",
        "dropout, also that after the image encoder, is off",
    ]
    if len(original.anatomy.cameras) > 1:
        lines.append("its cameras shared one image encoder; here each has a copy")
    return lines
