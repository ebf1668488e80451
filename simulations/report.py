"""The result as a table that a person can read."""

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from privacy.plain import plain
from server.refusals import refusal_lines

METHODS = (
    "popularity",
    "prior",
    "prior_local",
    "local_only",
    "federated",
    "federated_private",
    "adopted",
    "centralised",
)
_TITLES = {
    "popularity": "popularity",
    "prior": "prior, no training",
    "prior_local": "prior + local layer",
    "local_only": "local only, trained",
    "federated": "federated, no privacy",
    "federated_private": "federated, private",
    "adopted": "adopted + local layer",
    "centralised": "centralised (research)",
}


def result_view(result: dict[str, Any]) -> Group:
    """Return tables of quality and of privacy, and the sentences that go with them."""
    parts: list[Any] = [_quality(result)]
    if any(p["privacy"] for p in result["platforms"].values()):
        parts.append(_privacy(result))
    notes = [
        "NDCG@10 / Recall@10 over the whole catalogue, with the 95 % bootstrap interval of NDCG@10. Members rank "
        "with the local layer and the blend that their own validation shoppers chose; the newcomer has trained "
        "nothing and, but for the two lines that say local layer, chosen nothing (zero-shot)."
    ]
    notes += [f"Not private: {reason}." for reason in result["taints"]]
    notes += [line.strip() + "." for line in refusal_lines(result.get("refused", []))]
    parts.append(Text("\n".join(plain(note) for note in notes), style="dim"))
    return Group(*parts)


def _quality(result: dict[str, Any]) -> Table:
    table = Table(title=_text(f"{result['name']}, seed {result['seed']}"), title_justify="left")
    table.add_column("platform")
    table.add_column("method")
    for column in ("NDCG@10", "95 %", "Recall@10", "vs prior", "blend"):
        table.add_column(column, justify="right")
    for name, platform in result["platforms"].items():
        floor = platform["methods"]["prior"]["ndcg@10"]
        label = f"{name} ({platform['role']})"
        for method in METHODS:
            values = platform["methods"].get(method)
            if values is None:
                continue
            low, high = values["intervals"]["ndcg@10"]
            blend = values.get("local_layer", {}).get("blend")
            table.add_row(
                _text(label),
                _TITLES[method],
                f"{values['ndcg@10']:.4f}",
                f"{low:.3f}–{high:.3f}",
                f"{values['recall@10']:.4f}",
                "" if method == "prior" or not floor else f"{values['ndcg@10'] / floor - 1:+.1%}",
                "" if blend is None or method == "prior" else f"{blend:g}",
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
        "steps",
        "sample rate",
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
                str(spent["steps"]),
                f"{spent['sample_rate']:g}",
            )
    return table


def _text(name: str) -> Text:
    """A name as it is: a table would read markup in it."""
    return Text(plain(name))


def show(result: dict[str, Any], console: Console) -> None:
    """Print the result's tables."""
    console.print(result_view(result))
