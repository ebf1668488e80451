"""`audit explain`: a page that a lawyer can read, as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from privacy.explain import FALSE_POSITIVE_RATES, PRIORS, Meaning


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, points, and perhaps a table whose first row is its head."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = field(default=())


def percent(share: float) -> str:
    """A share in per cent with enough digits near 0 and 1."""
    value = 100.0 * share
    if value > 99.0 and share < 1.0:
        return f"{min(value, 99.9999):.4f}".rstrip("0").rstrip(".") + " %"
    return f"{value:.3g} %"


UNIT = (
    "Protected is one shopper of one platform, with all of their events: not one purchase, but everything the "
    "platform recorded of them and used for shared training."
)
NEIGHBOURS = (
    "The promise compares two worlds: one in which the shopper's data were used, and one in which the shopper was "
    "never there and all else is the same. It limits how far anyone can tell from what is sent out which of the two "
    "worlds is real, and so what anyone can learn that only this shopper's data could show. The limit is a number, ε; "
    "what it comes to is below."
)
TRUST = (
    "The platform itself is trusted with its own shoppers' data. The server, the other platforms and everybody "
    "who gets the model are not: the promise holds whatever they do with what was sent, with whatever else they "
    "know, now and later, together or alone."
)
NOT_COVERED = (
    "The platform's local layer (item popularity, the platform's own embeddings and blend weights) is trained "
    "without noise. It stays with the platform and is outside this promise.",
    "Recommendation lists served to the platform's own users come partly from the local layer and are not noised.",
    "Timing: when a platform answers, how long it takes and whether it answers can be observed.",
    "The declared population size and δ are public statements of the platform, not measurements, and are sent as "
    "they are. Item catalogues are public too.",
    "A person with several accounts, or on several platforms, counts as several shoppers, and a household acts as "
    "a group: its ε is larger (`fedcart audit plan` shows groups of 2 to 5).",
    "Facts about shoppers in general. If shared training learns that people who buy tea buy honey, this can be "
    "applied to a shopper whose data were never used. This is what the model is for.",
    "What the platform does with its raw data apart from this training.",
    "A ledger records what the platform's program did. `fedcart audit verify` shows that the record is whole and "
    "its sums are right; that the program was honest takes an inspection of the program, or an attack on it.",
    "Runs with repeatable noise (simulations) are not private, whatever their ε; their model cards say so.",
)


def sections(meanings: Sequence[Meaning], source: str) -> list[Section]:
    """The page, for one or several ε.

    Args:
        meanings: what each ε means, in other words.
        source: where the numbers come from, a sentence.
    """
    delta = meanings[0].delta
    return [
        Section("Who is protected", (UNIT, NEIGHBOURS)),
        Section("From whom", (TRUST,)),
        Section(
            "How much",
            (
                source,
                "ε (epsilon) measures how much all releases together can reveal of one shopper: 0 is nothing, and "
                "less is better. It does not fade with time, and further training adds to it up to the cap.",
            ),
            table=(
                ("", "ε", "δ", "odds change at most by (e^ε)"),
                *((m.of, f"{m.epsilon:.3f}", f"{m.delta:g}", f"× {m.factor:.4g}") for m in meanings),
            ),
        ),
        Section(
            "What it means for one shopper: belief",
            (
                "Suppose that somebody already believes, with the certainty in the first row, that a shopper's data were "
                "used (or any other claim about this shopper's data against their absence). After seeing everything that "
                "was sent out, their belief lies in this range, apart from the rare exceptions below:",
            ),
            table=(
                ("", *(f"from {percent(p)}" for p in PRIORS)),
                *(
                    (m.of, *(f"{percent(b.lowest)} to {percent(b.highest)}" for b in m.beliefs))
                    for m in meanings
                ),
            ),
        ),
        Section(
            "What it means for one shopper: guessing",
            (
                "Suppose that somebody names shoppers whose data they think were used, and may be wrong about a "
                "given share of those whose data were not. Whatever their method, of the shoppers whose data were "
                "used they find at most this share. Blind guessing finds as many as it is wrong about.",
            ),
            table=(
                ("", *(f"wrong about {percent(rate)}" for rate in FALSE_POSITIVE_RATES)),
                *((m.of, *(percent(g.true_positive_rate) for g in m.guesses)) for m in meanings),
            ),
        ),
        Section(
            "The rare exceptions (δ)",
            (
                f"δ (delta) is {delta:g}, 1 in {1 / delta:,.0f}. With a probability of at most twice δ a shopper is "
                "unlucky and the odds change by more than twice e^ε. The guessing table contains δ already.",
                *(
                    f"{m.of}: the odds change by more than e^ε with probability at most {m.exceeded:.2g}."
                    for m in meanings
                    if m.exceeded is not None and m.epsilon > 0
                ),
            ),
        ),
        Section("What is not covered", points=NOT_COVERED),
    ]


def to_markdown(title: str, page: Sequence[Section]) -> str:
    """The page as Markdown."""
    lines = [f"# {title}", ""]
    for section in page:
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        lines += [f"- {point}" for point in section.points]
        if section.table:
            head, *rest = [[cell.replace("|", "\\|") for cell in row] for row in section.table]
            lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
            lines += [f"| {' | '.join(row)} |" for row in rest]
        if section.points or section.table:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def to_text(title: str, page: Sequence[Section], width: int = 100) -> str:
    """The page as plain text."""
    import textwrap

    lines = [title, "=" * len(title), ""]
    for section in page:
        lines += [section.title, "-" * len(section.title)]
        for paragraph in section.paragraphs:
            lines += [*textwrap.wrap(paragraph, width), ""]
        for point in section.points:
            lines += textwrap.wrap(point, width, initial_indent="- ", subsequent_indent="  ")
        if section.table:
            widths = [max(len(row[i]) for row in section.table) for i in range(len(section.table[0]))]
            for row in section.table:
                lines.append(
                    "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
                )
        if section.points or section.table:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"
