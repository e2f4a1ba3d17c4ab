"""Puts into the wheel what lies outside the packages: reference results (records and tables) and documentation.

Everything else stands in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SHIPPED = {
    "reference": (
        "results/reference",
        ("*/suite.json", "*/LOG.md", "*/report.html", "*/runs/**/record.json", "*/tables/**/*.*"),
    ),
    "docs": ("docs", ("**/*.md",)),
}


class BuildWithResults(build_py):
    """Copies to benchmark/shipped/ of the wheel; an editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for name, (folder, patterns) in SHIPPED.items():
            for pattern in patterns:
                for path in sorted((HERE / folder).glob(pattern)):
                    target = Path(self.build_lib) / "benchmark" / "shipped" / name / path.relative_to(HERE / folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithResults})
