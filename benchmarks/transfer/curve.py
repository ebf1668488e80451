"""The privacy-utility curve: NDCG@10 of the shared model over ε, beside the prior and the pooled model."""

from pathlib import Path
from typing import Any

from benchmarks.transfer.platforms import label_of

_LINES = {
    "prior": ("#777777", ":"),
    "centralised": ("#b35900", "-."),
}


def draw(report: dict[str, Any], target: Path) -> str | None:
    """Write the curve as SVG and return the file's name; None without matplotlib or without a private cell."""
    panels = {name: _points(report, name) for name in report["platforms"]}
    panels = {name: points for name, points in panels.items() if any(p[0] is not None for p in points)}
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not panels:
        return None
    with mpl.rc_context({"svg.hashsalt": "fedcart", "font.size": 9}):
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, points) in zip(axes, panels.items(), strict=False):
            _panel(axis, report, name, points)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
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
