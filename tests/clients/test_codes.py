"""What a code tells depends on public things only: it is the same with and without any shopper, and there are few."""

import re
from pathlib import Path

import pandas as pd
import pytest

import clients.app
import clients.errors
import clients.participate
import privacy.errors
import shared_model.errors
from clients.app import app
from clients.data.ingest import ingest
from clients.data.sources import FilesSource
from clients.data.store import open_store
from clients.participate import participate
from clients.platform import read_events
from clients.site import save_site
from tests.clients.test_app import context_of, message_of

pytestmark = pytest.mark.usefixtures("flower")
DOCS = Path(__file__).parents[2] / "docs" / "privacy.md"


def code_of(site, ask, arrays) -> str:
    """Return the code that a round leaves with; "sent" if it is an update."""
    try:
        participate(site, ask, arrays)
    except (shared_model.errors.FedcartError, privacy.errors.PrivacyError) as error:
        return error.code
    return "sent"


# Any one shopper


WEIRD = {
    "no time": [("weird", "i01", "never")] * 3,
    "negative times": [("weird", "i01", "-5"), ("weird", "i02", "-1e300"), ("weird", "i03", "-inf")],
    "the far future": [("weird", f"i0{n}", "9" * 18) for n in range(3)],
    "numbers that are none": [("weird", "i01", "nan"), ("weird", "i02", "inf"), ("weird", "i03", "1e400")],
    "unknown items": [("weird", "nothing", "1600000000")] * 4,
    "no item": [("weird", "", "1600000000")] * 4,
    "no name": [("", f"i0{n}", str(1_600_000_000 + n)) for n in range(4)],
    "a name of another kind": [("5.5", f"i0{n}", str(1_600_000_000 + n)) for n in range(4)],
    "a very long name": [("x" * 100_000, f"i0{n}", str(1_600_000_000 + n)) for n in range(4)],
    "quotes and lines": [('a "b"\nc,d', f"i0{n}", str(1_600_000_000 + n)) for n in range(4)],
    "many events": [("weird", f"i{n % 80:02}", str(1_600_000_000 + 3600 * n)) for n in range(3000)],
    "all at once": [("weird", f"i{n:02}", "1600000000") for n in range(80)],
    "one event": [("weird", "i01", "1600000000")],
    "dates": [("weird", f"i0{n}", f"2020-09-1{n}T00:00:00Z") for n in range(4)],
}


@pytest.mark.parametrize("kind", WEIRD)
@pytest.mark.parametrize("others", ["nobody else", "two others"])
def test_the_code_is_the_same_with_and_without_any_shopper(
    make_site, ask, start, events, tmp_path, kind, others
):
    rows = events(2) if others == "two others" else events(2).iloc[:0]
    codes = []
    for number, frame in enumerate(
        (pd.concat([rows, pd.DataFrame(WEIRD[kind], columns=rows.columns)]), rows)
    ):
        site = make_site(f"shop{number}")
        frame.astype(str).to_csv(site.events, index=False)
        codes.append(code_of(site, ask, start(ask)))
    assert codes == ["sent", "sent"]


def test_each_shopper_of_a_tiny_site_can_go(make_site, ask, start, events):
    rows = events(3)
    for number, who in enumerate(rows.user_id.unique()):
        site = make_site(f"shop{number}")
        rows[rows.user_id != who].to_csv(site.events, index=False)
        assert code_of(site, ask, start(ask)) == "sent", who


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("task", [{}, {"hold_out": "event", "first_purchases": True}])
def test_a_site_whose_only_shopper_is_gone_sends_noise(make_site, ask, start, number, task):
    asked = ask.model_copy(update={"round": number})
    one, none = make_site("one", task=task), make_site("none", task=task)
    for site, count in ((one, 5), (none, 0)):
        rows = [("anna", f"i0{n}", 1_600_000_000 + 86_400 * n) for n in range(count)]
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(site.events, index=False)
        sent = participate(site, asked, start(asked))
        assert all(array.all() for array in sent.arrays.values()), "noise in every number"
        assert sent.receipt.committed > 0


def test_an_erased_shopper_may_have_been_the_only_one(make_site, ask, start, tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    rows = [("anna", f"i0{n}", 1_600_000_000 + 86_400 * n) for n in range(5)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(folder / "a.csv", index=False)
    sources = {"files": FilesSource(type="files", path=folder)}
    site = make_site().model_copy(update={"events": None, "sources": sources})
    ingest(open_store(site.store), site.sources, None, now=1_700_000_000.0)
    assert code_of(site, ask, start(ask)) == "sent"
    open_store(site.store).erase("anna")
    read_events.cache_clear()
    again = ask.model_copy(update={"round": 2})
    assert code_of(site, again, start(again)) == "sent"


# Whatever goes wrong


def errors() -> list[Exception]:
    """One of each family that fedcart has, and of what it does not expect."""
    return [
        *(kind("x") for kind in (ValueError, MemoryError)),
        clients.errors.DataError("x"),
        clients.errors.PolicyError("x", "y"),
        clients.errors.OutboxError("x"),
        shared_model.errors.NotFiniteError("x"),
        privacy.errors.MechanismError("x"),
        privacy.errors.LedgerTamperedError("x"),
    ]


RESERVING: list[Exception] = [
    ValueError("x"),
    privacy.errors.BudgetRefusedError("x"),
    *(getattr(privacy.errors, name)("x") for name in dir(privacy.errors) if name.startswith("Ledger")),
]
"""What the ledger raises (`Ledger.reserve`), and a bug in it."""
AFTER = {
    "added_so_far": ("clients.participate.added_so_far", errors()),
    "read_events": ("clients.participate.read_events", errors()),
    "products": ("clients.participate.Products.of", errors()),
    "reserve": ("privacy.ledger.Ledger.reserve", RESERVING),
    "release_stage": ("clients.participate.release_stage", errors()),
    "put": ("clients.outbox.Outbox.put", errors()),
    "mark_trained": ("clients.participate.mark_trained", errors()),
    "settle": ("privacy.ledger.Ledger.settle", errors()),
    "receipt": ("privacy.ledger.Ledger.receipt", errors()),
    "_reply": ("clients.app._reply", [ValueError("x"), KeyError("x")]),
}


def documented(text: str) -> set[str]:
    """Return the codes in the first column of a table."""
    return set(re.findall(r"^\| `([a-z.…-]+)` +\|", text, re.MULTILINE))


@pytest.fixture
def codes_after(make_site, ask, start, tmp_path, monkeypatch):
    """Return what fails at one place with each of some errors, and collects the codes that the app answers with."""
    site = make_site(cap=500.0)
    save_site(tmp_path / "client.toml", site)

    def collect(where, raised) -> set[str]:
        found = set()
        for number, error in enumerate(raised):
            asked = ask.model_copy(update={"seed": number})  # another round of the same run
            context = context_of({"site": str(tmp_path / "client.toml")})
            with monkeypatch.context() as patch:
                patch.setattr(where, lambda *_, error=error, **__: (_ for _ in ()).throw(error))
                reply = app(message_of(asked, start(asked)), context)
            found.add(reply.error.reason.partition(":")[2] if reply.has_error() else "sent")
        return found

    return collect


@pytest.mark.parametrize(
    ("where", "codes"),
    [
        ("added_so_far", {"data"}),
        ("read_events", {"data"}),
        ("products", {"data"}),
        (
            "reserve",
            {
                "budget.refused",
                "internal",
                "ledger",
                "ledger.tampered",
                "ledger.rollback",
                "ledger.clock",
                "ledger.mismatch",
                "ledger.unreadable",
            },
        ),
        ("release_stage", {"sent"}),
        ("put", {"round.unfinished"}),
        ("mark_trained", {"round.unfinished"}),
        ("settle", {"round.unfinished"}),
        ("receipt", {"round.unfinished"}),
        ("_reply", {"internal"}),
    ],
)
def test_after_reading_each_place_has_the_codes_of_the_table(codes_after, where, codes):
    assert codes_after(*AFTER[where]) == codes
    named = {re.sub(r"^ledger(\..*)?$", "ledger.…", code) for code in codes} - {"sent"}
    assert named <= documented(clients.app.__doc__)


def test_the_table_is_whole_and_the_documentation_s():
    table = {"data", "budget.refused", "ledger.…", "round.unfinished", "internal"}
    assert documented(clients.app.__doc__) == table
    section = DOCS.read_text(encoding="utf-8").partition("## Codes")[2].partition("\n## ")[0]
    assert documented(section) == table


def test_nothing_else_is_called_after_reading():
    """Whoever adds a step to a round adds it here."""
    source = Path(clients.participate.__file__).read_text(encoding="utf-8")
    first = source.partition("\ndef _first(")[2].partition("\ndef ")[0]
    called = set(re.findall(r"([a-z_]+)\(", first)) - {"event_of", "fingerprint", "first"}
    assert called == {
        "_added_so_far",
        "_read",
        "reserve",
        "_unfinished",
        "put",
        "_released",
        "mark_trained",
        "_send",
    }


def test_a_finished_round_reads_no_data(make_site, ask, start, monkeypatch):
    site = make_site()
    participate(site, ask, start(ask))
    site.events.unlink()
    read_events.cache_clear()
    assert code_of(site, ask, start(ask)) == "sent"
