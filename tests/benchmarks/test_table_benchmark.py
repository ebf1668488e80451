"""The benchmark of the product table's sums, small."""

import json

from typer import Typer
from typer.testing import CliRunner

from benchmarks.table import main


def test_it_measures_both_sums_against_one_pass():
    app = Typer()
    app.command()(main)
    asked = ["--format", "json", "--shoppers", "300", "--products", "50", "--near", "4"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["rows"]) == 3
    assert all(row["ratio"] > 0 for row in found["rows"])
    assert found["edges_met"] > 20
    assert found["products_met"] > 20
