"""Which tasks datasets offer, in which order they may arrive, and the splits that only some of them have."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.core.errors import DataError, DataUnavailable, UsageError
from datasets_registry import DATASETS, find, kuairand, prepare, validate
from datasets_registry.base import Dataset, Feature
from datasets_registry.schema import Task


def write_log(path, times, seed, random=False):
    """A log of rows at these times; 7 users, 5 videos; video 4 has no length."""
    rng = np.random.default_rng(seed)
    lines = [",".join(kuairand.LOG)]
    for time in times:
        video = int(rng.integers(5))
        row = dict.fromkeys(kuairand.LOG, 0) | {name: int(rng.random() < 0.4) for name in kuairand.FLAGS.values()}
        row |= {"user_id": int(rng.integers(7)), "video_id": video, "time_ms": time, "date": 20220501, "hourmin": 1300}
        row |= {"duration_ms": 0 if video == 4 else 100, "play_time_ms": int(rng.integers(50, 150))}
        row |= {"comment_stay_time": int(rng.random() < 0.3) * 40, "is_rand": int(random)}
        lines.append(",".join(str(row[name]) for name in kuairand.LOG))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def logs(tmp_path):
    write_log(tmp_path / "log_standard_4_08_to_4_21_pure.csv", range(0, 300), 1)
    write_log(tmp_path / "log_standard_4_22_to_5_08_pure.csv", range(300, 600), 2)
    for name, layout in (("user_features", kuairand.user_layout()), ("video_features_basic", kuairand.video_layout())):
        lines = [",".join(column.name for column in layout.columns)]
        lines += [",".join([str(key), *("1" for _ in layout.columns[1:])]) for key in range(7)]
        (tmp_path / f"{name}_pure.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_kuairand_labels_follow_the_log(logs):
    data = prepare("kuairand_pure", data_dir=logs)
    text = (logs / "log_standard_4_08_to_4_21_pure.csv").read_text().splitlines()
    rows = [dict(zip(kuairand.LOG, map(int, line.split(",")), strict=True)) for line in text[1:]]
    complete = [np.nan if r["duration_ms"] == 0 else float(r["play_time_ms"] >= r["duration_ms"]) for r in rows]
    assert np.array_equal(data.labels("train", "complete")[:300], complete, equal_nan=True)
    assert data.labels("train", "comment_read")[:300].tolist() == [float(r["comment_stay_time"] > 0) for r in rows]
    inputs = {f.name for f in data.schema(()).categorical} | set(data.schema(()).numeric)
    assert not inputs & {"play_time_ms", "profile_stay_time", "comment_stay_time"}


def test_unbiased_test_set_has_the_training_rows_of_time_and_random_exposures_after_them(logs):
    with pytest.raises(DataUnavailable, match="log_random_4_22_to_5_08_pure.csv"):
        prepare("kuairand_pure@unbiased", data_dir=logs, fetch=False)
    by_time = prepare("kuairand_pure", data_dir=logs)
    write_log(logs / "log_random_4_22_to_5_08_pure.csv", range(400, 700), 3, random=True)
    assert prepare("kuairand_pure", data_dir=logs).directory == by_time.directory, "a file that is not read matters"
    unbiased = prepare("kuairand_pure@unbiased", data_dir=logs)
    schema = by_time.schema(())
    for which in ("train", "valid"):
        assert np.array_equal(by_time.split(which, schema).categorical(), unbiased.split(which, schema).categorical())
        for task in by_time.tasks:
            first, second = by_time.labels(which, task), unbiased.labels(which, task)
            assert np.array_equal(first, second, equal_nan=True)
    assert by_time.rows("valid") == 60 and unbiased.rows("test") == 700 - 540
    assert validate("kuairand_pure@unbiased", data_dir=logs) == []


def test_the_last_fourteen_days_are_the_same_data_whatever_files_and_order_hold_them(logs, tmp_path_factory):
    """A reader with the official archive has to be able to check results that were measured on a copy of a part."""
    late, early = (logs / f"log_standard_{days}_pure.csv" for days in ("4_22_to_5_08", "4_08_to_4_21"))
    early.write_text(early.read_text().replace("20220501", "20220421"))
    head, *rows = late.read_text().splitlines()
    late.write_text("\n".join([head, *(row.replace("20220501", "20220424") for row in rows[:40]), *rows[40:]]) + "\n")
    official = prepare("kuairand_pure@last14days", data_dir=logs)
    assert sum(official.meta["rows"].values()) == 260

    part = tmp_path_factory.mktemp("part")
    for side in logs.glob("*features*"):
        (part / side.name).write_text(side.read_text())
    kept = list(reversed(rows[40:]))
    (part / "log_standard_4_25_to_5_08_pure.csv").write_text("\n".join([head, *kept]) + "\n")
    assert prepare("kuairand_pure@last14days", data_dir=part).fingerprint == official.fingerprint
    assert prepare("kuairand_pure", data_dir=part).fingerprint != official.fingerprint, "order matters without it"


@pytest.mark.parametrize(
    ("table", "column", "cell", "says"),
    [
        ("video_features_basic", "tag", "sport", "'sport' is no list of whole numbers"),
        ("video_features_basic", "tag", "1_0", "'1_0' is no list of whole numbers"),
        ("user_features", "follow_user_num", "inf", "'inf' is not finite"),
        ("user_features", "fans_user_num", "1e400", "'1e400' is not finite"),
    ],
)
def test_an_impossible_cell_of_users_or_videos_is_named_by_both_commands(logs, table, column, cell, says):
    path = logs / f"{table}_pure.csv"
    lines = path.read_text().splitlines()
    row = lines[3].split(",")
    row[lines[0].split(",").index(column)] = cell
    lines[3] = ",".join(row)
    path.write_text("\n".join(lines) + "\n")
    (found,) = validate("kuairand_pure", data_dir=logs)
    assert found == f"{path}, line 4, column {column}: {says}"
    with pytest.raises(DataError, match=f"{path.name}, line 4, column {column}: {says}.*validate kuairand_pure"):
        prepare("kuairand_pure", data_dir=logs)


def test_impossible_hour_is_named(logs):
    path = logs / "log_standard_4_08_to_4_21_pure.csv"
    path.write_text(path.read_text().replace(",1300,", ",9900,", 1))
    assert any(
        "line 2, column hourmin: '9900' is above 2359" in problem
        for problem in validate("kuairand_pure", data_dir=logs)
    )


def test_a_users_own_order_splits_where_there_is_no_time(tmp_path):
    head = "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age"
    rows = [(user, item) for item in range(40) for user in range(9)]  # item numbers grow along each user's rows
    lines = [f"{user},{item},{item % 2},0,{int(item % 3 == 0)},{int(user % 4 == 0)},1,2,1,1" for user, item in rows]
    (tmp_path / "ctr_data_1M.csv").write_text("\n".join([head, *lines]) + "\n")
    data = prepare("tenrec_ctr_1m@user_order", data_dir=tmp_path)
    assert any("incomplete raw files: 360 of 120,342,306" in warning for warning in data.warnings)
    schema, items = data.schema(()), {}
    place = [f.name for f in schema.categorical].index("item_id")
    for which in ("train", "valid", "test"):
        codes = data.split(which, schema).categorical()[:, place] - schema.offsets[place]
        items[which] = {data.vocabularies["item_id"][code - 2] if code > 1 else None for code in codes}
    assert items["test"] == items["valid"] == {None}  # every user's last two items are new to training
    assert data.rows("test") == data.rows("valid") == 9 and items["train"] == set(range(38))


def test_the_cards_name_what_comes_from_the_hub():
    from datasets_registry.cards import HUB
    from datasets_registry.raw.manifest import load_manifest

    manifests = {name: manifest for name in DATASETS if (manifest := find(name).manifest)}
    there = {
        name
        for name, manifest in manifests.items()
        if any("huggingface.co" in str(mirror) for mirror in load_manifest(manifest).mirrors)
    }
    assert there == {"criteo_attribution", "vk_lsvd"} and all(f"`{name}`" in HUB for name in there)
    index = (Path(__file__).parents[2] / "docs" / "datasets" / "README.md").read_text(encoding="utf-8")
    assert HUB in index and all(f"[{name}]({name}.md)" in index for name in DATASETS)


def test_movielens_says_that_it_is_a_toy():
    for name in ("movielens_100k", "movielens_1m"):
        dataset = find(name)
        assert dataset.toy and "toy" in dataset.title


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_partitions_and_chains_are_of_the_datasets_own_tasks(name):
    dataset = find(name)
    assert not set(dataset.chain) & set(dataset.old_tasks) and len(set(dataset.chain)) == len(dataset.chain)
    assert set(dataset.old_tasks) <= set(dataset.candidates or [task.name for task in dataset.tasks])


def test_a_chain_of_unknown_tasks_is_refused():
    with pytest.raises(UsageError, match="name no task: b"):
        Dataset("x", "", (Task("a"),), ("a",), (), (Feature("f"),), chain=("b",))


def test_broken_rows_of_a_log_are_left_out_and_each_is_said(logs):
    path = logs / "log_standard_4_22_to_5_08_pure.csv"
    lines = path.read_text().splitlines()
    lines[7] += ",5"
    lines[250] = "1,2"
    path.write_text("\n".join(lines) + "\n")
    data = prepare("kuairand_pure", data_dir=logs, chunk_rows=50)  # the two are in different blocks
    assert data.meta["rows_read"] == 598 and validate("kuairand_pure", data_dir=logs) == []
    assert [warning for warning in data.warnings if "left out" in warning] == [
        f"{path.name}: line 8 is left out, it has 20 cells instead of 19.",
        f"{path.name}: line 251 is left out, it has 2 cells instead of 19.",
    ]
    path.write_text("\n".join([lines[0], *(line + ",5" for line in lines[1:])]) + "\n")
    with pytest.raises(DataError, match="line 2: 20 columns, expected 19"):
        prepare("kuairand_pure", data_dir=logs)


def test_an_id_that_stands_twice_is_refused(logs):
    path = logs / "video_features_basic_pure.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[3] + "\n")
    with pytest.raises(DataError, match="column video_id: 2 occurs twice"):
        prepare("kuairand_pure", data_dir=logs)
