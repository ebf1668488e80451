"""The picture of ε over rounds shows the ledger's numbers."""

import pytest

from privacy.plot import _draw

figure = pytest.importorskip("matplotlib.figure")


def moment(release, kind, epsilon, cap):
    return {"release": release, "kind": kind, "epsilon": epsilon, "cap": cap}


def test_it_shows_epsilon_cap_and_refusals_over_rounds():
    history = [
        moment(0, "open", 0.0, 2.0),
        moment(1, "reserve", 1.1, 2.0),
        moment(1, "settle", 1.1, 2.0),
        moment(2, "reserve", 1.4, 2.0),
        moment(2, "refuse", 1.4, 2.0),
        moment(2, "cap", 1.4, 1.0),
    ]
    axes = figure.Figure().subplots()
    _draw(axes, {"population": "a_b_c", "delta": 1e-6, "history": history})
    epsilon, cap, refused = axes.get_lines()
    assert list(epsilon.get_xdata()) == list(cap.get_xdata()) == [0, 1, 1, 2, 2, 2]
    assert list(epsilon.get_ydata()) == [0.0, 1.1, 1.1, 1.4, 1.4, 1.4]
    assert list(cap.get_ydata()) == [2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    assert (list(refused.get_xdata()), list(refused.get_ydata())) == ([2], [2.0])
    assert axes.get_title() == "a_b_c (δ = 1e-06)"
    assert axes.get_legend() is not None
