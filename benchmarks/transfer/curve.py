"""Two curves: NDCG@10 of the shared model over ε, beside the prior and the pooled model; and NDCG@10 of the newcomer over
the number of shoppers that it learns from, alone and with the federation's model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.transfer.platforms import label_of
from benchmarks.transfer.tables import title

_LINES = {
    "prior": ("#777777", ":"),
    "centralised": ("#b35900", "-."),
}
_ALONE = {
    "prior": ("#777777", ":"),
    "prior_local": ("#777777", "--"),
    "local_only": ("#b35900", "--"),
    "sasrec": ("#2a7d3f", "-."),
    "unisrec": ("#8a3ab0", "-."),
}
"""What a platform can do alone."""


def draw(report: dict[str, Any], target: Path) -> str | None:
    """Write the privacy-utility curve as SVG and return the file's name; None without matplotlib or a private cell."""
    panels = {name: _points(report, name) for name in report["platforms"]}
    panels = {name: points for name, points in panels.items() if any(p[0] is not None for p in points)}
    columns = min(3, len(panels))
    if not panels:
        return None

    def fill(axes: Sequence[Any]) -> None:
        for axis, (name, points) in zip(axes, panels.items(), strict=False):
            _panel(axis, report, name, points)

    return _drawn(target, -(-len(panels) // columns), columns, fill)


def draw_shots(report: dict[str, Any], target: Path) -> str | None:
    """Write the newcomer's curve over its own shoppers as SVG and return the file's name; None as `draw`."""
    newcomer = report["study"]["newcomer"]
    labels = [label_of(shots, member=False) for shots in (0, *report["study"]["shots"], None)]
    audiences = report["results"].get(newcomer, {})
    strongest = max(report["study"]["epsilons"])
    lines = _ALONE | {f"federated_private@{strongest:g}+local": ("#1f4e9c", "-")}
    if not all(audiences.get(label, {}).keys() & lines.keys() for label in labels[1:]):
        return None

    def fill(axes: Sequence[Any]) -> None:
        for method, (color, style) in lines.items():
            there = [at for at, label in enumerate(labels) if method in audiences.get(label, {})]
            values = [audiences[labels[at]][method]["ndcg@10"]["mean"] for at in there]
            axes[0].plot(there, values, color=color, linestyle=style, marker=".", label=title(method))
        joined = audiences.get(labels[0], {}).get(f"federated_private@{strongest:g}")
        if joined:
            name = title(f"federated_private@{strongest:g}")
            axes[0].plot([0], [joined["ndcg@10"]["mean"]], "D", color="#1f4e9c", label=name)
        axes[0].set_xticks(range(len(labels)), labels)
        axes[0].set_title(f"{newcomer}: what it has by its own shoppers")
        axes[0].set_ylabel("NDCG@10")

    return _drawn(target, 1, 1, fill, width=7.2, height=4.0, columns=2)


def _drawn(
    target: Path,
    rows: int,
    across: int,
    fill: Callable[[Sequence[Any]], None],
    *,
    width: float = 3.6,
    height: float = 2.7,
    columns: int = 3,
) -> str | None:
    """Write a figure of `rows` times `across` panels that `fill` draws, with one legend of so many columns."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return None
    with mpl.rc_context({"svg.hashsalt": "fedcart", "font.size": 9}):
        figure = Figure(figsize=(width * across, height * rows), layout="constrained")
        axes = figure.subplots(rows, across, squeeze=False).ravel()
        fill(list(axes))
        for axis in axes:
            axis.set_visible(axis.has_data())
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)
        figure.savefig(target, metadata={"Date": None})
    return target.name


def _label(report: dict[str, Any], name: str) -> str:
    """Return the audience of the shared model alone: a blend would hide what noise costs."""
    return label_of(0, member=name != report["study"]["newcomer"])


def _points(report: dict[str, Any], name: str) -> list[tuple[float | None, dict[str, float]]]:
    """Return (ε, NDCG@10 with interval) by ascending ε; ε None is no privacy."""
    methods = report["results"].get(name, {}).get(_label(report, name), {})
    levels: list[float | None] = [*sorted(report["study"]["epsilons"]), None]
    names = ["federated" if e is None else f"federated_private@{e:g}" for e in levels]
    return [(e, methods[n]["ndcg@10"]) for e, n in zip(levels, names, strict=True) if n in methods]


def _panel(
    axis: Any, report: dict[str, Any], name: str, points: list[tuple[float | None, dict[str, float]]]
) -> None:
    ticks = list(range(len(points)))
    middle = [p["mean"] for _, p in points]
    below = [p["mean"] - p["low"] for _, p in points]
    above = [p["high"] - p["mean"] for _, p in points]
    axis.errorbar(
        ticks, middle, yerr=[below, above], marker="o", capsize=3, color="#1f4e9c", label="federated"
    )
    label = _label(report, name)
    methods = report["results"][name][label]
    for method, (color, style) in _LINES.items():
        if method in methods:
            axis.axhline(methods[method]["ndcg@10"]["mean"], color=color, linestyle=style, label=method)
    axis.set_xticks(ticks, ["no privacy" if e is None else f"{e:g}" for e, _ in points])
    axis.set_title(f"{name}, {label}")
    axis.set_xlabel("ε per shopper")
    axis.set_ylabel("NDCG@10")
