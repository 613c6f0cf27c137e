"""From recorded episodes to windows, and from windows to weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_actors import small_config
from synthetic_episodes import PLAN, plan_at, position_at, write_episode

from learning.checkpoint import load_checkpoint
from learning.cloning.plots import plot_warmup
from learning.cloning.samples import load_samples, save_samples
from learning.cloning.warmup import METRICS_FILE, STATE_FACTS, STATE_FILE, Warmup, WarmupSettings, read_metrics
from learning.cloning.windows import Demonstrations, Labels, Windows, episode_paths
from learning.network.actor import SequenceActor
from learning.network.config import ActorConfig
from spec.action import ActionSpace
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.manifest import ImageInput, StateFeature

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def _config(**changes) -> ActorConfig:
    settings = {
        "joints": NAMES,
        "state": (StateFeature.POSITION,),
        "cameras": {"top": ImageInput(height=16, width=16)},
        "act_chunk_size": PLAN - 1,
    }
    return small_config(**{**settings, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(3):
        write_episode(folder, number)
    return folder


def test_windows_hold_what_was_logged(folder: Path) -> None:
    data = Demonstrations(episode_paths(folder), _config())
    assert len(data) == 36
    window = data.windows(np.array([0, 5, 12, 13]))
    assert window.mask.tolist() == [[False, False, True], [True] * 3, [False, False, True], [False, True, True]]
    assert np.allclose(window.state[1, 0].numpy(), position_at(0.3, 0), atol=1e-6)
    assert np.allclose(window.state[3, 2].numpy(), position_at(0.1, 1), atol=1e-6)
    brightness = window.images["top"][1].float().mean(dim=(1, 2, 3))
    assert torch.allclose(brightness, torch.tensor([55.0, 70.0, 85.0]), atol=1.5)
    assert np.allclose(window.actions[3].numpy(), plan_at(0.1, 1)[: PLAN - 1], atol=1e-6)
    assert bool(window.action_mask.all())


def test_late_windows_see_old_pictures_and_new_joints(folder: Path) -> None:
    data = Demonstrations(episode_paths(folder), _config())
    rows, delay = np.array([5, 20]), np.array([0.06, 0.025])
    prompt, late = data.windows(rows), data.windows(rows, delay)
    assert torch.equal(prompt.images["top"], late.images["top"])
    assert np.allclose(late.state[0, 2].numpy(), position_at(0.56, 0), atol=1e-6)
    assert np.allclose(late.state[0, 1].numpy(), position_at(0.46, 0), atol=1e-6)
    assert np.allclose(late.actions[1].numpy(), plan_at(0.825, 1)[: PLAN - 1], atol=1e-6)


def test_labels_from_what_was_sent_are_masked_at_the_end(folder: Path) -> None:
    data = Demonstrations(episode_paths(folder), _config(), Labels.SENT)
    window = data.windows(np.array([5, 10, 11]))
    assert window.action_mask.tolist() == [[True] * 5, [True] + [False] * 4, [False] * 5]
    due = np.stack([position_at(0.5 + 0.1 * (k + 1), 0) + 0.01 for k in range(5)])
    assert np.allclose(window.actions[0].numpy(), due, atol=1e-6)


@pytest.mark.parametrize("space", ActionSpace)
def test_ticks_that_sent_nothing_teach_nothing(tmp_path: Path, space: ActionSpace) -> None:
    """They are logged as NaN; one of them used to make every action range NaN."""
    write_episode(tmp_path, 0, silent=range(160))
    data = Demonstrations(episode_paths(tmp_path), _config(action_space=space), Labels.SENT)
    window = data.windows(np.array([0, 3, 6]))
    # Nothing is sent before 0.8 s; the delta to the action due then starts from a target nobody knows.
    delta = space is ActionSpace.JOINT_DELTA
    assert window.action_mask.tolist() == [
        [False] * 5,
        [False] * 4 + [not delta],
        [False, not delta, True, True, True],
    ]
    assert bool(window.actions.isfinite().all())
    assert all(bool(part.isfinite().all()) for part in data.states_and_actions())


def test_recordings_in_which_nothing_was_ever_sent_are_refused(tmp_path: Path) -> None:
    """An arm moved by hand with its torque off: fitting the action range to nothing was a traceback."""
    write_episode(tmp_path, 0, silent=range(240))
    data = Demonstrations(episode_paths(tmp_path), _config(), Labels.SENT)
    with pytest.raises(CadenzaError, match="says what was right to do"):
        data.states_and_actions()


def test_a_chunk_that_was_none_is_no_sample(tmp_path: Path) -> None:
    write_episode(tmp_path, 0, refused=(4,))
    assert len(Demonstrations(episode_paths(tmp_path), _config())) == 11
    write_episode(tmp_path, 0, refused=range(12))
    with pytest.raises(CadenzaError, match="no policy step"):
        Demonstrations(episode_paths(tmp_path), _config())


def test_deltas_add_up_to_the_targets(folder: Path) -> None:
    data = Demonstrations(episode_paths(folder), _config(action_space=ActionSpace.JOINT_DELTA))
    window = data.windows(np.array([5]))
    reference = position_at(0.5, 0) + 0.01
    assert np.allclose(reference + np.cumsum(window.actions[0].numpy(), axis=0), plan_at(0.5, 0)[:5], atol=1e-5)


def test_unfit_episodes_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MisfitError, match="one more than a chunk"):
        Demonstrations(episode_paths(folder), _config(act_chunk_size=PLAN))
    with pytest.raises(MisfitError, match="joints"):
        Demonstrations(episode_paths(folder), _config(joints=NAMES[::-1]))
    with pytest.raises(MisfitError, match=r"no pictures of camera 'front' \(has: top\)"):
        Demonstrations(episode_paths(folder), _config(cameras={"front": ImageInput(height=16, width=16)}))
    with pytest.raises(SpecError, match="no episodes"):
        episode_paths(tmp_path)


def _warmup(folder: Path, out: Path, **changes) -> Warmup:
    torch.manual_seed(0)
    data = Demonstrations(episode_paths(folder), _config())
    actor = SequenceActor(data.config)
    actor.normalization.fit(*data.states_and_actions())
    settings = {"steps": 12, "batch": 8, "save_every": 4, "learning_rate": 1e-3, **changes}
    return Warmup(actor, data, WarmupSettings(**settings), out)


def test_training_learns(folder: Path, tmp_path: Path) -> None:
    warmup = _warmup(folder, tmp_path, steps=150, learning_rate=3e-3, save_every=150)
    before = warmup.validate()["held_out_error"]
    warmup.run(lambda _: None)
    metrics = read_metrics(tmp_path)
    assert metrics[-1]["held_out_error"] < 0.5 * before
    plot_warmup(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 10_000
    actor, config = load_checkpoint(tmp_path)
    assert config.training["step"] == 150
    assert all(torch.equal(a, b) for a, b in zip(actor.parameters(), warmup.actor.parameters(), strict=True))


class _KilledError(Exception):
    pass


def test_resumed_training_ends_bit_equal(folder: Path, tmp_path: Path) -> None:
    whole = _warmup(folder, tmp_path / "whole")
    whole.run(lambda _: None)

    def kill_at_six(metrics: dict[str, float]) -> None:
        if metrics["step"] == 6:
            raise _KilledError

    cut = _warmup(folder, tmp_path / "cut")
    with pytest.raises(_KilledError):
        cut.run(kill_at_six)
    resumed = _warmup(folder, tmp_path / "cut")
    assert resumed.resume()
    assert resumed.step == 4
    resumed.run(lambda _: None)
    for a, b in zip(whole.actor.parameters(), resumed.actor.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = [[entry["loss"] for entry in read_metrics(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_the_spread_leaves_the_trunk_alone(folder: Path, tmp_path: Path) -> None:
    """Its gradient through the trunk was a hundred times the cloning loss's: the policy learnt to ignore the cube."""
    warmup = _warmup(folder, tmp_path)
    _, spread = warmup._losses(warmup.data.windows(np.arange(8)))
    spread.backward()
    moved = {name for name, p in warmup.actor.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {"log_std_head.weight", "log_std_head.bias"}


def test_resuming_with_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    _warmup(folder, tmp_path, steps=4).run(lambda _: None)
    with pytest.raises(MisfitError, match="other settings"):
        _warmup(folder, tmp_path, steps=4, batch=9).resume()


def test_a_first_save_cut_off_anywhere_is_no_obstacle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off before the checkpoint was written, the counters promised one, and no run could go on or begin there."""

    def cut(*_: object) -> None:
        raise _KilledError

    monkeypatch.setattr("learning.cloning.warmup.save_checkpoint", cut)
    with pytest.raises(_KilledError):
        _warmup(folder, tmp_path, steps=4).run(lambda _: None)
    monkeypatch.undo()
    again = _warmup(folder, tmp_path, steps=4)
    assert not again.resume()
    again.run(lambda _: None)
    assert load_checkpoint(tmp_path)[1].training["step"] == 4


def test_a_checkpoint_of_something_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """An imported or shipped policy, or a classifier: with the names that a warm-up writes."""
    warmup = _warmup(folder, tmp_path, steps=4)
    assert not warmup.resume()
    warmup.save()
    for name in (STATE_FACTS, STATE_FILE):
        (tmp_path / name).unlink()
    with pytest.raises(SpecError, match="choose another --out"):
        _warmup(folder, tmp_path, steps=4).resume()


@pytest.mark.parametrize("name", [STATE_FACTS, STATE_FILE])
def test_a_damaged_state_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    _warmup(folder, tmp_path, steps=4).run(lambda _: None)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(SpecError, match=name):
        _warmup(folder, tmp_path, steps=4).resume()


def test_a_gradient_that_is_not_finite_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """The loss may be finite all the same, here as the square root of zero is."""
    warmup = _warmup(folder, tmp_path, steps=1)
    losses = warmup._losses

    def steep(window: Windows) -> tuple[torch.Tensor, torch.Tensor]:
        loss, spread = losses(window)
        return loss + (0.0 * warmup.actor.mean_head.bias).square().sum().sqrt(), spread

    warmup._losses = steep
    before = [parameter.clone() for parameter in warmup.actor.parameters()]
    warmup.run(lambda _: None)
    assert warmup.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, warmup.actor.parameters(), strict=True))


def test_a_loss_that_is_not_finite_changes_nothing_and_ends_the_run(folder: Path, tmp_path: Path) -> None:
    warmup = _warmup(folder, tmp_path, steps=100)
    with torch.no_grad():
        warmup.actor.mean_head.bias.fill_(float("nan"))
    before = [parameter.clone() for parameter in warmup.actor.parameters()]
    with pytest.raises(CadenzaError, match="not finite 20 times in a row"):
        warmup.run(lambda _: None)
    assert warmup.skipped == 20
    for a, b in zip(before, warmup.actor.parameters(), strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    assert all(json.loads(line)["loss"] is None for line in (tmp_path / METRICS_FILE).read_text().splitlines())


def test_kept_windows_come_back(folder: Path, tmp_path: Path) -> None:
    data = Demonstrations(episode_paths(folder), _config())
    save_samples(tmp_path / "windows.safetensors", data, 5)
    kept = load_samples(tmp_path / "windows.safetensors", data.config)
    assert len(kept) == 5
    assert kept.mask[0].tolist() == [False, False, True]
    with pytest.raises(MisfitError, match="another actor"):
        load_samples(tmp_path / "windows.safetensors", _config(obs_history_length=2))
