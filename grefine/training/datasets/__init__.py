"""Rated pictures on disk: readers of the published sets and of tables, splits, leakage."""
