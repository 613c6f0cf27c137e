"""The learner's state: what learns and the moments of its optimisers; one update of all of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from learning.network.actor import SequenceActor
from learning.replay.batch import Batch
from learning.sac.mind import Mind
from learning.sac.settings import Settings
from spec.errors import CadenzaError, MisfitError


class Agent:
    """Learns from batches. What an update does depends on weights, moments, batch and its number alone.

    Dropout is off, whatever the actor's configuration says: targets and what is compared with them come from one
    network, not from a different one each time.

    Args:
        actor: from the warm-up, on the device to learn on; it is trained in place.
        settings: how.
    """

    def __init__(self, actor: SequenceActor, settings: Settings) -> None:
        self.mind = Mind(actor, settings)
        self.actor, self.settings = actor, settings
        self.skipped = 0
        """Batches without a finite loss so far."""
        self._bad = 0
        self._optimizers = {
            "actor": _adam(actor, settings.actor_lr),
            "critic": _adam(self.mind.critics, settings.critic_lr),
            "temperature": _adam(self.mind.temperature, settings.temperature_lr),
        }

    @property
    def averaged(self) -> SequenceActor:
        """What should drive the robot: the actor's average, or the actor itself where there is none."""
        return self.actor if self.mind.averaged is None else self.mind.averaged

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        """Learn from one batch.

        Args:
            batch: windows of ``settings.window`` steps.
            step: number of the update, from 0. It decides what is drawn, and how much cloning weighs.

        Returns:
            What there is to plot. Where a loss or a gradient was not finite, ``skipped`` is 1 and nothing was changed.

        Raises:
            MisfitError: windows of another length.
            CadenzaError: no finite loss for ``settings.patience`` batches in a row.
        """
        self.mind.eval()  # whoever exports the actor or looks at it may have left it otherwise
        losses, facts = self.mind.losses(batch, step)
        norms = {f"{name}_gradient": self._gradients(name, loss) for name, loss in losses.items()}
        decisive = {f"{name}_loss": loss for name, loss in losses.items()} | norms
        numbers = _floats(facts | decisive)
        if not all(math.isfinite(numbers[name]) for name in decisive):
            self._skip(step)
            return numbers | {"skipped": 1.0}
        self._bad = 0
        self._optimizers["actor"].param_groups[0]["lr"] = self.settings.actor_rate(step)
        for name in losses:
            self._optimizers[name].step()
        self.mind.follow(losses.keys())
        return numbers | {"skipped": 0.0}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, copied."""
        found = {"skipped": torch.tensor([self.skipped, self._bad]), **self.mind.state_dict()}
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                found |= {f"adam.{name}.{index}.{moment}": tensor for moment, tensor in moments.items()}
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`tensors` gave. The next update is then, on a CPU, the same to the bit.

        Raises:
            MisfitError: of another learner: a tensor is missing, not ours, or has another shape. Nothing was changed.
        """
        wanted = self._shapes(tensors)
        for name, tensor in tensors.items():
            if wanted.get(name) != tensor.shape:
                raise _foreign(f"{name} of shape {tuple(tensor.shape)} is not ours")
        for name in wanted.keys() - tensors.keys():
            raise _foreign(f"{name} is missing")
        self.mind.load_state_dict({name: tensors[name] for name in self.mind.state_dict()})
        moments: dict[str, dict[int, dict[str, Tensor]]] = {part: {} for part in self._optimizers}
        for name in wanted:
            if name.startswith("adam."):
                _, part, index, moment = name.split(".")
                moments[part].setdefault(int(index), {})[moment] = tensors[name].clone()
        for part, optimizer in self._optimizers.items():
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments[part]})
        self.skipped, self._bad = (int(count) for count in tensors["skipped"].tolist())

    def _shapes(self, given: Collection[str]) -> dict[str, torch.Size]:
        """Of everything in a state; moments are all there or, of a part that had not learned yet, none is."""
        shapes = {"skipped": torch.Size([2])} | {name: x.shape for name, x in self.mind.state_dict().items()}
        for part, optimizer in self._optimizers.items():
            if not any(name.startswith(f"adam.{part}.") for name in given):
                continue
            for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
                shapes[f"adam.{part}.{index}.step"] = torch.Size()
                shapes |= {f"adam.{part}.{index}.{moment}": parameter.shape for moment in ("exp_avg", "exp_avg_sq")}
        return shapes

    def _gradients(self, name: str, loss: Tensor) -> Tensor:
        """Put the clipped gradient of ``loss`` into the parameters of one part, and nobody else's; returns its norm."""
        parameters = self._optimizers[name].param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return nn.utils.clip_grad_norm_(parameters, self.settings.clip)

    def _skip(self, step: int) -> None:
        self.skipped += 1
        self._bad += 1
        if self._bad >= self.settings.patience:
            raise CadenzaError(
                f"update {step}: the loss was not finite {self._bad} times in a row; learning stops here"
            )


def _adam(module: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate, fused=True)


def _floats(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """As numbers, waiting for the device once."""
    if not scalars:  # nobody learns at this update: bc has no critics, and the actor waits
        return {}
    values = torch.stack([value.detach().float() for value in scalars.values()]).tolist()
    return dict(zip(scalars, values, strict=True))


def _foreign(what: str) -> MisfitError:
    return MisfitError(f"state of another learner: {what}")
