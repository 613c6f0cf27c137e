"""Reading robot files, with overrides from the command line, into one checked :class:`spec.robot.Robot`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from spec.errors import SpecError
from spec.files import content_of
from spec.robot import Robot

_Model = TypeVar("_Model", bound=BaseModel)
_MAX_BYTES = 1 << 20


# PyYAML's constructors trust the tags of a file: "!!bool x" is a KeyError, "!!map [a]" a TypeError.
_BAD_YAML = (yaml.YAMLError, RecursionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the last, and a limit would not be what it seems. And
    halves of characters, as "\\ud800" makes them, which no log and no copy of the file can hold."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        str(value).encode()
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name must be a plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_robot(path: Path, overrides: Mapping[str, str] | None = None) -> Robot:
    """Read and check a robot file.

    Args:
        path: YAML file.
        overrides: dotted field → YAML text, e.g. ``{"cameras.front.fps": "60"}``; applied before checking.

    Raises:
        SpecError: unreadable file, bad YAML, unknown field or value out of range; says which.
    """
    document = _read_yaml(path)
    for field, text in (overrides or {}).items():
        _set(document, field, text)
    robot = validated(Robot, document, str(path))
    return robot.model_copy(update=_absolute_paths(robot, path.resolve().parent))


def robot_hash(robot: Robot) -> str:
    """sha256 over the whole checked robot description, defaults included."""
    return hashlib.sha256(json.dumps(robot.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def validated(model: type[_Model], document: Any, where: str) -> _Model:
    """Check ``document`` against a pydantic model; the first thing wrong becomes one :class:`SpecError` line."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        value = first["input"] if first["type"] != "missing" else None
        if isinstance(value, Mapping | BaseModel):
            value = "..."
        valid = None
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            reason, valid = "no such field", _siblings(model, first["loc"][:-1])
        raise SpecError(f"{where}: {field}", value, _lower(reason), valid) from None


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = content_of(path, _MAX_BYTES)
    except OSError as error:
        raise SpecError(str(path), error.strerror, "cannot read the robot file") from None
    except ValueError as error:
        raise SpecError(str(path), str(error), "cannot be a robot file") from None
    try:
        document = yaml.load(content.decode(), _Strict)  # noqa: S506 (a SafeLoader)
    except UnicodeDecodeError as error:
        raise SpecError(str(path), f"byte {error.start}", "not a text file in UTF-8") from None
    except _BAD_YAML as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(where, getattr(error, "problem", None) or str(error), "not valid YAML") from None
    if not isinstance(document, dict):
        raise SpecError(str(path), type(document).__name__, "a robot file is a mapping of fields")
    return document


def _set(document: dict[str, Any], field: str, text: str) -> None:
    where = f"--robot.{field}"
    try:
        value = yaml.load(text, _Strict)  # noqa: S506 (a SafeLoader)
    except _BAD_YAML:
        raise SpecError(where, text, "not a valid YAML value") from None
    *parents, last = field.split(".")
    node = document
    for part in parents:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise SpecError(where, part, "holds a value, not fields")
        node = child
    node[last] = value


def _siblings(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that stand beside the one at ``loc``."""
    current: type[BaseModel] | None = model
    for part in loc:
        if current is None or part not in current.model_fields:
            continue  # a key of a dict of sections: the section's type was already taken
        current = _section_in(current.model_fields[str(part)].annotation)
    return sorted(current.model_fields) if current else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)


def _absolute_paths(robot: Robot, folder: Path) -> dict[str, Any]:
    """Field updates that anchor every path at the robot file's folder."""
    updates: dict[str, Any] = {}
    for name in ("follower", "leader"):
        arm = getattr(robot, name)
        if arm is not None:
            updates[name] = arm.model_copy(update={"calibration": _anchor(arm.calibration, folder)})
    if robot.model is not None:
        updates["model"] = _anchor(robot.model, folder)
    if robot.virtual is not None and robot.virtual.attach is not None:
        updates["virtual"] = robot.virtual.model_copy(update={"attach": robot.virtual.attach.absolute()})
    return updates


def _anchor(path: Path, folder: Path) -> Path:
    return path if path.is_absolute() else (folder / path).resolve()
