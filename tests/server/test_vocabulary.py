"""From the platforms' catalogues to a signed vocabulary, through the front door."""

import json
from pathlib import Path

import pandas as pd
import pytest

from federation.errors import BusyError
from federation.keys import fingerprint
from federation.lock import held
from server.folder import ServerFolder
from server.vocabulary.store import versions
from tests.front_door import FrontDoor

SETTINGS = ("--population-size", 2000, "--epsilon-cap", 8)
PENS = {"gtin": ["4006381333931", "0036000291452", None], "title": ["Marker", "Tissues", "Oat milk"]}
BOOKS = {"gtin": ["36000291452", "0306406152", "4006381333932"], "title": ["Tissues", "A book", "Other"]}


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Return what runs a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return FrontDoor(capfd)


@pytest.fixture
def fed(run):
    """A federation in `fed`, of which `pens` and `books` are members, each with a catalogue with codes."""
    run.json("server", "init", "fed", "--name", "trade", "--address", "localhost:9443")
    for name, catalogue in (("pens", PENS), ("books", BOOKS)):
        client(run, name, catalogue)
        admit(run, name)
    return run


def client(run, name, catalogue):
    frame = pd.DataFrame({"item_id": [f"{name}{n}" for n in range(len(catalogue["title"]))], **catalogue})
    frame.to_csv(f"{name}.csv", index=False)
    files = ("--events", f"{name}-events.csv", "--items", f"{name}.csv")
    made = run.json("client", "init", name, "--name", name, "--federation", "trade", *files, *SETTINGS)
    settings = Path(made["settings"])
    settings.write_text(settings.read_text().replace('# user = "customer"', 'code = "gtin"'))


def admit(run, name, *options):
    asked = run.json("client", "request", "--folder", name, *options)
    confirmed = () if "--rotate" in options else ("--fingerprint", asked["fingerprint"])
    return run.json("server", "admit", asked["request"], "--folder", "fed", *confirmed)


def publish(run, name):
    return run.json("client", "catalogue", "--folder", name, "--out", f"{name}.catalogue.json")["file"]


def build(run, *names):
    files = [publish(run, name) for name in names]
    return run.json("server", "vocabulary", "build", *files, "--folder", "fed")


def test_what_would_be_published_is_shown_and_nothing_is_written(fed, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    code, out, _ = fed("client", "catalogue", "--folder", "books")
    assert code == 0
    assert "books: 3 products of 3 items" in out
    for words in (
        "isbn:9780306406157",
        "title:other|",
        "Tissues",
        "wrong check digit: 1",
        "Nothing was written",
    ):
        assert words in out
    assert {path.name for path in tmp_path.iterdir()} == before


def test_events_play_no_part_in_what_is_published(fed, tmp_path):
    def products():
        return json.loads((tmp_path / publish(fed, "pens")).read_bytes())["body"]["products"]

    without = products()  # there is no file of events
    pd.DataFrame({"user_id": ["u"] * 5, "item_id": ["pens0"] * 5, "timestamp": range(5)}).to_csv(
        "pens-events.csv"
    )
    assert products() == without
    assert len(without) == 3


def test_members_catalogues_become_a_signed_version_and_the_next_keeps_it(fed):
    first = build(fed, "pens")
    assert (first["number"], first["products"], first["new"]) == (1, 3, True)
    assert first["coverage"] == {"pens": {"known": 3, "products": 3}}
    second = build(fed, "books", "pens")
    assert (second["number"], second["products"], second["parent"]) == (2, 5, first["digest"])
    assert set(second["shares"]) == {"books", "pens"}
    old, new = (version.load() for version in versions(ServerFolder(Path("fed"))))
    assert new.keys[:3] == old.keys
    assert new.keys[3:] == ("isbn:9780306406157", "title:other|")
    again = build(fed, "pens")
    assert (again["number"], again["new"], again["digest"]) == (2, False, second["digest"])
    code, out, _ = fed("server", "vocabulary", "build", publish(fed, "pens"), "--folder", "fed")
    assert (code, "nothing is new: version 2 stays" in out, "pens: 3 of 3 products are in it" in out) == (
        0,
        True,
        True,
    )
    code, out, _ = fed("server", "vocabulary", "show", "--folder", "fed")
    assert (code, second["digest"] in out, "products         5" in out) == (0, True, True)
    assert fed.json("server", "vocabulary", "show", 1, "--folder", "fed")["digest"] == first["digest"]
    said = fed.json("client", "catalogue", "--folder", "books", "--vocabulary", first["file"])
    assert said["codes"]["known"] == 1


def test_the_order_of_files_plays_no_part(fed, tmp_path):
    files = [publish(fed, name) for name in ("pens", "books")]
    digests = []
    for order in (files, files[::-1]):
        made = fed.json("server", "vocabulary", "build", *order, "--folder", "fed")
        digests.append(made["digest"])
        for file in (tmp_path / "fed" / "vocabulary").glob("1.*"):
            file.unlink()
    assert digests[0] == digests[1]


def test_a_catalogue_of_a_stranger_or_a_revoked_member_is_refused(fed):
    client(fed, "toys", PENS)
    code, _, err = fed("server", "vocabulary", "build", publish(fed, "toys"), "--folder", "fed")
    assert (code, "'toys', which is no member" in err) == (5, True)
    file = publish(fed, "books")
    fed.json("server", "revoke", "books", "--reason", "left", "--folder", "fed")
    code, _, err = fed("server", "vocabulary", "build", file, "--folder", "fed")
    assert (code, "'books', which is no member" in err) == (5, True)


def test_a_catalogue_under_a_members_name_with_another_key_is_refused(fed, tmp_path):
    (tmp_path / "books").rename(tmp_path / "real")
    client(fed, "books", BOOKS)
    code, _, err = fed("server", "vocabulary", "build", publish(fed, "books"), "--folder", "fed")
    assert (code, "another key than the one in force for 'books'" in err) == (5, True)
    assert fed("server", "vocabulary", "show", "--folder", "fed")[0] == 2


def test_a_catalogue_that_was_changed_is_refused_and_two_of_one_platform_are(fed, tmp_path):
    file = tmp_path / publish(fed, "books")
    good = file.read_bytes()
    (tmp_path / "again.json").write_bytes(good)
    code, _, err = fed("server", "vocabulary", "build", file, tmp_path / "again.json", "--folder", "fed")
    assert (code, "'books' has another file among these" in err) == (2, True)
    file.write_bytes(good.replace(b"A book", b"A boot"))
    code, _, err = fed("server", "vocabulary", "build", file, "--folder", "fed")
    assert (code, "refused as tampered" in err) == (5, True)
    code, _, err = fed("server", "vocabulary", "build", tmp_path / "absent", "--folder", "fed")
    assert (code, "cannot be read" in err) == (2, True)


def test_records_and_vocabularies_that_were_changed_are_refused(fed, tmp_path):
    made = build(fed, "pens")
    record, file = tmp_path / made["record"], tmp_path / made["file"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert fed("server", "vocabulary", "show", "--folder", "fed")[0] == 4
    file.write_bytes(whole)
    said = record.read_bytes()
    record.write_bytes(said.replace(b'"products": 3', b'"products": 4', 1))
    code, _, err = fed("server", "vocabulary", "show", "--folder", "fed")
    assert (code, "refused as tampered" in err) == (5, True)
    record.write_bytes(said)
    record.rename(record.with_name("7.json"))
    code, _, err = fed("server", "vocabulary", "show", "--folder", "fed")
    assert (code, "is the record of version 1" in err) == (5, True)


def test_where_there_is_nothing_the_fix_is_said(fed):
    code, _, err = fed("server", "vocabulary", "show", "--folder", "fed")
    assert (code, "fedcart server vocabulary build FILES" in err) == (2, True)
    client(fed, "void", {"gtin": [None], "title": ["?!"]})
    admit(fed, "void")
    code, _, err = fed("server", "vocabulary", "build", publish(fed, "void"), "--folder", "fed")
    assert (code, "no product" in err) == (2, True)
    code, out, _ = fed("client", "catalogue", "--folder", "void")
    assert (code, "void: 0 products of 1 items" in out) == (0, True)


def test_one_build_at_a_time(fed, tmp_path):
    file = publish(fed, "pens")
    with held(tmp_path / "fed" / "vocabulary" / "lock", "another"):
        code, _, err = fed("server", "vocabulary", "build", file, "--folder", "fed")
    assert (code, "A build of the vocabulary runs already" in err) == (BusyError.exit_code, True)


def test_a_member_with_new_keys_signs_with_those_in_force(fed):
    kit = fed.json("server", "kit", "pens", "--folder", "fed")["kit"]
    key = json.loads(Path(kit).read_bytes())["body"]["card"]["signing_key"]
    fed.json("client", "join", kit, "--folder", "pens", "--fingerprint", fingerprint(key))
    old = publish(fed, "pens")
    kit = admit(fed, "pens", "--rotate")["kit"]
    assert fed("server", "vocabulary", "build", old, "--folder", "fed")[0] == 5
    fed.json("client", "join", kit, "--folder", "pens")
    assert build(fed, "pens")["number"] == 1
