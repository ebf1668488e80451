"""Many clients and a server in one process or on Ray: scenarios, comparisons, reports."""
