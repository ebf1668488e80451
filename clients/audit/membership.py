"""Membership inference on a platform's real shoppers (LiRA, Carlini et al. 2022, arXiv:2112.03570).

K models are trained exactly as the platform would, each on the shoppers that fair coins choose; each in turn is
attacked with the others as its shadows. The statistic of a shopper is the logit of the model's confidence in
what the shopper bought: log p − log(1 − p), p the geometric mean over the training targets, against negatives
that are the same for all models. The attacker knows everything but who was used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from shared_model.loss import shopper_loss

from clients.audit.parallel import in_threads
from clients.audit.subject import Progress, Subject
from clients.audit.training import sources
from clients.examples import TrainingData
from clients.gradients import CHUNK
from clients.training import train_plain, train_private
from privacy.audit import MembershipInference, leave_one_out, membership_inference
from privacy.checks import whole
from privacy.errors import PlanError
from shared_model.exchange import SharedTensors
from shared_model.model import initial_shared

MOST_SHOPPERS = 2000
"""So many shoppers of a larger platform are drawn. A model of fewer shoppers reveals more of each."""
NEGATIVES = 512
FALSE_POSITIVE_RATES = (0.001, 0.01)


@dataclass(frozen=True)
class ModelMembership:
    """How well shoppers that a model was trained on are told from others."""

    model: str
    private: bool
    found: MembershipInference


def attack_membership(
    subject: Subject, shadows: int, *, seed: int | None, confidence: float, say: Progress
) -> list[ModelMembership]:
    """Attack `shadows` private models and as many that are trained by the same recipe without privacy.

    Raises PlanError: fewer than five models, or too few shoppers to tell anything.
    """
    check_shadows(shadows)
    chosen = np.random.default_rng(subject.seed)
    data = only(subject.data, np.sort(chosen.permutation(len(subject.data))[:MOST_SHOPPERS]))
    negatives = data.negative_rows(NEGATIVES, chosen)
    asked = np.isfinite(statistics(subject, data, negatives, initial_shared(subject.spec)))
    if asked.sum() < 10:
        raise PlanError(
            f"{subject.name}: {asked.sum()} shoppers have a training target; membership inference needs 10"
        )
    coins, _ = sources(seed, "membership")
    members = np.stack([coins.poisson_mask(len(data), 0.5) for _ in range(shadows)])
    models: list[tuple[int, bool]] = [(k, private) for private in (True, False) for k in range(shadows)]

    def observe(model: tuple[int, bool]) -> NDArray[np.float64]:
        k, private = model
        mine = replace(subject, data=only(data, np.flatnonzero(members[k])))
        train = _private(seed, k) if private else _plain
        return statistics(subject, data, negatives, train(mine))

    def done(n: int, _: NDArray[np.float64]) -> None:
        if n % 4 == 0:
            say(f"membership: model {n} of {len(models)}")

    seen = in_threads(observe, models, done)
    results = []
    for name, private in (("private", True), ("not private, same recipe", False)):
        values = np.stack([s for s, (_, p) in zip(seen, models, strict=True) if p is private])
        scores = leave_one_out(values[:, asked], members[:, asked])
        found = membership_inference(
            scores,
            members[:, asked],
            target_fprs=FALSE_POSITIVE_RATES,
            confidence=confidence,
            rng=np.random.default_rng(subject.seed),
        )
        results.append(ModelMembership(name, private, found))
    return results


def check_shadows(shadows: int) -> int:
    """Return a number of models that is enough: each is attacked with the others, two with and two without a shopper."""
    hint = "give how many models each attack trains, or 0 to leave membership out"
    return whole("shadows", shadows, at_least=5, at_most=10_000, hint=hint)


def _private(seed: int | None, k: int) -> Callable[[Subject], SharedTensors]:
    def train(subject: Subject) -> SharedTensors:
        _, noise = sources(seed, f"shadow {k}")
        shared = initial_shared(subject.spec)
        for recipe, rng in subject.rounds(subject.plan.steps):
            # Models are trained in threads of one process, where compiling has no place.
            shared = train_private(
                shared, subject.spec, subject.data, recipe, subject.plan, noise, rng, compile="never"
            )
        return shared

    return train


def _plain(subject: Subject) -> SharedTensors:
    shared = initial_shared(subject.spec)
    for recipe, rng in subject.rounds(subject.plan.steps):
        shared = train_plain(shared, subject.spec, [subject.data], recipe, rng)
    return shared


def only(data: TrainingData, users: NDArray[np.int64]) -> TrainingData:
    """Return the training data of the shoppers at positions `users` alone."""
    rows, (starts, items) = torch.from_numpy(users), data.seen
    owned = [items[starts[user] : starts[user + 1]] for user in users]
    offsets = np.concatenate([[0], np.cumsum([len(o) for o in owned])]).astype(np.int64)
    seen = (offsets, np.concatenate([np.zeros(0, dtype=items.dtype), *owned]))
    return replace(data, items=data.items[rows], groups=data.groups[rows], seen=seen)


@torch.no_grad()
def statistics(
    subject: Subject, data: TrainingData, negatives: torch.Tensor, shared: SharedTensors
) -> NDArray[np.float64]:
    """Return (U,) logits of the confidence in each shopper's targets; inf for one without a target."""
    parts = [np.zeros(0)]
    for start in range(0, len(data), CHUNK):
        example = data.chunk(np.arange(start, min(start + CHUNK, len(data))), negatives)
        loss = shopper_loss(shared, subject.spec, example, data.negatives(negatives)).double()
        loss = loss.clamp(min=torch.finfo(torch.float32).tiny)  # a model that is sure beyond float32 loses 0
        logit = -loss - torch.log(-torch.expm1(-loss))
        parts.append(torch.where(example.target_mask.any(-1), logit, torch.inf).numpy())
    return np.concatenate(parts)
