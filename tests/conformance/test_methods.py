"""Every registered method passes the conformance kit."""

import pytest

from benchmark.kit.check_method import check
from methods import METHODS


@pytest.mark.parametrize("name", list(METHODS))
def test_method_conforms(name):
    failed = [f"{c.name}: {c.reason} ({c.hint})" for c in check(METHODS.get(name)) if c.passed is False]
    assert not failed, "\n".join(failed)
