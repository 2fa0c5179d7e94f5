"""Benchmarks: each prints a table, writes `bench/out/<name>.json`, and ends non-zero where an aim is missed."""
