"""What a dataset made of an episode looks like, and whether another episode fits into it."""

from __future__ import annotations

from pathlib import Path

from episodes.lerobot.layout import Form, Settings, features
from episodes.reader import Episode
from episodes.transitions import action_space, policy_step_ns, sighted
from spec.action import ActionSpace
from spec.errors import MisfitError, SpecError
from spec.observation import decode_jpeg


def form_of(episode: Episode, settings: Settings) -> Form:
    """Of an episode with its pictures.

    Raises:
        SpecError: the rate is left to the episode, and it has none that a dataset can have.
    """
    sizes = {name: decode_jpeg(episode.frames[name].jpeg[0]).shape[:2] for name in sighted(episode)}
    columns = features(episode.joints, sizes, settings.state, space_of(episode, settings), settings.images)
    return Form(episode.facts["robot"], _fps(episode, settings), columns)


def space_of(episode: Episode, settings: Settings) -> ActionSpace:
    """The user's choice, else the policy's."""
    return action_space(episode) if settings.action_space is None else settings.action_space


def _fps(episode: Episode, settings: Settings) -> int:
    """Rows a second: the user's choice, else the policy's steps, else as often as the slowest camera looks."""
    robot = episode.robot()
    if settings.fps is not None:
        wanted = float(settings.fps)
    elif (step_ns := policy_step_ns(episode)) is not None:
        wanted = 1e9 / step_ns
    else:
        wanted = min((camera.fps for camera in robot.cameras.values()), default=robot.control.rate_hz)
    fps = round(wanted)
    if abs(wanted - fps) > 1e-6 * wanted:
        raise SpecError("--fps", None, f"needed, a whole number: {episode.path.name} has {wanted:g} steps a second")
    if not 1 <= fps <= robot.control.rate_hz:
        raise SpecError("--fps", fps, f"from 1 to the control rate of {episode.path.name}, {robot.control.rate_hz:g}")
    return fps


def check_fit(path: Path, own: Form, form: Form) -> None:
    """Refuse an episode that is not like the others.

    Raises:
        MisfitError: says in what.
    """
    if own.robot != form.robot:
        raise MisfitError(f"{path}: recorded on robot {own.robot!r}, the others on {form.robot!r}")
    if own.fps != form.fps:
        raise MisfitError(f"{path}: {own.fps} steps a second, the others {form.fps}; choose one with --fps")
    if own.cameras != form.cameras:
        raise MisfitError(f"{path}: pictures of {list(own.cameras)}, the others of {list(form.cameras)}")
    for key, feature in form.features.items():
        for part, value in feature.items():
            if own.features[key][part] != value:
                raise MisfitError(f"{path}: {key} has {part} {own.features[key][part]}, the others {value}")
