"""What joining brought this platform, on its own test shoppers: for its own people, and never sent.

Popularity, the platform's own layer and that layer with the others' counts rank the whole catalogue for shoppers whose
last basket nothing was chosen or counted by. The numbers are functions of all shoppers, without noise.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.evaluation import evaluate, evaluate_layers
from clients.memory import Memory
from clients.platform import Platform
from clients.recommender import LocalLayer, Popularity
from clients.site import SiteSettings
from federation.errors import FolderError
from federation.files import PRIVATE, replace
from shared_model.metrics import ndcg_at

USERS = 2000
"""At most so many test shoppers judge."""
Number = Annotated[float, Field(allow_inf_nan=False)]


class Verdict(BaseModel):
    """NDCG@10 over `shoppers` test shoppers, of version `number`; all 0 where there is none.

    error : the standard error of joined − alone, shopper by shopper. weights : β and κ that serve, and whether the
    others' counts are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: str
    number: int
    time: str
    shoppers: int
    popularity: Number
    alone: Number
    joined: Number
    error: Number
    used: bool
    weights: dict[str, Number]

    def line(self) -> str:
        """The same for people."""
        if not self.shoppers:
            return f"version {self.number}: no shopper here has two baskets to judge by, the federation's weights serve"
        said = f"NDCG@10 {self.alone:.4f} alone, {self.joined:.4f} with the federation"
        gain = f"{self.joined / self.alone - 1:+.1%}" if self.alone else f"{self.joined - self.alone:+.4f}"
        if self.error:
            gain += f", {(self.joined - self.alone) / self.error:.1f} standard errors"
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        use = "used" if self.used else "not used: its own shoppers say that it does not help clearly"
        return (
            f"version {self.number}: {said} ({gain}; popularity {self.popularity:.4f}; {self.shoppers:,} shoppers, "
            f"{self.time}): {use} ({weights})"
        )


@dataclass(frozen=True)
class Named:
    """A version's name and number, and now."""

    version: str
    number: int
    time: str


def judge(platform: Platform, others: Memory, alone: LocalLayer, chosen: LocalLayer, named: Named) -> Verdict:
    """Compare what a platform serves with what it would serve alone.

    `chosen` is what validation shoppers want. Where they do not want the others, what they would bring is shown with the
    platform's own weights.
    """
    users = np.sort(np.random.default_rng(1).permutation(platform.test_users)[:USERS])
    values: dict[str, Any] = dict.fromkeys(("popularity", "alone", "joined", "error"), 0.0)
    weights = {"popularity": chosen.popularity, "transitions": chosen.transitions}
    if len(users):
        joined = chosen if chosen.others else LocalLayer(**(asdict(alone) | {"others": True}))
        ranks = evaluate_layers(platform, {"alone": alone, "joined": joined}, others, "test", users, k=1)
        found = {name: ndcg_at(ranking.ranks, 10) for name, ranking in ranks.items()}
        popular = ndcg_at(evaluate(platform, Popularity(platform), "test", users, k=1).ranks, 10)
        gains = found["joined"] - found["alone"]
        values = {
            "popularity": float(popular.mean()),
            "alone": float(found["alone"].mean()),
            "joined": float(found["joined"].mean()),
            "error": float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0,
        }
    about: dict[str, Any] = asdict(named)
    return Verdict(**about, shoppers=len(users), used=chosen.others, weights=weights, **values)


def keep_verdict(site: SiteSettings, verdict: Verdict) -> None:
    """Write the verdict where `client status` finds it."""
    site.work.mkdir(parents=True, exist_ok=True)
    replace(site.work / "verdict.json", verdict.model_dump_json().encode() + b"\n", PRIVATE)


def forget_verdict(site: SiteSettings) -> None:
    """Delete the verdict, which was a function of all shoppers; raise FolderError where it cannot be."""
    file = site.work / "verdict.json"
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(f"{file}: cannot be deleted ({error.strerror}). Delete it yourself.") from None


def kept_verdict(site: SiteSettings) -> Verdict | None:
    """Return the last verdict; None where there is none that can be read."""
    try:
        return Verdict.model_validate_json((site.work / "verdict.json").read_bytes())
    except (OSError, ValidationError):
        return None
