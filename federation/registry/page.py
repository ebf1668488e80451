"""A model card for people: a few lines for a terminal, a page of Markdown beside the file."""

import html

from federation.registry.card import MemberFacts, ModelCard
from privacy.plain import plain

UNIT = (
    "One shopper of one platform with all of their events is protected; neighbours differ in one shopper added or "
    "removed. Local layers (own counts, weights) and served lists are outside the claim."
)
HEADS = (
    "A head is signed by the key of a member's ledger and fixes every entry up to it: whoever holds the ledger can "
    "recompute ε and see that nothing was taken out (fedcart audit verify LEDGER --witness). It does not hold ε "
    "itself, it does not show that the member trained as it recorded, and the card alone does not show whose key it is."
)
ORIGINS = {
    "federation": "by a federation of platforms",
    "simulation": "in a simulation, on one machine that held the data of all platforms",
}


def privacy_lines(card: ModelCard) -> list[str]:
    """What may be claimed of the model's privacy, and what each claim rests on."""
    run = card.run
    if card.private:
        lines = [f"PRIVATE          ε ≤ {run.epsilon:g} asked of the run for each member, δ = {run.delta:g}"]
    else:
        lines = ["NOT PRIVATE      do not pass it on as a private model:", *(f"  - {t}" for t in card.taints)]
    for member in card.members:
        lines.append(f"  {member.platform:<15}{_epsilons(member)}")
        lines += [f"  {'':<15}{begun}" for begun in new_ledgers(member)]
    if run.epsilon > 0:
        lines += [
            "  run: ε of the rounds in which an update came, computed by the server from the public plan",
            "  ledger: ε of all that its ledger ever released, as its own signed receipt says",
        ]
    return lines


def new_ledgers(member: MemberFacts) -> list[str]:
    """A sentence for each ledger of a member that did not continue the one before."""
    return [
        f"{member.platform} began a new ledger on {moment[:10]}: earlier spending is not in its ε"
        for moment in member.new_ledgers
    ]


def _epsilons(member: MemberFacts) -> str:
    if member.epsilon_run is None:
        return f"no privacy, {member.rounds} rounds"
    said = "says nothing" if member.epsilon_ledger is None else f"ε {member.epsilon_ledger:.3f}"
    head = "no signed head" if member.head is None else f"signed head at entry {member.head['seq']}"
    return f"run ε {member.epsilon_run:.3f} in {member.rounds} rounds; ledger {said}; {head}"


def card_lines(card: ModelCard, version: str) -> list[str]:
    """The card for a terminal."""
    run = card.run
    lines = [
        f"version          {card.number}  {version}",
        f"federation       {card.federation}, published {card.published}",
        f"run              {run.id}, {ORIGINS[run.origin]}",
        f"model            {card.products:,} products, {card.edges:,} edges, vocabulary {card.vocabulary[:16]}",
        f"made of          {_made_of(card)}",
        f"edges            {card.standing_out:.2%} stand out of the noise",
        f"encoders         {', '.join(map(str, card.model.identities))}",
        *privacy_lines(card),
    ]
    return [plain(line) for line in lines]


def markdown(card: ModelCard, version: str) -> str:
    """The card as a page; `card.json` beside it is the one that is signed."""
    run = card.run
    lines = [f"# {card.federation}, model version {card.number}", ""]
    if card.private:
        lines += [
            f"Each member's updates were asked for at ε ≤ {run.epsilon:g}, δ = {run.delta:g} a shopper.",
            "",
        ]
    else:
        lines += [
            "**Do not pass this model on as private:**",
            "",
            *[f"- {_cell(t)}" for t in card.taints],
            "",
        ]
    lines += [
        "| | |",
        "|---|---|",
        f"| version | `{version}` |",
        f"| parent | {f'`{card.parent}`' if card.parent else 'none, it is the first'} |",
        f"| published | {card.published} |",
        f"| run | {run.id}, {ORIGINS[run.origin]} |",
        f"| model | {card.products:,} products, {card.edges:,} edges |",
        f"| made of | {_made_of(card)} |",
        f"| edges that stand out of the noise | {card.standing_out:.2%} |",
        f"| plan | rows of norm 1; popularity gets {run.share:.0%} of the budget |",
        f"| encoders | {_cell(', '.join(map(str, card.model.identities)))} |",
        f"| vocabulary | `{card.vocabulary}` |",
        f"| tensors | `{card.tensors}` |",
        f"| file | `{card.file}`, {card.size:,} bytes |",
        f"| versions | {_cell(', '.join(f'{k} {v}' for k, v in run.versions.items()) or 'not recorded')} |",
        f"| signed by | `{card.signing_key}` |",
        "",
        "## Privacy",
        "",
        "| member | rounds | ε of this run | ε of its ledger | δ | noise | last signed head |",
        "|---|---|---|---|---|---|---|",
        *(_member_row(member, card) for member in card.members),
        "",
        *(line for member in card.members for begun in new_ledgers(member) for line in (f"**{begun}.**", "")),
        "*ε of this run* is computed by the server from the public plan, for the rounds in which a sum of the member "
        "came. *ε of its ledger* is what the member's last receipt says of all that was ever released about its "
        "shoppers. That number, and where the noise came from, are the member's word, signed by the key of its ledger.",
        "",
        HEADS,
        "",
        UNIT,
        "",
        "## Evaluation",
        "",
        *_evaluation(card),
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text of another party for a page: no markup of Markdown's tables, none of HTML."""
    return html.escape(plain(text, 1000), quote=False).replace("|", "&#124;")


def _made_of(card: ModelCard) -> str:
    noise = ", ".join(f"σ {sigma:.3g} on {name}" for name, sigma in card.noise.items()) or "no noise"
    runs = f" and {len(card.runs) - 1} earlier runs" if len(card.runs) > 1 else ""
    return f"sums over {card.shoppers:,} shoppers as declared{runs}; {noise}"


def _member_row(member: MemberFacts, card: ModelCard) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    head = "–"
    if member.head is not None:
        head = f"entry {member.head['seq']}, `{member.head['hash'][:16]}`, key `{member.head['public_key'][:16]}`"
    private = member.epsilon_run is not None
    return (
        f"| {member.platform} | {member.rounds} | {number(member.epsilon_run) if private else 'no privacy'} | "
        f"{number(member.epsilon_ledger)} | {f'{card.run.delta:g}' if private else '–'} | {_cell(member.noise) or '–'} | "
        f"{head} |"
    )


def _evaluation(card: ModelCard) -> list[str]:
    if card.evaluation is None:
        return [
            "None is published: a metric over shoppers may only leave a platform with noise and a charge to its "
            "ledger, or not at all. Each platform judges the model on its own validation shoppers when it adopts it."
        ]
    names = sorted({name for result in card.evaluation for name in result.metrics})
    return [
        "On test shoppers, measured without noise (see the reasons above):",
        "",
        f"| platform | role | {' | '.join(map(_cell, names))} |",
        f"|---|---|{'---|' * len(names)}",
        *(
            f"| {r.platform} | {r.role} | "
            + " | ".join(f"{r.metrics[name]:.4f}" if name in r.metrics else "–" for name in names)
            + " |"
            for r in card.evaluation
        ),
    ]
