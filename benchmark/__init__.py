"""The harness: plans runs, executes them, measures them, keeps the records and tells what they say."""

__version__ = "0.1.0"
