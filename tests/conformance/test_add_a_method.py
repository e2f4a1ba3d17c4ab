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
    assert "my_method" in (tmp_path / "results/smoke/tables/new_task-synthetic.csv").read_text()
    assert (tmp_path / "test_my_method.py").is_file()


BROKEN = {
    "kit_wrong_new_task": ("return [self.towers[task.name]]", "return list(self.towers.values())"),
    "kit_wrong_shape": ("tower(shared) for", "tower(shared).unsqueeze(-1) for"),
    "kit_peeking": ("tower(shared) for", "tower(shared - shared.mean(0)) for"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_the_kit_finds_what_is_wrong_with_a_method(mpt, tmp_path, name):
    assert mpt("new-method", name).code == 0
    file, (right, wrong) = tmp_path / f"{name}.py", BROKEN[name]
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, wrong))
    result = mpt("check-method", file)
    assert result.code == 1 and "FAIL" in result.text and "hint:" in result.text


def test_names_that_cannot_be_are_refused(mpt):
    assert mpt("new-method", "../evil").code == 2
    assert "already" in mpt("new-method", "mpt_rec").text
