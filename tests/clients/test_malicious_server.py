"""Whatever a server asks, in whatever order, and whatever dies meanwhile: one draw and one update for a reservation."""

import itertools
import shutil
from collections import defaultdict
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import clients.participate as module
from clients.outbox import Outbox
from privacy.errors import MechanismError
from privacy.ledger import NOTHING, Ledger, Status
from privacy.noise import SecureNoise
from shared_model.exchange import fingerprint


class KilledError(BaseException):
    """Stands for kill -9: nothing catches it."""


TERMS = [
    {},
    {"round": 2},
    {"seed": 4},
    {"run_id": "run-2"},
    {"learning_rate": 10.0, "scalar_learning_rate": 10.0, "proximal": 1000.0, "clip_norm": 1e-6},
    {"clip_norm": 100.0, "learning_rate": 1e-9},
    # no request like these passes validation; a platform withstands them all the same
    {"scalar_learning_rate": 10.0, "proximal": 7e36, "clip_norm": 4e-7},
    {"scalar_learning_rate": 10.0, "proximal": 3e38, "clip_norm": 4e-7},
    {"learning_rate": float("nan")},
    {"round": 7},
    {"delta": 1e-5},
    {"epsilon": 700.0},
    {"epsilon": 0.0},
]
STARTS = {"start": 0.0, "moved": 0.25, "large": 1e6, "too large": 2e6, "not finite": float("nan")}
PLACES = {
    "reserve": (Ledger, "reserve"),
    "train": (module, "train_private"),
    "sample": (SecureNoise, "poisson_mask"),
    "draw": (SecureNoise, "normal"),
    "put": (Outbox, "put"),
    "settle": (Ledger, "settle"),
    "receipt": (Ledger, "receipt"),
}
REQUESTS = st.tuples(st.sampled_from(range(len(TERMS))), st.sampled_from(sorted(STARTS)))
FAULTS = [
    KilledError(),
    KeyboardInterrupt(),
    MemoryError(),
    OSError(28, "full"),
    MechanismError("not finite"),
]


class Server(RuleBasedStateMachine):
    """A server against folders of one platform, which share a ledger; counts draws and updates by reservation."""

    def __init__(self, site, ask, start, folder):
        super().__init__()
        self.site, self.terms, self.start, self.folder = site, ask, start, folder
        self.ledger = Ledger.create(
            folder / "ledger.sqlite", population=site.population, epsilon_cap=60.0, delta=site.delta
        )
        self.folders = [self.own("work-0"), self.own("work-1")]
        self.draws, self.sent, self.asked = defaultdict(int), defaultdict(set), [(0, "start")]
        self.training: list[str] = []
        self.patch = pytest.MonkeyPatch()
        self.count()

    def own(self, work):
        changed = {"work": self.folder / work, "ledger": str(self.folder / "ledger.sqlite")}
        return self.site.model_copy(update=changed)

    def count(self):
        """Note the key of each training, and of each source of noise that something is drawn from; and what leaves."""
        trained, send, machine = module._trained, module._send, self

        def training(this, data):
            machine.training.append(this.key)
            try:
                return trained(this, data)
            finally:
                machine.training.pop()

        def sending(this, held):
            contribution = send(this, held)
            machine.sent[this.key].add(fingerprint(contribution.arrays))
            return contribution

        class Counted(SecureNoise):
            drawn = False

            def poisson_mask(self, n, q):
                machine.draws[machine.training[-1]] += not self.drawn
                self.drawn = True
                return super().poisson_mask(n, q)

        self.patch.setattr(module, "_trained", training)
        self.patch.setattr(module, "_send", sending)
        self.patch.setattr(module, "SecureNoise", Counted)

    def request(self, which, request):
        """Ask a folder."""
        terms, moved = request
        ask = self.terms.model_copy(update=TERMS[terms])
        arrays = {name: array + np.float32(STARTS[moved]) for name, array in self.start(ask).items()}
        self.asked.append(request)
        with suppress(Exception):  # the app answers with a code
            module.participate(self.folders[which % len(self.folders)], ask, arrays)

    def teardown(self):
        self.patch.undo()
        assert self.ledger.verify().ok
        shutil.rmtree(self.folder)

    @rule(which=st.integers(0, 5), request=REQUESTS)
    def ask(self, which, request):
        self.request(which, request)

    @rule(which=st.integers(0, 5), data=st.data())
    def ask_again(self, which, data):
        self.request(which, data.draw(st.sampled_from(self.asked)))

    @rule(
        which=st.integers(0, 5),
        data=st.data(),
        place=st.sampled_from(sorted(PLACES)),
        after=st.booleans(),
        fault=st.sampled_from(FAULTS),
    )
    def ask_while_something_breaks(self, which, data, place, after, fault):
        owner, name = PLACES[place]
        real = getattr(owner, name)

        def broken(*arguments, **values):
            if after:
                real(*arguments, **values)
            raise fault

        with pytest.MonkeyPatch.context() as patch, suppress(KilledError, KeyboardInterrupt):
            patch.setattr(owner, name, broken)
            self.request(which, data.draw(st.sampled_from(self.asked) | REQUESTS))

    @rule(which=st.integers(0, 5), other=st.integers(0, 5), request=REQUESTS)
    def ask_two_at_once(self, which, other, request):
        """Another folder, a copy, or another process of the same one is asked in the middle of a training."""
        real = module.train_private

        def meanwhile(*arguments):
            patch.setattr(module, "train_private", real)
            self.request(other, request)
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "train_private", meanwhile)
            self.request(which, request)

    @precondition(lambda self: len(self.folders) < 5)
    @rule(which=st.integers(0, 5))
    def copy_a_folder(self, which):
        source = self.folders[which % len(self.folders)]
        work = f"work-{len(self.folders)}"
        if source.work.exists():
            shutil.copytree(source.work, self.folder / work)
        self.folders.append(self.own(work))

    @invariant()
    def one_draw_and_one_update_for_each_reservation(self):
        assert all(count <= 1 for count in self.draws.values()), self.draws
        assert all(len(updates) <= 1 for updates in self.sent.values()), self.sent
        held = {reservation.key: reservation for reservation in self.ledger.reservations()}
        assert set(self.draws) <= set(held), "nothing is drawn that is not charged"
        for key, updates in self.sent.items():
            assert updates == {held[key].output}, "what left is what the ledger names"
            assert held[key].status is Status.SETTLED
        assert all(h.charged == h.event.count for h in held.values()), "and each is charged in full"
        assert NOTHING not in set().union(*self.sent.values())


def test_no_sequence_draws_or_sends_twice(make_site, ask, start, tmp_path):
    numbers = itertools.count()
    site = make_site(cap=None, epsilon_cap=60.0)

    def server():
        folder = tmp_path / f"server-{next(numbers)}"
        folder.mkdir()
        return Server(site, ask.model_copy(update={"local_steps": 2, "sample_rate": 1.0}), start, folder)

    run_state_machine_as_test(
        server,
        settings=settings(
            max_examples=12, stateful_step_count=10, deadline=None, phases=(Phase.explicit, Phase.generate)
        ),
    )
