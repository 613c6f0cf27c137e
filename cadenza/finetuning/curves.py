"""The picture of the bench: success and interventions against robot steps, with what the critics and the spread say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cadenza.finetuning.series import TUNED_AT_LEAST, WARM_AT_MOST, Run
from cadenza.finetuning.trial import Plan, Point, covered
from cadenza.picture import FAINT, HUES, INK, clean, house_style
from learning.sac.settings import Objective
from spec.arrays import Float

_HUES = {
    Objective.CHUNK: HUES[0],
    Objective.SEED: HUES[1],
    Objective.BC: HUES[2],
    Objective.SINGLE: HUES[3],
}
_NAMES = {
    Objective.CHUNK: "chunk",
    Objective.SEED: "seed",
    Objective.BC: "cloning only",
    Objective.SINGLE: "single",
}
_GRID = 60


def draw_curves(runs: Sequence[Run], plan: Plan) -> Figure:
    """Mean over seeds as a line, lowest to highest as a band."""
    with house_style():
        figure = Figure(figsize=(12, 7.4), layout="constrained")
        figure.suptitle(
            "Fine-tuning on the virtual arm: one warm-up and one person for all, compared at equal robot steps",
            fontsize=12,
            fontweight="bold",
        )
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.35, 1.0])[:, 0]
        success = above.subplots(1, 1)
        _success(success, runs, plan)
        helped, value, spread = below.subplots(1, 3)
        _lines(helped, runs, lambda _, point: point.interventions, "Episodes in which the person stepped in")
        helped.set_ylim(0, 1)
        _lines(value, runs, lambda _, point: point.learned.get("q", np.nan), "Q of what was done")
        _lines(spread, runs, _entropy, "Entropy of one action number [nat]")
        for axes in (helped, value, spread):
            axes.set_xlabel("robot steps")
    return figure


def _entropy(run: Run, point: Point) -> float:
    """Of one action number: the methods spread over different numbers of them."""
    return point.learned.get("entropy", np.nan) / covered(run.objective)


def _success(axes: Axes, runs: Sequence[Run], plan: Plan) -> None:
    _lines(
        axes, runs, lambda _, point: point.success, f"Success within {plan.limit_s:g} s, nobody helping", labels=True
    )
    for level, text in ((TUNED_AT_LEAST, "wanted after"), (WARM_AT_MOST, "at most before")):
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.5)
        axes.text(0.005, level + 0.01, text, ha="left", fontsize=7.5, color=FAINT, transform=axes.get_yaxis_transform())
    axes.set(ylim=(0, 1.02), xlabel="robot steps (a person's included)", ylabel="success rate")
    axes.legend(loc="upper left", frameon=False, ncols=len(_HUES), bbox_to_anchor=(0.0, 0.93))


def _lines(
    axes: Axes, runs: Sequence[Run], quantity: Callable[[Run, Point], float], title: str, *, labels: bool = False
) -> None:
    for objective, hue in _HUES.items():
        tried = (_known(run, quantity) for run in runs if run.objective is objective)
        curves = [curve for curve in tried if len(curve)]
        if not curves:
            continue
        steps = np.linspace(0, min(run.points[-1].robot_steps for run in runs if run.objective is objective), _GRID)
        values = np.stack([np.interp(steps, curve[:, 0], curve[:, 1], left=np.nan) for curve in curves])
        name = f"{_NAMES[objective]} ({len(curves)} seed{'s' if len(curves) != 1 else ''})" if labels else None
        axes.plot(steps, values.mean(0), color=hue, linewidth=2.0, label=name)
        axes.fill_between(steps, values.min(0), values.max(0), color=hue, alpha=0.13, linewidth=0)
    axes.set_title(title, loc="left")
    axes.set_xlim(left=0)
    clean(axes)


def _known(run: Run, quantity: Callable[[Run, Point], float]) -> Float:
    """Robot steps and the quantity where there is one, shape (points, 2)."""
    pairs = [(float(point.robot_steps), quantity(run, point)) for point in run.points]
    return np.array([pair for pair in pairs if np.isfinite(pair[1])], dtype=np.float64)
