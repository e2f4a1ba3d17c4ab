"""The page on adding a method says what happens: its commands are run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-method.md"


def test_the_pages_commands_lead_to_a_table_row(mpt, tmp_path):
    commands = re.findall(r"```bash\npython run_all.py (.*)\n```", PAGE.read_text())
    assert len(commands) == 3
    for command in commands:
        result = mpt(*shlex.split(command))
        assert result.code == 0, result.text
    assert "My Method" in (tmp_path / "results/smoke/tables/new_task-synthetic.csv").read_text()
    assert (tmp_path / "test_my_method.py").is_file()


RETURN = "return {name: tower(shared) for name, tower in self.towers.items()}"
PLANTED = {
    "new_parameters": (
        "return [self.towers[task.name]]", "return list(self.towers.values())", "a new task leaves the old ones alone"),
    "shape": ("tower(shared) for", "tower(shared).unsqueeze(-1) for", "logits are finite and one per row"),
    "in_place": (
        "shared = self.shared(self.embed(batch))",
        "batch.numeric.mul_(1.5)\n        shared = self.shared(self.embed(batch))",
        "inputs are left alone"),
    "past_torch": (
        "shared = self.shared(self.embed(batch))",
        "batch.numeric.data.mul_(1.5)\n        shared = self.shared(self.embed(batch))",
        "inputs are left alone"),
    "peeking": (
        "tower(shared) for", "tower(shared - shared.mean(0)) for",
        "row order and batch size do not change predictions"),
    "labels": (
        RETURN, RETURN.replace("tower(shared)", "tower(shared) + 5 * batch.labels.get(name, 0)"),
        "forward reads the inputs alone"),
    "far": (
        "shared = self.shared(self.embed(batch))",
        "numeric = batch.numeric.where(batch.numeric.abs() < 6, float('nan'))\n"
        "        shared = self.shared(self.embed(batch)) + numeric.sum(1, keepdim=True)",
        "logits stay finite far from the mean"),
    "index": (
        RETURN, RETURN.replace("tower(shared)", "tower(shared) + (0 if batch.index is None else 0.1 * batch.index)"),
        "forward reads the inputs alone"),
    "sigmoid": ("tower(shared) for", "tower(shared).sigmoid() for", "outputs are logits"),
    "double": ("tower(shared) for", "tower(shared).double() for", "logits are finite and one per row"),
    "zero": (
        RETURN,
        RETURN.replace("tower(shared)", "tower(shared) + 0.0 * sum(self.towers[t](shared) for t in self.new_tasks)"),
        "old tasks do not read what is new"),
}  # fmt: skip
"""Mistakes in the skeleton: what stands there, what stands there instead, and the first check that has to see it."""


@pytest.mark.parametrize("mistake", PLANTED)
def test_the_kit_finds_what_is_wrong_with_a_method(mpt, tmp_path, mistake):
    name = f"kit_{mistake}"
    right, wrong, expected = PLANTED[mistake]
    assert mpt("new-method", name).code == 0
    file = tmp_path / f"{name}.py"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, wrong))
    quick = [] if mistake == "new_parameters" else ["--quick"]
    result = mpt("check-method", file, *quick)
    failed = [line.split("FAIL")[1].split(":")[0].strip() for line in result.text.splitlines() if "FAIL" in line]
    assert result.code == 1 and failed and failed[0] == expected, result.text
    assert "hint:" in result.text


def test_what_follows_from_a_first_cause_is_marked_and_not_run(mpt, tmp_path):
    assert mpt("new-method", "kit_cause").code == 0
    file = tmp_path / "kit_cause.py"
    file.write_text(file.read_text().replace("tower(shared) for", "tower(shared).unsqueeze(-1) for"))
    text = mpt("check-method", file).text
    assert text.count("FAIL") == 1 and text.count("not run, since 'logits are finite and one per row' failed") > 10


def test_names_that_cannot_be_are_refused(mpt):
    assert mpt("new-method", "../evil").code == 2
    assert "already" in mpt("new-method", "mpt_rec").text
