"""What platforms reach alone: every method on every platform, full ranking, per-shopper ranks, paired tests.

    study.toml ── study.py ──────────────┐
    data folder ── platforms.py ─────────┼─ methods.py ── run.py ── cells.py ── report.py ── report.md, .json
    RecTools' environment ── rectools.py ┘                          (statistics.py, tables.py, curve.py)

A *cell* is one method on one audience with one seed: it is stored as soon as it is done, so a run that was killed
continues where it stopped. `docs/benchmarks/transfer.md` says how to read the report.
"""
