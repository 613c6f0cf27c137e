"""Warm-up: sequence behaviour cloning of demonstrations, resumable at any step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learning.checkpoint import (
    CONFIG_FILE,
    CheckpointConfig,
    load_weights,
    read_config,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from learning.cloning.loss import CloningLoss, cloning_loss, spread_loss
from learning.cloning.windows import Demonstrations, Windows
from learning.network.actor import SequenceActor
from spec.arrays import Int
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.files import write_atomically

STATE_FILE, STATE_FACTS, METRICS_FILE = "warmup.safetensors", "warmup.json", "metrics.jsonl"
_SPREAD_WEIGHT = 0.01
"""Of the likelihood of σ beside the cloning loss; keeps the clipped gradient norm about the latter."""
_BAD_IN_A_ROW = 20


@dataclass(frozen=True, slots=True)
class WarmupSettings:
    """How to train."""

    steps: int = 3000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Largest gradient norm."""
    loss: CloningLoss = CloningLoss.MSE
    delay_s: float = 0.08
    """Pictures in training are up to this much older than the joints [s], as on a robot whose cameras lag."""
    joint_noise: float = 0.005
    """Noise on joint angles seen in training [rad]."""
    feedback_noise: float = 0.05
    """Noise on the actions fed back in training, normalised: the decoder must not trust its own past blindly."""
    brightness: float = 0.1
    """Pictures in training are up to this much brighter or darker."""
    held_out: float = 0.05
    """Share of episodes kept for validation."""
    seed: int = 0
    save_every: int = 250


class Warmup:
    """One training run. ``folder`` holds the checkpoint, the state to resume from, and the metrics.

    With the same data, settings and number of threads, a run that was interrupted and resumed ends with the same
    weights as one that was not.
    """

    def __init__(self, actor: SequenceActor, data: Demonstrations, settings: WarmupSettings, folder: Path) -> None:
        self.actor, self.data, self.settings, self.folder = actor.train(), data, settings, folder
        self.step = 0
        self.skipped = 0
        self._bad = 0
        self._optimizer = torch.optim.AdamW(
            actor.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        held = max(1, round(settings.held_out * (data.episode[-1] + 1))) if data.episode[-1] else 0
        self._train: Int = np.flatnonzero(data.episode >= held)
        self._held: Int = np.flatnonzero(data.episode < held)

    def run(self, progress: Callable[[dict[str, float]], None]) -> None:
        """Train up to the last step, saving as it goes. ``progress`` gets the metrics of each step."""
        started = time.monotonic()
        while self.step < self.settings.steps:
            metrics = self._update()
            self.step += 1
            if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                metrics |= self.validate()
                self.save()
            metrics |= {"step": self.step, "elapsed_s": time.monotonic() - started}
            self._log(metrics)
            progress(metrics)

    def _update(self) -> dict[str, float]:
        settings = self.settings
        # One generator per step: what is drawn depends on the step alone, so resuming needs no generator state.
        rng = np.random.default_rng((settings.seed, self.step))
        torch.manual_seed(int(rng.integers(2**62)))
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        rows = rng.choice(self._train, settings.batch)
        window = self.data.windows(rows, rng.uniform(0.0, settings.delay_s, settings.batch))
        loss, spread = self._losses(window)
        total = loss + _SPREAD_WEIGHT * spread
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.actor.parameters(), settings.clip)
        # A finite loss may still have a gradient that is none; clipping by it would make every weight NaN.
        if not bool(total.isfinite() & norm.isfinite()):
            self._skip()
            return {"loss": math.nan}
        self._bad = 0
        self._optimizer.step()
        return {"loss": loss.item(), "spread_loss": spread.item(), "gradient": norm.item()}

    def _skip(self) -> None:
        self.skipped += 1
        self._bad += 1
        if self._bad >= _BAD_IN_A_ROW:
            raise CadenzaError(f"{self.folder}: step {self.step}: the loss was not finite {self._bad} times in a row")

    def _losses(self, window: Windows) -> tuple[Tensor, Tensor]:
        settings, actor = self.settings, self.actor
        state = window.state + settings.joint_noise * torch.randn_like(window.state)
        light = 1.0 + settings.brightness * (2.0 * torch.rand(len(window), 1, 1, 1, 1) - 1.0)
        images = {name: (image * light).clamp(0.0, 255.0) for name, image in window.images.items()}
        expert = actor.normalization.action(window.actions)
        fed = (expert + settings.feedback_noise * torch.randn_like(expert)).clamp(-1.0, 1.0)
        fed = torch.where(window.action_mask[..., None], fed, 0.0)
        hidden = actor.hidden(actor.remember(actor.encode_history(state, images), window.mask), fed)
        # Only the head learns σ: its likelihood is so much steeper than the cloning loss that it would take over the
        # trunk, and the policy would learn how uncertain it is instead of where the object is.
        return (
            cloning_loss(settings.loss, actor.heads(hidden), expert, window.action_mask),
            spread_loss(actor.heads(hidden.detach()), expert, window.action_mask),
        )

    def _learning_rate(self) -> float:
        """Linear warm-up over 100 steps, then half a cosine to zero."""
        settings = self.settings
        rise = min(1.0, (self.step + 1) / 100.0)
        return settings.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * self.step / settings.steps))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Error of the deterministic chunk, decoded as on the robot, on episodes kept out of training [rad]."""
        if not len(self._held):
            return {}
        self.actor.eval()
        chosen = self._held[:: max(1, len(self._held) // 512)]
        window = self.data.windows(chosen, np.full(len(chosen), 0.5 * self.settings.delay_s))
        error = (self.actor(window.state, window.images, window.mask) - window.actions).abs()
        error = torch.where(window.action_mask[..., None], error, torch.nan)
        self.actor.train()
        return {"held_out_error": error.nanmean().item(), "held_out_first_error": error[:, 0].nanmean().item()}

    def save(self) -> None:
        """Write checkpoint, optimiser state and counters, each file whole or not at all.

        The counters go last: whatever is interrupted, they never promise more than is there.
        """
        state = self._optimizer.state_dict()["state"]
        tensors = {f"actor.{name}": tensor for name, tensor in self.actor.state_dict().items()}
        tensors |= {f"adam.{index}.{name}": value for index, part in state.items() for name, value in part.items()}
        tensors["step"] = torch.tensor(self.step)
        write_tensors(self.folder / STATE_FILE, tensors)
        training = {**self._facts(), "step": self.step, "episodes": int(self.data.episode[-1]) + 1}
        config = CheckpointConfig(actor=self.actor.config, calibration=self.data.calibration, training=training)
        save_checkpoint(self.folder, self.actor, config)
        facts = {"skipped": self.skipped, "settings": self._facts()}
        write_atomically(self.folder / STATE_FACTS, json.dumps(facts, indent=2).encode())

    def resume(self) -> bool:
        """Take up the state in ``folder``; False where there is none.

        Raises:
            MisfitError: it was trained with other settings or another actor.
            SpecError: the state there is damaged or foreign, or there is a checkpoint of something else.
        """
        path = self.folder / STATE_FACTS
        if not path.exists():
            # A first save that was cut off left the state; whatever else has a config is not ours to replace.
            if (self.folder / CONFIG_FILE).exists() and not (self.folder / STATE_FILE).exists():
                found = str(self.folder / CONFIG_FILE)
                raise SpecError(found, "not of a warm-up", "not replaced; choose another --out")
            return False
        try:
            facts = json.loads(path.read_bytes())
            settings, skipped = facts["settings"], int(facts["skipped"])
        except (ValueError, KeyError, TypeError):
            raise SpecError(str(path), "...", "not the state of a run; remove it, or choose another --out") from None
        if settings != self._facts() or read_config(self.folder).actor != self.actor.config:
            raise MisfitError(
                f"{self.folder}: holds a run with other settings; give them again, or choose another --out"
            )
        where = self.folder / STATE_FILE
        tensors = read_tensors(where)
        own = {name.removeprefix("actor."): t for name, t in tensors.items() if name.startswith("actor.")}
        load_weights(self.actor, own, where)
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            for name, tensor in tensors.items():
                if name.startswith("adam."):
                    _, index, moment = name.split(".")
                    moments.setdefault(int(index), {})[moment] = tensor
            self.step, self.skipped = int(tensors["step"].item()), skipped
        except (ValueError, KeyError, RuntimeError):
            raise SpecError(str(where), "...", "not the state of a run; remove it, or choose another --out") from None
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        _drop_after(self.folder / METRICS_FILE, self.step)
        return True

    def _facts(self) -> dict[str, Any]:
        return {**asdict(self.settings), "samples": len(self.data), "labels": str(self.data.labels)}

    def _log(self, metrics: dict[str, float]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: v if math.isfinite(v) else None for k, v in metrics.items()}) + "\n")


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Metrics of every step so far; a line that a crash cut off is left out."""
    try:
        lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _drop_after(path: Path, step: int) -> None:
    """Forget metrics of steps that will be taken again."""
    kept = [entry for entry in read_metrics(path.parent) if entry["step"] <= step]
    write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())
