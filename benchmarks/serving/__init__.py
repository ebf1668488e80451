"""What serving costs, as ratios in one run, and whether it holds under load and faults."""
