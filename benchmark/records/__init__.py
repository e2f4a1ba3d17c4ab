"""The record of a run: its fields, its provenance, whether it is fresh."""
