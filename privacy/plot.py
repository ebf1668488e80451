"""A picture of ε over the rounds of every run; needs matplotlib, the optional extra ``plots``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privacy.errors import PlanError


def plot_budgets(budgets: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw each population's ε, its cap and its refusals over what was reserved.

    Args:
        budgets: what `audit budget --format json` prints for each population.
        file: where to write; the suffix chooses the format (png, svg, pdf).

    Raises:
        PlanError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlanError("a plot needs matplotlib: install it with pip install 'fedcart[plots]'") from None
    figure = Figure(figsize=(8.0, 0.6 + 2.6 * len(budgets)), layout="constrained")
    rows = figure.subplots(len(budgets), 1, squeeze=False)
    for axes, budget in zip(rows[:, 0], budgets, strict=True):
        _draw(axes, budget)
    rows[-1, 0].set_xlabel("releases that were reserved: the rounds of every run, in order")
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise PlanError(f"plot {file} cannot be written: {error}: give a .png, .svg or .pdf file") from None


def _draw(axes: Any, budget: Mapping[str, Any]) -> None:
    history = budget["history"]
    at = [moment["release"] for moment in history]
    axes.step(at, [m["epsilon"] for m in history], where="post", label="spent and reserved")
    axes.step(at, [m["cap"] for m in history], where="post", linestyle="--", color="black", label="cap")
    refused = [moment for moment in history if moment["kind"] == "refuse"]
    if refused:
        axes.plot(
            [m["release"] for m in refused],
            [m["cap"] for m in refused],
            "x",
            color="tab:red",
            label="refused after it",
        )
    axes.set_ylim(bottom=0)
    # A name may hold "_", but never mathematics.
    axes.set_title(f"{budget['population']} (δ = {budget['delta']:g})", parse_math=False)
    axes.set_ylabel("ε")
    axes.legend(loc="best", fontsize="small")
