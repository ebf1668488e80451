"""SuperLink is not started where its control interface would stand open."""

import pytest
from flwr.superlink import extensions

from server import superlink


def test_without_flower_s_hook_nothing_is_started(monkeypatch):
    monkeypatch.delattr(extensions, "get_middleware")
    monkeypatch.setattr(superlink, "flower_superlink", lambda: pytest.fail("it was started"))
    monkeypatch.setattr(superlink.sys, "argv", ["superlink", "folder"])
    with pytest.raises(SystemExit, match="nothing is started"):
        superlink.main()
