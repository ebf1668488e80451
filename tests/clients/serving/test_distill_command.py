"""`fedcart client distill` from a real platform's folder: a table or JSON, an installed student, exit codes."""

import json

import pytest

from clients.distill.installed import load_student
from clients.models import InstalledModels
from fedcart import run


def test_a_member_distils_its_teacher_and_the_student_serves_alone(member, capsys):
    before = sorted(p for p in member.path.rglob("*") if p.is_file() and "students" not in p.parts)
    folder = ["--folder", str(member.path)]
    assert run(["client", "distill", "--neighbours", "5", "--format", "json", *folder]) == 0
    said = json.loads(capsys.readouterr().out)
    loaded = load_student(member.path)
    assert said["name"] == loaded.name
    assert said["student"]["teacher"] == "prior"
    assert said["student"]["encoders"] == ["tiny"]
    assert said["validation"]["shoppers"] > 0
    assert said["test"]["shoppers"] > 0
    assert said["ratios"]["size"] > 0
    assert said["ratios"]["latency"] > 0
    assert "item_ids" not in said["student"]
    assert len(loaded.recommend([loaded.card.item_ids[0]], 3)) == 3
    kept = [p for p in before if p.exists()]
    assert kept == before  # nothing of the folder was removed
    assert (
        InstalledModels(member).record().current is None
    )  # a student is no version of the federation's model

    assert run(["client", "distill", "--neighbours", "7", "--encoder", "tinier", *folder]) == 0
    table = capsys.readouterr().out
    assert "must not leave" in table
    assert "latency" in table
    assert load_student(member.path).card.encoders == ["tinier"]
    assert load_student(member.path).name != loaded.name


@pytest.mark.parametrize(
    ("more", "code"),
    [(["--encoder", "nonsense"], 2), (["--neighbours", "0"], 2), (["--folder", "nowhere"], 2)],
)
def test_what_cannot_be_used_ends_with_its_code_and_leaves_no_student(member, capsys, more, code):
    assert run(["client", "distill", "--folder", str(member.path), *more]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert not (member.path / "students").exists()
