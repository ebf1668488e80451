"""The report as markdown."""

from collections.abc import Sequence
from typing import Any

_TITLES = {
    "prior": "prior: text alone",
    "own": "prior and own layer",
    "sasrec": "SASRec (RecTools), tuned",
    "unisrec": "UniSRec (RecTools), tuned",
}


def title(method: str) -> str:
    """Return a method's name for people.

    >>> title("own"), title("popularity")
    ('prior and own layer', 'popularity')
    """
    return _TITLES.get(method, method)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a markdown table's lines; all columns but the first are numbers.

    >>> table(["a", "b"], [["x", "1"]])
    ['| a | b |', '|---|---:|', '| x | 1 |']
    """
    rule = "|---|" + "---:|" * (len(head) - 1)
    return ["| " + " | ".join(head) + " |", rule] + ["| " + " | ".join(row) + " |" for row in rows]


def markdown(report: dict[str, Any]) -> str:
    """Return the report as markdown."""
    study, source = report["study"], report["provenance"]
    done, total = report["cells"]["done"], report["cells"]["total"]
    lines = [
        f"# Transfer benchmark: {study['name']}",
        "",
        f"{done} of {total} cells are done. Full ranking of the whole catalogue, "
        "leave-one-out, seen items filtered; tuned on validation shoppers only. Means over test shoppers and seeds "
        f"({', '.join(map(str, study['seeds']))}) with 95 % bootstrap intervals over shoppers; ± is how far the "
        "seeds' means lie apart.",
        "",
    ]
    if report["not_run"]:
        left_out = [
            f"- {title(job['method'])}, seed {job['seed']}: {job['reason']}" for job in report["not_run"]
        ]
        lines += ["**Not run:**", "", *left_out, ""]
    lines += _platforms(report)
    for platform, audiences in report["results"].items():
        for label, methods in audiences.items():
            lines += _results(report, platform, label, methods)
    lines += _learning(report) + _comparisons(report)
    lines += [
        "## Where the numbers come from",
        "",
        f"- commit {source['commit']}, written {source['written']}",
    ]
    lines += [f"- cells of commit {', '.join(source['cell_commits']) or '(none)'}"]
    lines += [f"- versions: {', '.join(f'{n} {v}' for n, v in source['versions'].items())}"]
    lines += [f"- machine: {', '.join(f'{n} {v}' for n, v in source['machine'].items())}", ""]
    return "\n".join(lines)


def _platforms(report: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{n}, {p['role']}",
            f"{p['shoppers']:,}",
            f"{p['test_shoppers']:,}",
            f"{p['judged']:,}",
            f"{p['items']:,}",
            f"`{p['fingerprint']}`",
        ]
        for n, p in report["platforms"].items()
    ]
    head = ["platform", "shoppers", "test shoppers", "judged", "items", "fingerprint of events:catalogue"]
    return ["## Platforms", "", *table(head, rows), ""]


def _results(report: dict[str, Any], platform: str, label: str, methods: dict[str, Any]) -> list[str]:
    floor = methods.get("prior", {}).get("ndcg@10", {}).get("mean")
    rows = []
    for method, entry in methods.items():
        ndcg, raw = entry["ndcg@10"], entry.get("unfiltered")
        spread = f" ±{(max(ndcg['seeds']) - min(ndcg['seeds'])) / 2:.4f}" if entry["seeds"] > 1 else ""
        rows.append(
            [
                title(method),
                f"{ndcg['mean']:.4f}{spread}",
                f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
                f"{entry['recall@10']['mean']:.4f}",
                "" if not floor or method == "prior" else f"{ndcg['mean'] / floor - 1:+.1%}",
                f"{entry['recall@50']['mean']:.4f}",
                f"{entry['coverage@10']:.2f}",
                "" if raw is None else f"{raw['recall@10']:.4f} / {raw['ndcg@10']:.4f}",
            ]
        )
    head = ["method", "NDCG@10", "95 %", "Recall@10", "vs prior", "Recall@50", "coverage", "unfiltered R / N"]
    lines = [f"## {platform}, {label}", "", *table(head, rows), ""]
    published = [p for p in report["study"]["published"] if p["platform"] == platform]
    if published and label == "all":
        rows = [[p["method"], f"{p['recall']:.4f}", f"{p['ndcg']:.4f}", p["source"]] for p in published]
        lines += ["Published on this split, nothing filtered:", ""]
        lines += [*table(["method", "Recall@10", "NDCG@10", "source"], rows), ""]
    return lines


def _learning(report: dict[str, Any]) -> list[str]:
    """Return the newcomer's curve."""
    if not report["learning"]:
        return []
    picture = f"![NDCG@10 over the newcomer's own shoppers]({report['learning']})"
    return ["## Own shoppers and utility", "", picture, ""]


def _comparisons(report: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{c['platform']}, {c['shots']}: {title(c['method'])} − {title(c['against'])}",
            f"{c['gain']['mean']:+.4f}",
            f"{c['gain']['low']:+.4f} to {c['gain']['high']:+.4f}",
            "" if c["relative"] is None else f"{c['relative']:+.1%}",
            f"{c['p']:.2g}",
            f"{c['p_holm']:.2g}",
        ]
        for c in report["comparisons"]
    ]
    head = ["NDCG@10, paired by shopper", "gain", "95 %", "relative", "p (Wilcoxon)", "p (Holm)"]
    return ["## Paired comparisons", "", *table(head, rows), ""] if rows else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
