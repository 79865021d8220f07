"""Figures of results/published, made from the kept CSV files."""
