"""Distillation: the student adds up what the teacher says of single items, knows nothing held out, and stays here."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from clients.distill.compare import StudentScorer, choose_student, compare
from clients.distill.installed import StudentCard, install_student, load_student
from clients.distill.run import distilled
from clients.distill.student import Student, student_from_bytes
from clients.distill.teach import teach
from clients.errors import SiteError
from clients.recommender import LocalLayer, Recommender
from federation.errors import FolderError
from federation.signed import digest
from tests.clients.scored import others_of

LAYER = LocalLayer(popularity=0.3, transitions=2.0, others=True)


@pytest.fixture
def platform(make_site, platform_of):
    return platform_of(make_site())


def asked_of(layer=LAYER):
    bare = replace(layer, popularity=0.0)
    return lambda platform: Recommender(platform, bare, others_of(platform))


def random_student(items=7, seed=0):
    rng = np.random.default_rng(seed)
    near = sparse.random(items, items, density=0.4, format="csr", random_state=rng, dtype=np.float32)
    near.data = near.data.astype(np.float16).astype(np.float32)
    return Student(near, rng.random(items).astype(np.float32), decay=0.5, popularity=0.7)


def test_scores_are_the_formula():
    student = random_student()
    items = np.array([[-1, 2, 5], [-1, -1, -1], [3, 3, 1]])
    ages = np.array([[0, 2, 1], [0, 0, 0], [2, 1, 1]])
    table = student.near.toarray().astype(np.float64)
    for row, (its, ags) in enumerate(zip(items, ages, strict=True)):
        wanted = 0.7 * student.log_popularity.astype(np.float64)
        for item, age in zip(its, ags, strict=True):
            wanted = wanted + (np.exp(-0.5 * age) * table[item] if item >= 0 else 0)
        np.testing.assert_allclose(student.scores(items, ages)[row], wanted, rtol=1e-5)


def test_with_all_neighbours_a_student_says_of_one_item_what_its_teacher_says(platform):
    """Where the teacher puts an item above its average, by just as much; at most N entries; no item after itself."""
    items = len(platform.catalogue)
    student = teach(platform, asked_of(), "test", items)
    few = teach(platform, asked_of(), "test", 5)
    assert student.near.diagonal().sum() == 0
    assert (np.diff(few.near.indptr) <= 5).all()
    from clients.distill.teach import _with_questions

    asked, first = _with_questions(platform, "test")
    scores = asked_of()(asked).scores("test", np.arange(first, first + items)).numpy()
    above = np.maximum(scores - scores.mean(axis=1, keepdims=True), 0)
    np.fill_diagonal(above, 0)
    np.testing.assert_allclose(student.near.toarray(), above, atol=1e-4)
    best = np.sort(above, axis=1)[:, -5:]
    np.testing.assert_allclose(np.sort(few.near.toarray(), axis=1)[:, -5:], best, atol=1e-4)


@pytest.mark.parametrize("before", ["valid", "test"])
def test_what_is_held_out_is_known_to_no_student(platform, before):
    """Changing every event from what is held out on changes nothing."""
    split = platform.split
    later = np.arange(split.sequences.items.size) >= split.ends(before)[split.sequences.event_users]
    assert later.any()
    items = np.where(later, 0, split.sequences.items)
    other = replace(platform, split=replace(split, sequences=replace(split.sequences, items=items)))
    first, second = (teach(p, asked_of(), before, 6) for p in (platform, other))
    assert (first.near != second.near).nnz == 0
    np.testing.assert_array_equal(first.log_popularity, second.log_popularity)
    assert (teach(platform, asked_of(), None, 6).near != first.near).nnz > 0


def test_popularity_is_the_platforms(platform):
    student = teach(platform, asked_of(), "test", 3)
    np.testing.assert_allclose(student.log_popularity, platform.popularity("test").log1p().numpy(), rtol=1e-6)


def test_the_choice_is_the_best_on_validation_shoppers(platform):
    taught = teach(platform, asked_of(), "valid", 20)
    chosen = choose_student(platform, taught)
    from clients.distill.compare import DECAYS, POPULARITY_WEIGHTS, _ndcg

    def value(student):
        return _ndcg(platform, StudentScorer(platform, student), "valid", platform.valid_users).mean()

    every = [value(replace(taught, decay=d, popularity=p)) for d in DECAYS for p in POPULARITY_WEIGHTS]
    assert value(chosen) == max(every)


def test_a_history_of_one_item_is_scored_as_the_teacher_does(platform):
    """By how much the teacher puts each item above its average, once for the age of the event."""
    starts = platform.split.sequences.offsets[:-1]
    platform = replace(platform, split=replace(platform.split, train_end=starts + 1, valid_end=starts + 1))
    layer = LocalLayer()
    student = replace(teach(platform, asked_of(layer), "test", len(platform.catalogue)), decay=0.3)
    users = np.arange(len(platform))
    teacher = Recommender(platform, layer, others_of(platform)).scores("test", users)
    wanted = (teacher - teacher.mean(dim=1, keepdim=True)).clamp(min=0) * np.exp(-0.3)
    had = torch.from_numpy(platform.split.sequences.items[starts])
    wanted[users, had] = 0
    torch.testing.assert_close(
        StudentScorer(platform, student).scores("test", users), wanted, atol=1e-4, rtol=1e-4
    )


def test_the_comparison_is_of_both_on_the_same_shoppers(platform):
    student, comparison = distilled(platform, others_of(platform), LAYER, 30)
    assert comparison.validation.shoppers == len(platform.valid_users)
    assert comparison.test.shoppers == len(platform.test_users)
    document = json.loads(json.dumps(comparison.document()))
    assert document["bytes"]["student"] == len(student.to_bytes())
    assert document["ratios"]["size"] == document["bytes"]["student"] / document["bytes"]["teacher"]
    assert document["test"]["ndcg_kept"] == pytest.approx(comparison.test.kept)
    assert set(document["ratios"]) == {"size", "latency"}
    itself = compare(platform, StudentScorer(platform, student), asked_of(), student, 30, 1)
    assert itself.teacher_bytes == 1


def test_tables_survive_their_journey():
    student = random_student()
    back = student_from_bytes(student.to_bytes(), 0.5, 0.7)
    assert (back.near != student.near).nnz == 0
    np.testing.assert_array_equal(back.log_popularity, student.log_popularity)


@pytest.fixture
def installed(tmp_path):
    """Return a folder with a student."""
    student = random_student()
    tables = student.to_bytes()
    install_student(tmp_path, card_of(student, tables), tables)
    return tmp_path


def card_of(student, tables, **values):
    given = {
        "platform": "toys",
        "teacher": "prior",
        "encoders": ["tiny"],
        "neighbours": 3,
        "decay": student.decay,
        "popularity": student.popularity,
        "catalogue": "00" * 32,
        "tables": digest(tables),
        "item_ids": [f"i{n}" for n in range(len(student.log_popularity))],
    }
    return StudentCard(**(given | values))


def test_an_installed_student_recommends_without_platform_or_encoder(installed):
    loaded = load_student(installed)
    student = random_student()
    scores = student.scores(np.array([[2, 5]]), np.array([[2, 1]]))[0]
    order = [f"i{n}" for n in np.argsort(-scores, kind="stable") if n not in {2, 5}]
    assert loaded.recommend(["i2", "unknown", "i5"], 3) == order[:3]
    assert loaded.recommend(["i2", "i5"], 99) == order
    assert loaded.recommend([], 2) == [
        f"i{n}" for n in np.argsort(-student.log_popularity, kind="stable")[:2]
    ]


def test_the_last_student_is_current_and_only_its_owner_reads_it(installed):
    first = load_student(installed).name
    student = random_student(seed=1)
    tables = student.to_bytes()
    second = install_student(installed, card_of(student, tables), tables)
    assert load_student(installed).name == second != first
    assert install_student(installed, card_of(student, tables), tables) == second
    for path in (installed / "students").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_crash_before_it_is_current_leaves_the_old_one(installed, monkeypatch):
    first = load_student(installed).name
    monkeypatch.setattr(
        "clients.distill.installed.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    student = random_student(seed=1)
    tables = student.to_bytes()
    with pytest.raises(KeyboardInterrupt):
        install_student(installed, card_of(student, tables), tables)
    assert load_student(installed).name == first


@pytest.mark.parametrize("name", ["student.json", "student.safetensors"])
@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b" ", lambda d: b"", lambda d: d.replace(b"i", b"j", 1)]
)
def test_a_changed_student_is_refused(installed, name, change):
    folder = installed / "students" / load_student(installed).name
    data = (folder / name).read_bytes()
    assert change(data) != data
    (folder / name).write_bytes(change(data))
    with pytest.raises(FolderError, match="make the student again"):
        load_student(installed)


def test_damage_elsewhere_names_the_file_and_the_fix(installed):
    (installed / "students" / "current.json").write_text("{}")
    with pytest.raises(FolderError, match=r"current\.json.*fedcart client distill"):
        load_student(installed)
    with pytest.raises(SiteError, match="fedcart client distill"):
        load_student(installed / "students")


def test_tables_of_nonsense_are_refused_though_their_hash_is_right(tmp_path):
    student = random_student()
    bad = replace(student, log_popularity=np.full(7, np.nan, np.float32)).to_bytes()
    for tables in (bad, b"", random_student(items=5).to_bytes()):
        folder = tmp_path / str(len(tables))
        install_student(folder, card_of(student, tables), tables)
        with pytest.raises(FolderError, match="make the student again"):
            load_student(folder)
