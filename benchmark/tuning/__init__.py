"""Searches configs on validation rows, equal trials for every method."""
