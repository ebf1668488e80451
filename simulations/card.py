"""The model card: what a model is, who trained it, what it cost, and what may not be claimed."""

import json
from pathlib import Path
from typing import Any


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `model_card.json` and the same for people, `model_card.md`."""
    (folder / "model_card.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
    (folder / "model_card.md").write_text(render(card), encoding="utf-8")


def render(card: dict[str, Any]) -> str:
    """Return the card as markdown."""
    lines = [f"# Model card: {card['name']}", "", card["claim"], ""]
    if card["taints"]:
        lines += ["**Do not release this model as private:**", "", *[f"- {t}" for t in card["taints"]], ""]
    lines += [
        "| | |",
        "|---|---|",
        f"| run | {card['run']} |",
        f"| shared numbers | {card['shared_numbers']:,}: {card['products']:,} products, {card['edges']:,} edges |",
        f"| contributing shoppers, as declared | {sum(card['sizes'].values()):,} |",
        f"| noise on the sums | {_noise(card)} |",
        f"| vocabulary | `{card['vocabulary'][:16]}` |",
        f"| exchange spec | `{card['exchange_fingerprint'][:16]}` |",
        f"| model | `{card['model_fingerprint'][:16]}` |",
        f"| encoders | {', '.join(card['encoders'])} |",
        "",
        "| member | ε | δ | noise multiplier | share of popularity |",
        "|---|---|---|---|---|",
    ]
    for name, spent in card["members"].items():
        if spent is None:
            lines.append(f"| {name} | no privacy | | | |")
        else:
            lines.append(
                f"| {name} | {spent['epsilon']:.3f} | {spent['delta']:g} | {spent['noise_multiplier']:.4g} | "
                f"{spent['share']:g} |"
            )
    lines += [
        "",
        "Unit of privacy: one shopper of one platform with all of their events; neighbours differ in one "
        "shopper added or removed. Local layers (own counts, weights) and served lists are outside the claim.",
        "",
    ]
    return "\n".join(lines)


def _noise(card: dict[str, Any]) -> str:
    return (
        ", ".join(f"σ {sigma:.3g} on {name}" for name, sigma in card["noise_of_sums"].items() if sigma)
        or "none"
    )
