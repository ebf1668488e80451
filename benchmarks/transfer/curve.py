"""NDCG@10 of the newcomer over the number of shoppers that it learns from."""

from pathlib import Path
from typing import Any

from benchmarks.transfer.platforms import label_of
from benchmarks.transfer.tables import title

_LINES = {
    "prior": ("#777777", ":"),
    "own": ("#1f4e9c", "-"),
    "sasrec": ("#2a7d3f", "-."),
    "unisrec": ("#8a3ab0", "-."),
}


def draw(report: dict[str, Any], target: Path) -> str | None:
    """Write the curve as SVG and return the file's name; None without matplotlib or a method with all its cells."""
    newcomer = report["study"]["newcomer"]
    labels = [label_of(shots) for shots in (0, *report["study"]["shots"], None)]
    audiences = report["results"].get(newcomer, {})
    there = [set(audiences.get(label, {})) for label in labels]
    lines = {method: line for method, line in _LINES.items() if all(method in found for found in there[1:])}
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not lines:
        return None
    with mpl.rc_context({"svg.hashsalt": "fedcart", "font.size": 9}):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axis = figure.subplots()
        for method, (color, style) in lines.items():
            at = [number for number, found in enumerate(there) if method in found]
            values = [audiences[labels[number]][method]["ndcg@10"]["mean"] for number in at]
            axis.plot(at, values, color=color, linestyle=style, marker=".", label=title(method))
        axis.set_xticks(range(len(labels)), labels)
        axis.set_title(f"{newcomer}: what it has by its own shoppers")
        axis.set_ylabel("NDCG@10")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(target, metadata={"Date": None})
    return target.name
