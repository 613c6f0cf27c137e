"""Changing numbers of a robot file in place: comments, layout and everything else stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from spec.errors import SpecError
from spec.files import place_of, write_atomically
from spec.robotfile import load_robot


def patched(text: str, values: Mapping[str, float]) -> str:
    """The text of a robot file with other numbers.

    Args:
        values: by field, e.g. ``follower.joints.elbow_flex.jerk``; the file must have it.

    Raises:
        SpecError: the file has no such field of its own.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    spots = [(*_spot(root, field), value) for field, value in values.items()]
    for start, end, value in sorted(spots, reverse=True):  # from the end, so that what is before stays where it is
        text = f"{text[:start]}{value:.6g}{text[end:]}"
    return text


def patch_robot(path: Path, values: Mapping[str, float]) -> None:
    """Change numbers of a robot file, or leave it as it was.

    Raises:
        SpecError: no such field, or the file would no longer be a robot file.
    """
    path = place_of(path)  # what the file names is relative to where it really stands
    before = path.read_text(encoding="utf-8")
    trial = path.with_name(f".{path.name}.new")
    try:
        trial.write_text(text := patched(before, values), encoding="utf-8")
        load_robot(trial)
    finally:
        trial.unlink(missing_ok=True)
    write_atomically(path, text.encode())


def _spot(node: yaml.Node | None, field: str) -> tuple[int, int]:
    """Where the value of a field stands."""
    for part in field.split("."):
        below = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in below if key.value == part), None)
        if node is None:
            raise SpecError(field, None, "the robot file does not have this field; write it there first")
    if not isinstance(node, yaml.ScalarNode):
        raise SpecError(field, None, "is no number in the robot file")
    return node.start_mark.index, node.end_mark.index
