"""Write what other libraries say about random cases, each in an environment of its own; numpy is all they share.

    python -m venv rectools && rectools/bin/pip install rectools==0.19.0
    rectools/bin/python tests/shared_model/metrics/make_reference.py rectools
    python -m venv lenskit && lenskit/bin/pip install lenskit==2025.8.1
    lenskit/bin/python tests/shared_model/metrics/make_reference.py lenskit

Each writes reference_NAME.json beside this file: the versions, the cases, and the values per shopper (null where the
library gives a shopper none). RecTools 0.19 needs numpy 1.26 and pandas 2, which fedcart does not run with.
"""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import numpy as np

CUTOFFS = (1, 3, 5, 10, 20)
SHAPES = (  # shoppers, items, longest list, most relevant items, features
    (12, 30, 10, 1, 4),
    (12, 30, 10, 6, 4),
    (10, 8, 8, 8, 3),
    (6, 200, 3, 2, 5),
    (15, 25, 12, 15, 2),
)


def padded(rows, width):
    return [list(map(int, row)) + [-1] * (width - len(row)) for row in rows]


def make_case(rng, shoppers, items, longest, most, width):
    """Lists and relevant items of random lengths, some empty; histories in which some items never occur."""
    popularity = rng.random(items) ** 3
    popularity /= popularity.sum()
    lists = [rng.permutation(items)[: rng.integers(0, longest + 1)] for _ in range(shoppers)]
    lists[0] = rng.permutation(items)[:longest]
    relevant = [rng.permutation(items)[: rng.integers(0, most + 1)] for _ in range(shoppers)]
    for row, items_of in enumerate(relevant):  # without this, large catalogues would have no hits
        if len(items_of) and len(lists[row]) and rng.random() < 0.7:
            hit = rng.choice(lists[row])
            relevant[row] = np.unique(np.append(items_of[1:], hit))
    relevant[0] = lists[0][:1] if most == 1 else lists[0][: most // 2 + 1]
    histories = [
        np.unique(rng.choice(items, size=int(rng.integers(1, 9)), p=popularity)) for _ in range(shoppers)
    ]
    return {
        "items": items,
        "lists": padded(lists, longest),
        "relevant": padded(relevant, most),
        "histories": padded(histories, 9),
        "features": rng.normal(size=(items, width)).round(3).tolist(),
    }


def make_ratings(rng, shoppers, most):
    actual = [rng.integers(1, 6, size=int(rng.integers(1, most + 1))).tolist() for _ in range(shoppers)]
    return {
        "actual": actual,
        "predicted": [(rng.normal(3, 1.5, size=len(a))).round(3).tolist() for a in actual],
    }


def by_rectools(case):
    import pandas as pd
    from rectools import metrics
    from rectools.metrics.distances import PairwiseDistanceCalculator

    def frame(rows, *, rank=False):
        found = [(u, i, n + 1) for u, row in enumerate(rows) for n, i in enumerate(row) if i >= 0]
        return pd.DataFrame(found, columns=["user_id", "item_id", "rank"])[
            ["user_id", "item_id"] + ["rank"] * rank
        ]

    class Cosine(PairwiseDistanceCalculator):
        def _get_distances_for_item_pairs(self, items_0, items_1):
            features = np.asarray(case["features"])
            unit = features / np.linalg.norm(features, axis=1, keepdims=True)
            return 1 - (unit[items_0.astype(int)] * unit[items_1.astype(int)]).sum(1)

    lists, relevant, before = (frame(case[n], rank=n == "lists") for n in ("lists", "relevant", "histories"))
    catalogue = list(range(case["items"]))
    shoppers = range(len(case["lists"]))

    def values(series):
        return [float(series[u]) if u in series.index else None for u in shoppers]

    result = {}
    for k in CUTOFFS:
        accuracy = {
            "recall": metrics.Recall(k),
            "precision": metrics.Precision(k),
            "f1": metrics.F1Beta(k),
            "ndcg": metrics.NDCG(k, divide_by_achievable=True),
            "mrr": metrics.MRR(k),
            "map": metrics.MAP(k),
        }
        result |= {f"{n}@{k}": values(m.calc_per_user(lists, relevant)) for n, m in accuracy.items()}
        result |= {
            f"novelty@{k}": values(metrics.MeanInvUserFreq(k).calc_per_user(lists, before)),
            f"popularity@{k}": values(metrics.AvgRecPopularity(k).calc_per_user(lists, before)),
            f"diversity@{k}": values(metrics.IntraListDiversity(k, Cosine()).calc_per_user(lists)),
            f"serendipity@{k}": values(
                metrics.Serendipity(k).calc_per_user(lists, relevant, before, catalogue)
            ),
            f"coverage@{k}": metrics.CatalogCoverage(k, normalize=True).calc(lists, catalogue),
        }
    return result


def by_lenskit(case):
    import lenskit.data  # noqa: F401  (lenskit.stats alone imports itself)
    from lenskit.stats import gini

    lists = np.asarray(case["lists"])
    return {
        f"gini@{k}": float(gini(np.bincount(lists[:, :k][lists[:, :k] >= 0], minlength=case["items"])))
        for k in CUTOFFS
    }


def errors_by_lenskit(ratings):
    import pandas as pd
    from lenskit.data import ItemList
    from lenskit.metrics import RMSE

    def one(predicted, actual):
        ids = list(range(len(actual)))
        ours = ItemList.from_df(pd.DataFrame({"item_id": ids, "score": predicted}))
        theirs = ItemList.from_df(pd.DataFrame({"item_id": ids, "rating": actual}))
        return float(RMSE().measure_list(ours, theirs))

    return [one(p, a) for p, a in zip(ratings["predicted"], ratings["actual"], strict=True)]


def main():
    library = sys.argv[1]
    rng = np.random.default_rng(19)
    cases = [make_case(rng, *shape) for shape in SHAPES]
    names = {"rectools": ("rectools", "numpy", "pandas"), "lenskit": ("lenskit", "numpy", "pandas")}[library]
    versions = {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}
    reference = {"versions": versions}
    if library == "rectools":
        reference["cases"] = [case | {"values": by_rectools(case)} for case in cases]
    else:
        reference["cases"] = [
            {"items": c["items"], "lists": c["lists"], "values": by_lenskit(c)} for c in cases
        ]
        ratings = make_ratings(rng, 12, 9)
        reference["ratings"] = ratings | {"rmse": errors_by_lenskit(ratings)}
    target = Path(__file__).with_name(f"reference_{library}.json")
    text = json.dumps(reference, indent=1)
    target.write_text(shorter(text) + "\n", encoding="utf-8")


def shorter(text):
    """Put lists of plain numbers on one line."""
    import re

    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)


if __name__ == "__main__":
    main()
