"""What the project wants to reach, and whether a report reaches it. A target without its cells is left open."""

import math
from typing import Any

from benchmarks.transfer.platforms import label_of

SIGNIFICANT = 0.05
SMALL = "500-shot"


def check(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target as what, value, needed and met (None where cells are missing)."""
    study = report["study"]
    newcomer = study["newcomer"]
    members = [p["name"] for p in study["platform"] if p["name"] != newcomer]
    served = f"federated_private@{max(study['epsilons']):g}+local"
    zero_shot = f"federated_private@{max(study['epsilons']):g}"
    found = [entry for target in study["target"] for entry in _absolute(report, target)]
    pair = _pair(report, newcomer, "zero-shot", zero_shot, "prior")
    clear = None if pair is None else pair["gain"]["low"] > 0 and pair["p_holm"] < SIGNIFICANT
    found.append(
        {
            "what": f"{newcomer}, zero-shot: {zero_shot} clearly above the prior",
            "value": None if pair is None else pair["relative"],
            "needed": 0.0,
            "met": clear,
        }
    )
    gains = [_pair(report, member, "all", served, "local_only") for member in members]
    relative = [None if gain is None else gain["relative"] for gain in gains]
    for member, value in zip(members, relative, strict=True):
        found.append(_least(f"{member}: {served} over local_only", value, 0.0))
    found.append(_least(f"members' mean gain of {served} over local_only", _mean(relative), 0.05))
    small = _pair(report, newcomer, SMALL, served, "local_only")
    value = None if small is None else small["relative"]
    found.append(_least(f"{newcomer}, {SMALL}: {served} over local_only", value, 0.15))
    for label in ("as-is", "all"):
        for epsilon, needed in (("8", 0.97), ("2", 0.92)):
            kept = [report["retention"].get(m, {}).get(label, {}).get(epsilon) for m in members]
            found.append(_least(f"members, {label}: mean NDCG@10 kept at ε = {epsilon}", _mean(kept), needed))
        ratios = [_ratio(report, member, label, "federated", "centralised") for member in members]
        found.append(_least(f"members, {label}: mean federated over centralised", _mean(ratios), 0.98))
    return found


def _absolute(report: dict[str, Any], target: dict[str, Any]) -> list[dict[str, Any]]:
    label = label_of(target["shots"], member=target["platform"] != report["study"]["newcomer"])
    entry = _entry(report, target["platform"], label, target["method"])
    what = f"{target['platform']}, {label}: {target['method']}"
    return [
        _least(f"{what}, {metric}", None if entry is None else entry[metric]["mean"], target[key])
        for metric, key in (("recall@10", "recall"), ("ndcg@10", "ndcg"))
    ]


def _least(what: str, value: float | None, needed: float) -> dict[str, Any]:
    return {"what": what, "value": value, "needed": needed, "met": None if value is None else value >= needed}


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _entry(report: dict[str, Any], platform: str, label: str, method: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = report["results"].get(platform, {}).get(label, {}).get(method)
    return found


def _ratio(report: dict[str, Any], platform: str, label: str, method: str, against: str) -> float | None:
    pair = _pair(report, platform, label, method, against)
    return None if pair is None or pair["relative"] is None else 1 + float(pair["relative"])


def _pair(
    report: dict[str, Any], platform: str, label: str, method: str, against: str
) -> dict[str, Any] | None:
    wanted = {"platform": platform, "shots": label, "method": method, "against": against}
    return next((c for c in report["comparisons"] if wanted.items() <= c.items()), None)
