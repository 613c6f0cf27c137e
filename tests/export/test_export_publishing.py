"""New weights in graphs that were traced before, and the shelf they are offered on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from benchmarks.stand_ins.learner import small_actor
from export.bundle import read_bundle
from export.graphs import traced
from export.publishing import ShelfPublisher
from export.reweighting import Template
from export.shelf import offer, open_newest, read_newest
from learning.checkpoint import MODEL_FILE, CheckpointConfig, save_checkpoint
from learning.cloning.samples import SAMPLES_FILE, write_samples
from learning.network.actor import SequenceActor
from learning.network.config import DecoderKind
from learning.replay.batch import History
from spec.errors import CadenzaError, SpecError

_TEMPLATES = ShelfPublisher(Path("unused"))
"""Traced once for all tests."""


def _actor() -> SequenceActor:
    config = small_actor().config.model_copy(update={"decoder": DecoderKind.AUTOREGRESSIVE, "act_chunk_size": 2})
    torch.manual_seed(1)
    return SequenceActor(config).eval()


def _checkpoint(folder: Path, actor: SequenceActor, weights: int) -> Path:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (3, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)
    history = History(torch.randn(3, 2, 6, generator=generator), {"top": images}, torch.ones(3, 2, dtype=torch.bool))
    write_samples(folder / SAMPLES_FILE, history)
    save_checkpoint(folder, actor, CheckpointConfig(actor=actor.config, weights=weights))
    return folder


@pytest.fixture
def publisher(tmp_path: Path) -> ShelfPublisher:
    publisher = ShelfPublisher(tmp_path / "shelf", keep=2)
    _TEMPLATES._shelf = tmp_path / "unused"
    _TEMPLATES.prepare(_actor())
    publisher._templates = _TEMPLATES._templates
    return publisher


def test_all_weights_of_a_traced_graph_can_be_others(publisher: ShelfPublisher, tmp_path: Path) -> None:
    """Those that the optimiser folds into others too: transposed, sliced, added. It also makes one of equal ones, as
    all norms of a fresh actor are: with graphs traced from such a one, the arm would have been 1.7 rad off."""
    actor = _actor()
    with torch.no_grad():
        for tensor in (*actor.parameters(), actor.normalization.action_low, actor.normalization.state_mean):
            tensor.add_(0.3 * torch.randn_like(tensor))
    checkpoint = _checkpoint(tmp_path / "checkpoint", actor, 2)
    bundle = read_bundle(publisher.publish(checkpoint))
    assert bundle.manifest.parity.max_abs < 1e-5
    newest = read_newest(tmp_path / "shelf")
    assert newest is not None
    assert (newest.weights, publisher.newest()) == (2, 2)
    assert open_newest(tmp_path / "shelf", newest).manifest.weights == 2


class _Grouped(nn.Module):
    """A layer of the ResNets, in the place of an actor."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.GroupNorm(2, 4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.actor(image.float())
        return result


def test_a_weight_that_takes_its_type_from_an_input_is_new_too() -> None:
    """As those of every group norm do; they stayed what they were traced with, so no policy with a ResNet could ever be
    published: parity refused it."""
    torch.manual_seed(3)
    old, new = _Grouped(), _Grouped()
    for module in (old, new):
        for parameter in module.parameters():
            nn.init.normal_(parameter)
    image = torch.randint(0, 256, (1, 4, 3, 3), dtype=torch.uint8)
    template = Template(traced(old, (image,), ["image"], "feature", optimize=False))
    session = onnxruntime.InferenceSession(template.weighted(new.actor), providers=["CPUExecutionProvider"])
    (found,) = session.run(["feature"], {"image": image.numpy()})
    assert np.abs(found - new(image).detach().numpy()).max() < 1e-5


def test_what_is_not_fit_to_be_driven_is_never_offered(publisher: ShelfPublisher, tmp_path: Path) -> None:
    actor = _actor()
    publisher.publish(_checkpoint(tmp_path / "checkpoint", actor, 5))
    stale = _actor()
    with torch.no_grad():
        stale.mean_head.bias.add_(1.0)
    assert publisher._templates is not None
    config, encoder, decoder = publisher._templates

    class Stale:
        """A template that forgets to put the new weights in."""

        def weighted(self, _: SequenceActor) -> bytes:
            return decoder.weighted(stale)

    publisher._templates = (config, encoder, Stale())  # type: ignore[assignment]
    with pytest.raises(CadenzaError, match="ticks"):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", actor, 6))
    publisher._templates = (config, encoder, decoder)
    with pytest.raises(CadenzaError, match="newer than 4"):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", actor, 4))
    with torch.no_grad():
        actor.mean_head.bias[0] = torch.nan
    with pytest.raises(SpecError, match="not finite"):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", actor, 7))
    (tmp_path / "checkpoint" / MODEL_FILE).write_bytes(b"cut off")
    with pytest.raises(SpecError, match="cut off"):
        publisher.publish(tmp_path / "checkpoint")
    assert publisher.newest() == 5
    assert [folder.name for folder in (tmp_path / "shelf").glob("*/")] == ["weights-000005"]


def test_old_bundles_go(publisher: ShelfPublisher, tmp_path: Path) -> None:
    for weights in (1, 2, 3, 10):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", _actor(), weights))
    assert sorted(folder.name for folder in (tmp_path / "shelf").glob("*/")) == ["weights-000003", "weights-000010"]


def test_a_copy_that_an_operator_keeps_on_the_shelf_stays(publisher: ShelfPublisher, tmp_path: Path) -> None:
    """It went with the old bundles: its name began like theirs."""
    kept = tmp_path / "shelf" / "weights-000001-best"
    kept.mkdir(parents=True)
    for weights in (999_999, 1_000_000, 1_000_001):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", _actor(), weights))
    left = {folder.name for folder in (tmp_path / "shelf").glob("*/")}
    assert left == {kept.name, "weights-1000000", "weights-1000001"}


def test_what_a_kill_left_goes_as_the_next_one_begins(publisher: ShelfPublisher, tmp_path: Path) -> None:
    (tmp_path / "shelf" / ".weights-000004.abcd").mkdir(parents=True)
    publisher.prepare(_actor())
    assert not list((tmp_path / "shelf").iterdir())


def test_what_an_operator_went_back_from_counts_as_offered(publisher: ShelfPublisher, tmp_path: Path) -> None:
    for weights in (1, 2):
        publisher.publish(_checkpoint(tmp_path / "checkpoint", _actor(), weights))
    offer(tmp_path / "shelf", read_bundle(tmp_path / "shelf" / "weights-000001"), rollback=True)
    assert publisher.newest() == 2  # a learner that resumes would else offer its last bundle again
    publisher.publish(_checkpoint(tmp_path / "checkpoint", _actor(), 3))
    newest = read_newest(tmp_path / "shelf")
    assert newest is not None
    assert (newest.weights, newest.rollback) == (3, False)
