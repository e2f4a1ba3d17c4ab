"""Carries out a plan: processes, locks, limits, verification."""
