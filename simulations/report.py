"""The result as a table that a person can read."""

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from privacy.plain import plain
from server.refusals import refusal_lines

METHODS = ("popularity", "prior", "own", "federated", "federated_private", "adopted")
_TITLES = {
    "popularity": "popularity",
    "prior": "prior, text alone",
    "own": "own layer",
    "federated": "with the federation, no privacy",
    "federated_private": "with the federation, private",
    "adopted": "with own shoppers and the federation",
}


def result_view(result: dict[str, Any]) -> Group:
    """Return tables of quality and of privacy, and the sentences that go with them."""
    parts: list[Any] = [_quality(result)]
    if any(p["privacy"] for p in result["platforms"].values()):
        parts.append(_privacy(result))
    notes = [
        "NDCG@10 / Recall@10 over the whole catalogue, with the 95 % bootstrap interval of NDCG@10. Members rank "
        "with the weights that their own validation shoppers chose; with the federation, the newcomer has nothing of "
        "its own but its catalogue: no shopper's past, no choice."
    ]
    notes += [f"Not private: {reason}." for reason in result["taints"]]
    notes += [line.strip() + "." for line in refusal_lines(result.get("refused", []))]
    parts.append(Text("\n".join(plain(note) for note in notes), style="dim"))
    return Group(*parts)


def _quality(result: dict[str, Any]) -> Table:
    table = Table(title=_text(f"{result['name']}, seed {result['seed']}"), title_justify="left")
    table.add_column("platform")
    table.add_column("method")
    for column in ("NDCG@10", "95 %", "Recall@10", "vs prior", "others"):
        table.add_column(column, justify="right")
    for name, platform in result["platforms"].items():
        floor = platform["methods"]["prior"]["ndcg@10"]
        label = f"{name} ({platform['role']})"
        for method in METHODS:
            values = platform["methods"].get(method)
            if values is None:
                continue
            low, high = values["intervals"]["ndcg@10"]
            others = values.get("local_layer", {}).get("others")
            table.add_row(
                _text(label),
                _TITLES[method],
                f"{values['ndcg@10']:.4f}",
                f"{low:.3f}–{high:.3f}",
                f"{values['recall@10']:.4f}",
                "" if method == "prior" or not floor else f"{values['ndcg@10'] / floor - 1:+.1%}",
                "" if not method.startswith(("federated", "adopted")) else "used" if others else "not used",
            )
            label = ""
        table.add_section()
    return table


def _privacy(result: dict[str, Any]) -> Table:
    table = Table(title="privacy, per shopper of each member", title_justify="left")
    for column in (
        "platform",
        "ε before",
        "ε after",
        "of cap",
        "left",
        "δ",
        "noise σ",
        "popularity's share",
    ):
        table.add_column(column, justify="left" if column == "platform" else "right")
    for name, platform in result["platforms"].items():
        spent = platform["privacy"]
        if spent:
            table.add_row(
                _text(name),
                f"{spent['epsilon_before']:.3f}",
                f"{spent['epsilon']:.3f}",
                f"{spent['epsilon_cap']:g}",
                f"{spent['epsilon_left']:.3f}",
                f"{spent['delta']:g}",
                f"{spent['noise_multiplier']:.3f}",
                f"{spent['share']:g}",
            )
    return table


def _text(name: str) -> Text:
    """A name as it is: a table would read markup in it."""
    return Text(plain(name))


def show(result: dict[str, Any], console: Console) -> None:
    """Print the result's tables."""
    console.print(result_view(result))
