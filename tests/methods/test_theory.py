"""The findings of docs/theory.md, measured again."""

import pytest

from tests.methods.theory import CLAIMS, PAGE


@pytest.fixture(scope="module", autouse=True)
def small_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_what_the_page_says_is_found_again(claim):
    first, second = claim.first.auc(), claim.second.auc()
    assert claim.found(first, second), f"{first:.4f} against {second:.4f}, margin {claim.margin}"


def test_the_page_has_a_row_for_every_claim_with_its_finding():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    written = {row[0]: row[-1] for row in rows[2:]}
    assert written == {claim.name: "holds" if claim.holds else "not seen" for claim in CLAIMS}
