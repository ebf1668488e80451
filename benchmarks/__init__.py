"""Benchmarks: what fedcart is worth and what it costs, measured against baselines in the same run."""
