"""Conformance kits and skeletons for people who add a method or a dataset."""
