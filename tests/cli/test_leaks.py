"""A column that is the label in other words is named, also where too few rows could accuse it."""

import random


def test_a_copy_of_the_new_task_s_label_is_warned_of(mpt, tmp_path):
    rng = random.Random(0)
    rows = []
    for number in range(600):
        buy = int(rng.random() < 0.05)
        rows.append(f"{number % 97},{rng.random():.3f},{'yes' if buy else 'no'},{int(rng.random() < 0.4)},{buy}")
    (tmp_path / "shop.csv").write_text("item,price,state,click,buy\n" + "\n".join(rows) + "\n")
    (tmp_path / "shop.toml").write_text(
        'name = "shop"\nfiles = "shop.csv"\ncategorical = ["item", "state"]\nnumeric = ["price"]\n'
        'old_tasks = ["click"]\nnew_tasks = ["buy"]\n'
    )
    for words in (["fetch", "shop", "--dataset-file", "shop.toml"], ["validate", "shop", "--dataset-file", "shop.toml"],
                  ["check-dataset", "shop.toml"]):  # fmt: skip
        result = mpt(*words)
        assert result.code == 0 and "feature 'state' alone predicts task 'buy' with AUC 1.0000" in result.text
        assert "'item' alone" not in result.text and "'price' alone" not in result.text
