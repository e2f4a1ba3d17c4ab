"""My Method keeps its promises: `python -m pytest test_my_method.py` or `run_all.py check-method my_method.py`."""

from pathlib import Path

from benchmark.kit.check_method import check
from methods import METHODS

FILE = Path(__file__).with_name("my_method.py")


def test_conforms():
    METHODS.load_file(FILE)
    failed = [f"{c.name}: {c.reason} ({c.hint})" for c in check(METHODS.get("my_method")) if c.passed is False]
    assert not failed, "\n".join(failed)
