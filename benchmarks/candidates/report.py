"""Tables of what candidates are worth."""

from collections.abc import Mapping
from typing import Any

BASES = ("prior", "own layer")


def markdown(found: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    cells = found["candidates"]
    if not cells:
        return "nothing was run\n"
    names = list(next(iter(cells.values()))["platforms"])
    lines = [
        "# Candidates for a shared layer",
        "",
        f"Trained together on {', '.join(names[:-1])} without noise, {found['size']['steps']} batches; {names[-1]} never "
        "trained. NDCG@10 of validation shoppers, everything ranked, seen items left out; z is of the paired difference. "
        "The best of four weights is shown, which flatters.",
        "",
        "## Alone",
        "",
        _row(["", *names]),
        _rule(len(names)),
        _row(["prior, no training", *(_value(_first(cells, name)["prior"]["before"]) for name in names)]),
    ]
    for candidate, cell in cells.items():
        lines.append(_row([candidate, *(_value(cell["platforms"][name]["alone"]) for name in names)]))
    for base in BASES:
        lines += ["", f"## Beside the {base}", "", _row(["", *names]), _rule(len(names))]
        for candidate, cell in cells.items():
            gains = [_best(cell["platforms"][name][base]["gains"]) for name in names]
            lines.append(_row([candidate, *gains]))
    lines += [
        "",
        f"## {names[-1]}, tuned with {found['size']['shots']} shoppers of its own, others judged",
        "",
        _row(["", "alone, from the members", "beside the prior", "alone, from nothing", "beside the prior"]),
        _rule(4),
    ]
    for candidate, cell in cells.items():
        row = [candidate]
        for start in ("from the members", "from nothing"):
            tuned = cell["tuned"][start]
            row += [_value(tuned["alone"]), _best(tuned["prior"]["gains"])]
        lines.append(_row(row))
    made = found["provenance"]
    lines += [
        "",
        f"Commit {made['commit']}, seed {found['seed']}, "
        + ", ".join(f"{name} {value}" for name, value in made["versions"].items())
        + "; data "
        + ", ".join(f"{name} `{value}`" for name, value in found["data"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _first(cells: Mapping[str, Any], platform: str) -> Mapping[str, Any]:
    first: Mapping[str, Any] = next(iter(cells.values()))["platforms"][platform]
    return first


def _best(gains: Mapping[str, tuple[float, float]]) -> str:
    weight, (gain, z) = max(gains.items(), key=lambda item: item[1][0])
    return f"{gain:+.1%} (z = {z:.1f}, weight {weight})"


def _value(ndcg: float) -> str:
    return f"{ndcg:.4f}"


def _row(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"


def _rule(columns: int) -> str:
    return "|---|" + "---:|" * columns
