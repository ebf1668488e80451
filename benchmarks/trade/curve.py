"""The newcomer's gain over the prior: over ε, as many shoppers and ten times, one noise and own noises."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trade.report import NOT_PRIVATE, Rows
from benchmarks.trade.shops import Sold
from benchmarks.trade.study import FIRST_DAY
from benchmarks.trade.tables import MORE, Way

_LINES = {(False, 1): ("#1f4e9c", "-"), (True, 1): ("#b35900", "-"), (True, MORE): ("#b35900", ":")}


def draw(found: Rows, epsilons: Sequence[float], target: Path) -> str | None:
    """Write the curves as SVG, a panel a trade, and return the file's name; None without matplotlib or cells."""
    shown = [row for row in found if (row["sold"], row["audience"]) == (str(Sold.everything), FIRST_DAY)]
    trades = list(dict.fromkeys(row["trade"] for row in shown))
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not trades:
        return None
    columns = min(3, len(trades))
    lines = -(-len(trades) // columns)
    with mpl.rc_context({"svg.hashsalt": "fedcart", "font.size": 9}):
        figure = Figure(figsize=(3.6 * columns, 2.7 * lines + 0.5), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis, trade in zip(axes, trades, strict=False):
            _panel(axis, trade, {row["way"]: row for row in shown if row["trade"] == trade}, sorted(epsilons))
        for axis in axes:
            axis.set_visible(axis.has_data())
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
        figure.savefig(target, metadata={"Date": None})
    return target.name


def _panel(axis: Any, trade: str, of_way: dict[str, dict[str, Any]], epsilons: Sequence[float]) -> None:
    ticks = range(len(epsilons))
    for (own, more), (color, style) in _LINES.items():
        gains = [100 * of_way[Way(e, own, more).name]["gain"] for e in epsilons]
        name = ("own noises" if own else "one noise") + (f", ×{more} shoppers" if more > 1 else "")
        axis.plot(ticks, gains, color=color, linestyle=style, marker=".", label=name)
    axis.axhline(100 * of_way[NOT_PRIVATE]["gain"], color="#777777", linestyle="--", label=NOT_PRIVATE)
    axis.axhline(0, color="#cccccc", linewidth=0.8)
    axis.set_xticks(ticks, [f"{e:g}" for e in epsilons])
    axis.set_title(trade)
    axis.set_xlabel("ε per shopper")
    axis.set_ylabel("gain over the prior, %")
