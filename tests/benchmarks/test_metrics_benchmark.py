"""The benchmark of metrics runs, and its two ways of ranking find the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_small_run_prints_ratios_and_where_they_come_from():
    command = [sys.executable, "-m", "benchmarks.metrics", "--format", "json"]
    sizes = ["--items", "3000", "--shoppers", "60", "--baseline-shoppers", "40", "--width", "16"]
    done = subprocess.run(command + sizes, cwd=PROJECT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["same_values"]
    assert set(result["ratios"]) == {"ranking_time", "peak_rss"}
    assert all(ratio > 0 for ratio in result["ratios"].values())
    assert result["ours_whole"]["shoppers"] == 60
    assert {"commit", "versions", "machine"} <= set(result["provenance"])
