"""Tables, figures and statistics from records. Reads nothing else and imports neither torch nor, until it draws,
matplotlib.

`build` writes everything, `check` says which written files differ from what the records give, `compare` puts new
runs beside the records of another tree.
"""

from __future__ import annotations

from benchmark.report.build import LEFT_OVER, Report, build, check, compare, report

__all__ = ["LEFT_OVER", "Report", "build", "check", "compare", "report"]
