"""The candidates, and what each is put through: trained on the members, judged everywhere, then tuned by a newcomer."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.candidates.judge import Bench
from benchmarks.candidates.networks import DomainGates, Experts, TextTransformer, perceptron
from benchmarks.candidates.training import (
    Effort,
    Loss,
    Say,
    gbce_loss,
    softmax_loss,
    train_to_be_tuned,
    train_together,
)
from benchmarks.transfer.platforms import with_shoppers
from clients.platform import Platform

Make = Callable[[Sequence[Platform]], TextTransformer]
Train = Callable[[TextTransformer, Sequence[Platform], Loss, Effort, int, Say], None]


@dataclass(frozen=True)
class Candidate:
    """One way to share more than a number."""

    name: str
    make: Make
    loss: Loss = softmax_loss
    train: Train = train_together


def _length(members: Sequence[Platform]) -> int:
    return members[0].spec.history_length


def _features(members: Sequence[Platform]) -> int:
    return members[0].features.shape[1]


def plain(members: Sequence[Platform]) -> TextTransformer:
    """Return a transformer with one perceptron as adaptor."""
    return TextTransformer(perceptron(_features(members)), None, _length(members))


def mixture(members: Sequence[Platform]) -> TextTransformer:
    """Return a transformer with a mixture of experts as adaptor."""
    return TextTransformer(Experts(_features(members)), None, _length(members))


def gated(members: Sequence[Platform]) -> TextTransformer:
    """Return a transformer whose adapted items pass a gate of their domain."""
    gates = DomainGates([member.name for member in members])
    return TextTransformer(perceptron(_features(members)), gates, _length(members))


CANDIDATES = (
    Candidate("transformer", plain),
    Candidate("experts", mixture),
    Candidate("domain-gates", gated),
    Candidate("gbce", plain, loss=gbce_loss),
    Candidate("meta-learned", plain, train=train_to_be_tuned),
)


@dataclass(frozen=True)
class Size:
    """Steps on the members, shoppers that are judged, and the shoppers and steps that a newcomer tunes with."""

    steps: int = 1500
    judged: int = 1500
    shots: int = 500
    tuning_steps: int = 200
    negatives: int = 2048


@dataclass(frozen=True)
class Field:
    """Members and a newcomer with their benches, made once for all candidates."""

    members: Sequence[Platform]
    newcomer: Platform
    known: Platform
    benches: Sequence[Bench]
    later: Bench

    @classmethod
    def of(cls, members: Sequence[Platform], newcomer: Platform, size: Size, seed: int) -> "Field":
        """Draw the newcomer's shoppers that it tunes with; all others may be judged afterwards."""
        chance = np.random.default_rng([seed, size.shots])
        known = np.sort(chance.permutation(len(newcomer))[: size.shots])
        return cls(
            members,
            newcomer,
            with_shoppers(newcomer, known),
            [Bench.of_member(each, size.judged) for each in (*members, newcomer)],
            Bench.of_newcomer(newcomer, size.judged, known),
        )


def run(candidate: Candidate, field: Field, size: Size, seed: int, say: Say) -> dict[str, Any]:
    """Return what the candidate is worth on every platform, and to a newcomer that tunes it."""
    torch.manual_seed(seed)
    network = candidate.make(field.members)
    untrained = copy.deepcopy(network)
    effort = Effort(size.steps, negatives=size.negatives)
    say(f"{candidate.name}: training on {', '.join(member.name for member in field.members)}")
    candidate.train(network, field.members, candidate.loss, effort, seed, say)
    platforms = {bench.platform.name: bench.judge(network) for bench in field.benches}
    tuned = {}
    for name, start in (("from the members", network), ("from nothing", untrained)):
        say(f"{candidate.name}: {field.newcomer.name} trains it with {size.shots} shoppers, {name}")
        own, few = copy.deepcopy(start), Effort(size.tuning_steps, negatives=size.negatives)
        train_together(own, [field.known], candidate.loss, few, seed, say)
        tuned[name] = field.later.judge(own)
    return {"platforms": platforms, "tuned": tuned}
