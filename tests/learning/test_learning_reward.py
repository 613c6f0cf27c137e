"""Success seen in pictures: what is learned from, what is told, and what a learner is given for it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_episodes
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_episodes import write_episode

from cadenza.cli import main
from episodes.outcome import Outcome
from episodes.rewrite import relabel
from learning.replay.rows import Rows
from learning.reward.classifier import ClassifierConfig, SuccessClassifier, load_classifier, save_classifier
from learning.reward.judging import choose_threshold, confusion
from learning.reward.rewarding import rewarded, runs_above
from learning.reward.sights import Label, Sights, read_sights
from learning.reward.training import RewardSettings, train
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.manifest import ImageInput

SIZE = ImageInput(height=32, width=32)
CONFIG = ClassifierConfig(cameras={"top": SIZE}, hidden=8)
QUICK = RewardSettings(steps=30, batch=16, learning_rate=5e-3, shift=1, light=0.05)


class _Bright(SuccessClassifier):
    """Takes brightness for success: 255 for certain."""

    def __init__(self, in_a_row: int = 2) -> None:
        super().__init__(CONFIG.model_copy(update={"in_a_row": in_a_row}))

    def forward(self, images):
        share = images["top"].float().mean(dim=(1, 2, 3)) / 255.0
        return torch.logit(share.clamp(1e-6, 1 - 1e-6))


def _rows(brightness, segment=None, acted=None, reward=None, terminated=None) -> Rows:
    count = len(brightness)
    acted = np.arange(count) < count - 1 if acted is None else np.array(acted, dtype=bool)
    pictures = np.array(brightness, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), dtype=np.uint8)
    return Rows(
        observed_ns=np.arange(count, dtype=np.int64) * 100,
        segment=np.zeros(count, np.int64) if segment is None else np.array(segment),
        state=np.arange(2.0 * count, dtype=np.float32).reshape(count, 2),
        images={"top": pictures},
        acted=acted,
        action=np.where(acted[:, None], 1.0, 0.0).astype(np.float32) * np.ones((1, 3), np.float32),
        expert=acted & (np.arange(count) % 2 == 0),
        plan=None,
        reward=np.zeros(count, np.float32) if reward is None else np.array(reward, np.float32),
        terminated=np.zeros(count, bool) if terminated is None else np.array(terminated, dtype=bool),
        breaks=~acted,
    )


def test_the_action_that_led_to_certain_success_is_rewarded_and_the_rest_cut_off() -> None:
    rows = _rows([0, 250, 0, 0, 250, 250, 250, 0], reward=[0, 0, 0, 0, 0, 0, 5, 0])
    found = rewarded(rows, _Bright())
    assert found.reward.tolist() == [0, 0, 0, 0, 1, 0]
    assert found.terminated.tolist() == [False, False, False, False, True, False]
    assert found.acted.tolist() == [True] * 5 + [False]
    assert found.breaks.tolist()[-1]
    assert found.action[-1].tolist() == [0, 0, 0]
    assert not found.expert[-1]
    assert all(len(getattr(found, f.name)) == 6 for f in fields(Rows) if f.name not in {"images", "plan"})
    assert len(found.images["top"]) == 6
    assert len(rows) == 8
    assert rows.acted[5]
    assert not rows.terminated.any()


def test_without_success_seen_time_merely_ran_out() -> None:
    by_hand = _rows([0, 0, 250, 0], reward=[0, 0, 1, 0], terminated=[False, False, True, False])
    found = rewarded(by_hand, _Bright())
    assert not found.reward.any()
    assert not found.terminated.any()
    assert len(found) == 4


def test_a_failure_that_ended_the_task_stays_one() -> None:
    failed = _rows([0, 0, 250, 0], terminated=[False, False, True, False])
    found = rewarded(failed, _Bright())
    assert found.terminated.tolist() == failed.terminated.tolist()
    assert not found.reward.any()


def test_sights_of_two_segments_are_not_in_a_row_and_a_reward_needs_an_action() -> None:
    apart = _rows([0, 250, 250, 0], segment=[0, 0, 1, 1])
    assert not rewarded(apart, _Bright()).reward.any()
    unasked = _rows([250, 250, 250, 0], acted=[False, False, True, False])
    found = rewarded(unasked, _Bright(in_a_row=1))
    assert found.reward.tolist() == [0, 0, 0, 0]
    begins_done = rewarded(_rows([250, 250, 0]), _Bright(in_a_row=1))
    assert begins_done.reward.tolist() == [1, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=25))
def test_runs_are_counted_as_by_hand(steps: list[tuple[bool, bool]]) -> None:
    above, fresh = np.array([a for a, _ in steps]), np.array([f for _, f in steps])
    segment = np.cumsum(fresh)
    expected, count = [], 0
    for index, bright in enumerate(above):
        if index and segment[index] != segment[index - 1]:
            count = 0
        count = count + 1 if bright else 0
        expected.append(count)
    assert runs_above(np.where(above, 0.9, 0.1), 0.5, segment).tolist() == expected


def test_other_cameras_and_smaller_pictures_are_refused_and_larger_ones_averaged() -> None:
    classifier = _Bright()
    rows = _rows([0, 0])
    with pytest.raises(MisfitError, match=r"camera 'top'.*pictures of: front"):
        rewarded(replace(rows, images={"front": rows.images["top"]}), classifier)
    with pytest.raises(MisfitError, match="32x32 or more, not 16x16"):
        rewarded(replace(rows, images={"top": rows.images["top"][:, ::2, ::2]}), classifier)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    larger = pictures.repeat(2, axis=1).repeat(2, axis=2)
    plain = SuccessClassifier(CONFIG)
    assert np.array_equal(plain.scores({"top": larger}), plain.scores({"top": pictures}))


# -- thresholds and what they tell


def test_the_threshold_lies_in_the_widest_gap_that_lets_next_to_nothing_false_through() -> None:
    label = np.array([Label.NOT_YET] * 5 + [Label.SUCCESS] * 3)
    odds = np.array([-9.0, -8, -7, -6, -1, 3, 4, 5])
    assert choose_threshold(1 / (1 + np.exp(-odds)), label) == pytest.approx(1 / (1 + np.exp(-1)))
    # One bright sight without success among few counts: it must not pass, though a success is missed for it.
    odds[4] = 3.5
    assert choose_threshold(1 / (1 + np.exp(-odds)), label) == pytest.approx(1 / (1 + np.exp(-3.75)))
    with pytest.raises(CadenzaError, match="cannot tell success"):
        choose_threshold(np.full(8, 0.5), label)
    with pytest.raises(CadenzaError, match="cannot tell success"):
        choose_threshold(1 / (1 + np.exp(odds)), label)


def test_confusion_counts_sights_and_episodes() -> None:
    label = np.array([0, 0, -1, 1, 0, 0, 1, 1, 0, 0, 0])
    episode = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    sights = Sights({}, label, episode, np.zeros(11), np.array([True, True, False]))
    scores = np.array([0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1])
    found = confusion(sights, scores, 0.5, in_a_row=2)
    assert (found.true_positive, found.false_negative) == (2, 1)
    assert (found.false_positive, found.true_negative) == (4, 3)
    assert (found.successes, found.successes_found, found.early) == (2, 1, 1)
    assert (found.failures, found.failures_rewarded) == (1, 1)
    assert found.accuracy == 5 / 10


# -- from episodes to a folder


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    """Successes end bright; failures are cut off before they get there."""
    folder = tmp_path_factory.mktemp("judged")
    for number in range(6):
        write_episode(folder, number, steps=17 if number % 2 == 0 else 10)
        if number % 2:
            relabel(folder / f"demo-{number:05d}.mcap", Outcome.FAIL, None)
    return folder


def test_the_end_of_a_success_is_success_and_just_before_it_nobody_can_say(judged: Path) -> None:
    sights = read_sights(sorted(judged.glob("*.mcap"))[:2], {"top": SIZE})
    first = sights.episode == 0
    assert sights.label[first].tolist() == [0] + [-1] * 12 + [1] * 4
    assert np.allclose(np.diff(sights.before_end_s[first]), -0.1, atol=0.006)
    assert sights.before_end_s[first][-1] == 0.0
    assert set(sights.label[~first].tolist()) == {Label.NOT_YET}
    brightness = sights.images["top"][first].mean(axis=(1, 2, 3))
    assert brightness[-1] == pytest.approx(10 + 15 * 16, abs=2)


def test_both_outcomes_and_all_cameras_are_needed(judged: Path) -> None:
    paths = sorted(judged.glob("*.mcap"))
    with pytest.raises(CadenzaError, match="none of the 3 episodes is labelled fail"):
        read_sights(paths[::2], {"top": SIZE})
    with pytest.raises(CadenzaError, match="none of the 3 episodes is labelled success"):
        read_sights(paths[1::2], {"top": SIZE})
    with pytest.raises(MisfitError, match="no pictures of camera 'front'"):
        read_sights(paths, {"front": SIZE})
    with pytest.raises(CadenzaError, match="only 1 of the failures"):
        train(read_sights(paths[:3], {"top": SIZE}), CONFIG, QUICK)


def test_a_picture_that_is_none_is_said_in_one_line(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It used to end in a traceback."""
    with monkeypatch.context() as camera:
        camera.setattr(synthetic_episodes, "encode_jpeg", lambda picture, quality: b"no picture")
        path = write_episode(tmp_path, 6)
    with pytest.raises(CadenzaError, match="camera top: frame 0: not a readable JPEG"):
        read_sights([*sorted(judged.glob("*.mcap")), path], {"top": SIZE})
    assert main(["learn", "reward", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_it_learns_and_says_the_same_after_a_round_through_the_disk(judged: Path, tmp_path: Path) -> None:
    sights = read_sights(sorted(judged.glob("*.mcap")), {"top": SIZE})
    trained = train(sights, CONFIG, QUICK)
    assert trained.confusion.accuracy == 1.0
    assert trained.confusion.successes_found == trained.confusion.successes == 1
    assert trained.confusion.failures_rewarded == trained.confusion.early == 0
    again = train(sights, CONFIG, QUICK)
    assert np.array_equal(again.scores, trained.scores)
    save_classifier(tmp_path, trained.classifier)
    loaded = load_classifier(tmp_path)
    assert np.array_equal(loaded.scores(trained.held.images), trained.scores)
    assert loaded.config == trained.classifier.config
    assert loaded.digest == trained.classifier.digest != ""


def test_altered_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, SuccessClassifier(CONFIG))
    model, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    content, said = model.read_bytes(), config.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SpecError, match="altered"):
        load_classifier(tmp_path)
    model.write_bytes(content[:100])
    with pytest.raises(SpecError, match="cut off"):
        load_classifier(tmp_path)
    model.write_bytes(content)
    for change, reason in (
        ({"kind": "sequence_actor/1"}, "not a classifier"),
        ({"threshold": 1.5}, "threshold"),
        ({"hidden": 9}, "not those of this classifier"),
        ({"cameras": {"top": {"height": 8, "width": 8}}}, "at least 29 pixels"),
        ({"surplus": 1}, "surplus"),
    ):
        config.write_text(json.dumps(json.loads(said) | change), encoding="utf-8")
        with pytest.raises(SpecError, match=reason):
            load_classifier(tmp_path)
    config.unlink()
    with pytest.raises(SpecError, match="cadenza learn reward"):
        load_classifier(tmp_path)


def test_the_command_trains_reports_and_draws(judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "reward"
    words = ["learn", "reward", "--data", str(judged), "--out", str(out), "--image", "32", "32", "--steps", "40"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"]["accuracy"] == 1.0
    assert report["classifier"] == load_classifier(out).digest
    assert Path(report["picture"]).stat().st_size > 10_000
    assert main([*words, "--cameras", "side"]) == 2
    assert "no pictures of camera 'side'" in capsys.readouterr().err
    assert main([*words[:4], "--out", str(out), "--image", "16", "16"]) == 2
    assert "at least 29" in capsys.readouterr().err
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text('{"kind": "sequence_actor/1"}')
    assert main([*words[:4], "--out", str(tmp_path / "policy")]) == 2
    assert "choose another --out" in capsys.readouterr().err
