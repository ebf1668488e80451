"""What every party of a federation agrees on: item features, the model, its exchange spec, metrics."""
