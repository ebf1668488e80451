"""RecTools' models as baselines, in an environment of their own (`make bench-env`)."""
