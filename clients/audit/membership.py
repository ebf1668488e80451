"""Membership inference on a platform's real shoppers: who was in a sum, by somebody who knows what each would add.

Fair coins choose who is in each of K runs, which is released as always. The attacker knows every shopper's own rows and
solves for who is in (`privacy.audit.linear_scores`): without noise it names nearly everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clients.audit.subject import Progress, Subject
from clients.audit.training import Training, sources
from clients.training import ShopperEvents, exact_sum
from privacy.audit import MembershipInference, linear_scores, membership_inference
from privacy.checks import whole
from privacy.errors import PlanError
from shared_model.stages import Stage

MOST_SHOPPERS = 1000
"""So many shoppers of a larger platform are drawn. A sum over fewer shoppers reveals more of each."""
FALSE_POSITIVE_RATES = (0.001, 0.01)
HARDLY = 1e-3
"""The noise that the attacker reckons with where there is none."""


@dataclass(frozen=True)
class SumMembership:
    """How well shoppers who are in a sum are told from others."""

    sums: str
    private: bool
    found: MembershipInference


def attack_membership(
    subject: Subject, runs: int, *, seed: int | None, confidence: float, say: Progress
) -> list[SumMembership]:
    """Attack `runs` private runs, and the same sums without noise.

    All use one temper, of an earlier release, as every run of a federation after its first does. Raises PlanError: no
    run, or fewer than ten shoppers with an event in the vocabulary.
    """
    check_runs(runs)
    rng, events = np.random.default_rng(subject.seed), subject.events
    known = np.unique(events.users[events.products >= 0])
    if len(known) < 10:
        raise PlanError(
            f"{subject.name}: {len(known)} shoppers have a known product; membership inference needs 10"
        )
    shoppers = np.sort(rng.permutation(known)[:MOST_SHOPPERS])
    subject = _where_anybody_is(replace(subject, events=only(events, shoppers)))
    coins, noise = sources(seed, "membership")
    training = Training(subject, noise)
    _, temper = training.release(subject.events)
    training = replace(training, temper=lambda table, _: replace(table, temper=temper))
    exact = _exact(subject, temper)

    def seen(released: dict[Stage, NDArray[np.float64]]) -> NDArray[np.float64]:
        """All that is released, in units of its noise."""
        return np.concatenate([total / subject.plan.noise_of(s.number) for s, total in released.items()])

    rows = sparse.vstack([sparse.csr_array(seen(exact(only(subject.events, [u])))[None]) for u in shoppers])
    members = np.stack([coins.poisson_mask(len(shoppers), 0.5) for _ in range(runs)])
    sums: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
    for number, inside in enumerate(members, start=1):
        those = only(subject.events, shoppers[inside])
        sums[True].append(seen(training.release(those)[0]))
        sums[False].append(seen(exact(those)))
        say(f"membership: run {number} of {runs}")
    return [
        SumMembership(
            name,
            private,
            membership_inference(
                linear_scores(rows, np.stack(sums[private]), 1.0 if private else HARDLY),
                members,
                target_fprs=FALSE_POSITIVE_RATES,
                confidence=confidence,
                rng=np.random.default_rng(subject.seed),
            ),
        )
        for name, private in (("private", True), ("not private", False))
    ]


def check_runs(runs: int) -> int:
    """Return a number of runs to attack."""
    hint = "give how many runs membership inference attacks, or 0 to leave it out"
    return whole("runs", runs, at_least=1, at_most=10_000, hint=hint)


def only(events: ShopperEvents, users: NDArray[np.int64] | list[int]) -> ShopperEvents:
    """Return the events of the shoppers with these numbers alone."""
    at = np.isin(events.users, users)
    return ShopperEvents(events.users[at], events.products[at], events.groups[at])


def _where_anybody_is(subject: Subject) -> Subject:
    """Return it without the edges that no shopper has: there is nothing but noise, which tells an attacker nothing."""
    vocabulary, temper = subject.vocabulary, np.ones(len(subject.vocabulary), np.float32)
    if Stage.EDGES not in subject.stages:
        return subject
    edges = vocabulary.edges[_exact(subject, temper)(subject.events)[Stage.EDGES] > 0]
    return replace(subject, vocabulary=replace(vocabulary, edges=edges))


def _exact(
    subject: Subject, temper: NDArray[np.float32]
) -> Callable[[ShopperEvents], dict[Stage, NDArray[np.float64]]]:
    edges, products, given = subject.vocabulary.edges, len(subject.vocabulary), {"temper": temper}
    return lambda events: {s: exact_sum(s, events, edges, given, products) for s in subject.stages}
