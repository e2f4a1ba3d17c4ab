"""Every registered method passes the conformance kit."""

import pytest

from benchmark.kit import processes
from benchmark.kit.check_method import check
from methods import METHODS


@pytest.mark.parametrize("name", list(METHODS))
def test_method_conforms(name):
    apart = (processes.another_process_builds_the_same_model,)  # tested for all at once, with the planted faults
    failed = [f"{c.name}: {c.reason} ({c.hint})" for c in check(METHODS.get(name), apart=apart) if c.passed is False]
    assert not failed, "\n".join(failed)
