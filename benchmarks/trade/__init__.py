"""Does joining pay within a trade? Five shops, four of which share a product table with the fifth.

data folder ── shops.py ── tables.py ── serve.py ── study.py (a cell) ── report.py, curve.py
"""
