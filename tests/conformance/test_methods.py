"""Every registered method passes the conformance kit."""

import pytest

from methods import METHODS
from methods.conformance import check


@pytest.mark.parametrize("name", list(METHODS))
def test_method_conforms(name):
    failed = [f"{c.name}: {c.reason} ({c.hint})" for c in check(METHODS.get(name)) if c.passed is False]
    assert not failed, "\n".join(failed)
