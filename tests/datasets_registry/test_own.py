"""A schema file of a dozen lines makes CSV and Parquet first-class; every fault of a file is named."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmark.core.errors import BenchmarkError, DataError, DataUnavailable, UsageError
from datasets_registry import availability, prepare, validate
from datasets_registry.schema_file import read_schema

SCHEMA = """
name = "my_shop"
files = "shop.csv"
categorical = ["user", "country"]
numeric = ["price"]
tags = { genres = "|" }
time = "when"
group = "user_number"
ignore = ["note"]
old_tasks = ["click"]
new_tasks = ["purchase"]
[tasks.purchase]
space = "click"
"""
HEADER = "user,country,price,genres,when,user_number,note,click,purchase"


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    click = rng.random(n) < 0.4
    buy = click & (rng.random(n) < 0.5)
    return [
        f'u{rng.integers(30)},{"NA" if i % 5 else ""},{rng.random():.3f},"a|b{i % 3}",{1000 + i},{i % 30},"x, y",'
        f"{int(click[i])},{int(buy[i])}"
        for i in range(n)
    ]


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.toml").write_text(SCHEMA)
    (tmp_path / "shop.csv").write_text("\n".join([HEADER, *rows()]) + "\n")
    return tmp_path


def test_csv(shop):
    dataset = read_schema(shop / "shop.toml")
    assert availability(dataset)[0] == "local" and validate(dataset) == []
    data = prepare(dataset)
    assert sum(data.meta["rows"].values()) == 300
    schema = data.schema(data.tasks)
    assert [f.length for f in schema.categorical] == [1, 1, 8] and schema.columns == 10
    assert data.vocabularies["country"] == ["NA"] and data.vocabularies["genres"] == ["a", "b0", "b1", "b2"]
    codes = data.split("train", schema).categorical()
    country = codes[:, 1] - schema.offsets[1]
    assert set(country) == {0, 2}  # empty is missing, the text NA is a value
    assert (codes[:, 4:] == schema.offsets[2]).all()  # two tags of eight, then padding
    clicked = data.labels("train", "click") == 1
    assert np.array_equal(~np.isnan(data.labels("train", "purchase")), clicked)


def test_a_funnel_is_declared_by_name(shop):
    path = shop / "shop.toml"
    path.write_text(SCHEMA.replace('[tasks.purchase]\nspace = "click"', 'funnel = ["click", "purchase"]'))
    assert read_schema(path).funnel == ("click", "purchase")
    path.write_text(SCHEMA.replace("[tasks", 'funnel = ["click", "purchas"]\n[tasks'))
    with pytest.raises(UsageError, match=r"(?s)funnel.*'purchas'.*purchase"):
        read_schema(path)


def test_a_step_without_the_one_before_it_is_counted_and_said(shop):
    text = SCHEMA.replace('[tasks.purchase]\nspace = "click"', 'funnel = ["click", "purchase"]')
    (shop / "shop.toml").write_text(text)
    assert not any("funnel" in warning for warning in prepare(read_schema(shop / "shop.toml")).warnings)
    table = (shop / "shop.csv").read_text()
    bought = table.count(",1,1\n")
    (shop / "shop.csv").write_text(table.replace(",0,0\n", ",0,1\n", 3))
    (said,) = [warning for warning in prepare(read_schema(shop / "shop.toml")).warnings if "funnel" in warning]
    assert said.startswith(f"3 of the {bought + 3} rows with 'purchase' are without 'click'")


def test_parquet_gives_the_same_arrays_as_csv(shop):
    import csv

    with open(shop / "shop.csv") as file:
        table = list(csv.DictReader(file))
    columns = {name: [row[name] for row in table] for name in HEADER.split(",")}
    for name in ("when", "user_number", "click", "purchase"):
        columns[name] = [int(cell) for cell in columns[name]]
    columns["price"] = [float(cell) for cell in columns["price"]]
    columns["country"] = [cell or None for cell in columns["country"]]
    pa.parquet.write_table(pa.table(columns), shop / "shop.parquet", row_group_size=50)
    (shop / "other.toml").write_text(SCHEMA.replace("shop.csv", "shop.parquet"))
    by_csv, by_parquet = (
        prepare(read_schema(shop / "shop.toml")),
        prepare(read_schema(shop / "other.toml"), chunk_rows=7),
    )
    assert by_csv.fingerprint == by_parquet.fingerprint


def test_time_split_keeps_order(shop):
    (shop / "shop.toml").write_text(SCHEMA.replace("old_tasks", 'split = "time"\nold_tasks', 1))
    data = prepare(read_schema(shop / "shop.toml"))
    assert data.meta["rows"] == {"train": 240, "valid": 30, "test": 30}


def test_leak_is_refused(shop):
    leaky = [re.sub(r"^u\d+", f"{'yes' if row.split(',')[-2] == '1' else 'no'}", row) for row in rows(2000)]
    (shop / "shop.csv").write_text("\n".join([HEADER, *leaky]) + "\n")
    with pytest.raises(DataError, match="feature 'user' alone predicts task 'click'.*allow_leaks"):
        prepare(read_schema(shop / "shop.toml"))
    assert not list(shop.glob("cache/encoded/my_shop/*/meta.json"))


def hostile(text, change):
    lines = text.splitlines(keepends=True)
    return change(lines)


CASES = {
    "label": (lambda t: t.replace(",0,0\n", ",2,0\n", 1), r"line \d+, column click: '2' is above 1"),
    "ragged": (lambda t: hostile(t, lambda x: "".join([*x[:4], "a,b\n", *x[4:]])), "line 5: 2 columns, expected 9"),
    "text": (lambda t: hostile(t, lambda x: "".join([*x[:2], "u1,,dear,a,1,1,n,0,0\n", *x[2:]])),
             "line 3, column price: 'dear' is no number"),
    "beyond int64": (lambda t: t + f"u1,,1,a,{10**20},1,n,0,0\n", "line 302, column when: .* does not fit"),
    "empty": (lambda t: "", "the file is empty"),
    "header only": (lambda t: HEADER + "\n", "holds no rows"),
    "missing column": (lambda t: t.replace("price,", "cost,", 1), "missing columns: price; unknown columns: cost"),
    "extra column": (lambda t: t.replace("note,", "note,more,", 1), "line 1: unknown columns: more"),
    "duplicate": (lambda t: t.replace("note,", "price,", 1), "line 1: duplicate columns: price"),
    "infinite": (lambda t: t + "u1,,inf,a,1,1,n,0,0\n", "line 302, column price: 'inf' is not finite"),
    "too large": (lambda t: t + "u1,,1e400,a,1,1,n,0,0\n", "line 302, column price: '1e400' is not finite"),
    "underscore": (lambda t: t + "u1,,1,a,1_0,1,n,0,0\n", "line 302, column when: '1_0' is no whole number"),
    "25 digits": (lambda t: t + f"u1,,1,a,{'9' * 25},1,n,0,0\n", "line 302, column when: .* does not fit"),
    "no time": (lambda t: t + "u1,,1,a,inf,1,n,0,0\n", "line 302, column when: 'inf' is no whole number"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_hostile_file(shop, case):
    change, says = CASES[case]
    (shop / "shop.csv").write_bytes(change((shop / "shop.csv").read_text()).encode())
    dataset = read_schema(shop / "shop.toml")
    with pytest.raises(DataError, match=f"shop.csv.*{says}"):
        prepare(dataset)
    assert any(re.search(says, problem) for problem in validate(dataset))
    left = [path.name for path in shop.glob("cache/encoded/my_shop/*") if not path.name.endswith(".lock")]
    assert left == [], "a half-written cache is left"


def test_wrong_encoding_names_the_line(shop):
    content = (shop / "shop.csv").read_bytes().split(b"\n")
    content[7] = content[7].replace(b"NA", "Köln".encode("latin-1"))
    (shop / "shop.csv").write_bytes(b"\n".join(content))
    with pytest.raises(DataError, match="line 8: not UTF-8"):
        prepare(read_schema(shop / "shop.toml"))


def test_gzip_cut_in_half(shop):
    import gzip

    whole = gzip.compress((shop / "shop.csv").read_bytes())
    (shop / "shop.csv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="shop.csv.*damaged or cut off"):
        prepare(read_schema(shop / "shop.toml"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('categorical = ["user"', 'categoricals = ["user"', "Unknown key 'categoricals'. Did you mean 'categorical'"),
        ("shop.csv", "shap.csv", "which is no file"),
        ('"country"]', '"country", "click"]', "a label is among the features: click"),
        ("[tasks.purchase]", "[tasks.purchases]", "Did you mean 'purchase'"),
        ('space = "click"', "spaces = 1", "spaces"),
        ('name = "my_shop"', "name = my_shop", "no readable schema file"),
    ],
)
def test_faulty_schema_file(shop, old, new, says):
    (shop / "shop.toml").write_text(SCHEMA.replace(old, new, 1))
    with pytest.raises((UsageError, BenchmarkError), match=re.escape(says)):
        read_schema(shop / "shop.toml")


def test_copy_on_the_hub_at_a_pinned_commit(shop, monkeypatch):
    """The library is the real one; only its way to the network is replaced by the same rows from a file."""
    import datasets

    asked = []
    real = datasets.load_dataset

    def load(path, revision, split, **more):
        asked.append((path, revision, split, *more.items()))
        files = str(shop / "shop.csv")
        kinds = {name: datasets.Value("string") for name in ("user", "country", "genres", "note")}
        kinds |= {name: datasets.Value("int64") for name in ("when", "user_number", "click", "purchase")}
        features = datasets.Features({name: kinds.get(name, datasets.Value("float64")) for name in HEADER.split(",")})
        cache = str(shop / "hf")
        streaming = more.get("streaming", False)
        return real("csv", data_files=files, split="train", features=features, cache_dir=cache, keep_default_na=False,
                    streaming=streaming)  # fmt: skip

    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0123456789" * 4
    text = SCHEMA.replace('files = "shop.csv"', f'hub = "somebody/shop"\nrevision = "{commit}"\nfiles = "train"')
    (shop / "hub.toml").write_text(text)
    dataset = read_schema(shop / "hub.toml")
    assert availability(dataset)[0] == "fetchable"
    data = prepare(dataset)
    assert asked == [("somebody/shop", commit, "train")]
    here = prepare(read_schema(shop / "shop.toml"))
    for which in ("train", "valid", "test"):
        for task in ("click", "purchase"):
            assert np.array_equal(data.labels(which, task), here.labels(which, task), equal_nan=True)
    (shop / "hub.toml").write_text('config = "small"\ndata_files = "shop/*.csv"\nstreaming = true\n' + text)
    streamed = prepare(read_schema(shop / "hub.toml"))
    more = (("name", "small"), ("data_files", "shop/*.csv"), ("streaming", True))
    assert asked[1:] == [("somebody/shop", commit, "train", *more)] and streamed.directory != data.directory
    assert streamed.fingerprint == data.fingerprint
    (shop / "hub.toml").write_text(text.replace(commit, "main"))
    with pytest.raises(UsageError, match="cannot move"):
        read_schema(shop / "hub.toml")


def test_hub_out_of_reach_is_a_skip(shop, monkeypatch):
    import datasets

    def load(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    hub = f'hub = "somebody/shop"\nrevision = "{"0" * 40}"\nfiles = "train"'
    (shop / "hub.toml").write_text(SCHEMA.replace('files = "shop.csv"', hub))
    with pytest.raises(DataUnavailable, match="somebody/shop at 0000.*no route"):
        prepare(read_schema(shop / "hub.toml"))


def test_regression_and_undefined_labels(shop):
    lines = (shop / "shop.csv").read_text().splitlines()
    lines[1:] = [re.sub(r",(\d),(\d)$", lambda m: f",{'' if int(m[1]) else 0.5},{m[2]}", line) for line in lines[1:]]
    (shop / "shop.csv").write_text("\n".join(lines) + "\n")
    text = SCHEMA.partition("[tasks")[0] + '[tasks.click]\nkind = "regression"\n'
    (shop / "shop.toml").write_text(text)
    data = prepare(read_schema(shop / "shop.toml"))
    labels = data.labels("train", "click")
    assert data.tasks["click"].partial and not data.tasks["purchase"].partial
    assert 0.2 < np.isnan(labels).mean() < 0.6 and set(labels[~np.isnan(labels)]) == {0.5}


def test_files_as_spreadsheets_write_them_are_the_same_data(shop):
    plain = prepare(read_schema(shop / "shop.toml"))
    text = (shop / "shop.csv").read_text()
    with_mark = "\ufeff" + text.replace("\n", "\r\n")
    indexed = "".join(f"{'' if i == 0 else i},{line}\n" for i, line in enumerate(text.splitlines()))
    spread = re.sub(r'("[^"]*")|,', lambda m: m[1] or ";", text)  # semicolons between cells, commas inside quotes stay
    spread = re.sub(r"(\d)\.(\d)", r"\1,\2", spread)
    for content, option in ((with_mark, ""), (indexed, ""), (spread, 'decimal = ","\n')):
        (shop / "shop.csv").write_text(content, newline="")
        (shop / "shop.toml").write_text(option + SCHEMA)
        dataset = read_schema(shop / "shop.toml")
        assert validate(dataset) == [] and prepare(dataset).fingerprint == plain.fingerprint


def test_patterns_take_the_columns_that_no_other_key_names(shop):
    lines = (shop / "shop.csv").read_text().splitlines()
    more = [",".join([line, *(f"{name}{i}" if k == 0 else str(k + i) for name in ("f_", "x_") for i in range(40))])
            for k, line in enumerate(lines)]  # fmt: skip
    (shop / "shop.csv").write_text("\n".join(more) + "\n")
    text = SCHEMA.replace('numeric = ["price"]', 'numeric = ["pri*", "f_*"]').replace('["note"]', '["*"]')
    (shop / "shop.toml").write_text(text)
    data = prepare(read_schema(shop / "shop.toml"))
    assert data.schema(()).numeric == ("price", *(f"f_{i}" for i in range(40)))
    (shop / "shop.toml").write_text(text.replace("f_*", "g_*"))
    with pytest.raises(UsageError, match=r"numeric: no column .* fits 'g_\*'"):
        read_schema(shop / "shop.toml")


def test_a_quoted_cell_may_go_over_lines_for_validate_as_for_fetch(shop):
    text = (shop / "shop.csv").read_text().replace('"x, y"', '"x,\n""y"""', 7)
    (shop / "shop.csv").write_text(text)
    dataset = read_schema(shop / "shop.toml")
    assert validate(dataset) == [] and sum(prepare(dataset).meta["rows"].values()) == 300
    (shop / "shop.csv").write_text(text + "u1,,dear,a,1,1,n,0,0\n")
    assert validate(dataset) == [f"{shop / 'shop.csv'}, line 309, column price: 'dear' is no number"]


def test_every_bad_row_is_listed(shop):
    lines = (shop / "shop.csv").read_text().splitlines()
    lines[1:] = [re.sub(r",\d$", ",7", line) for line in lines[1:]]
    (shop / "shop.csv").write_text("\n".join(lines) + "\n")
    problems = validate(read_schema(shop / "shop.toml"))
    assert len(problems) == 300 and all("column purchase: '7' is above 1" in problem for problem in problems)
    assert len(validate(read_schema(shop / "shop.toml"), limit=5)) == 6


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("user_number", np.full(40, 2**63 + 1, np.uint64), "column user_number: a time or group"),
        ("price", np.full(40, np.inf), "numeric feature 'price' is infinite in row 1"),
        ("user", np.full(40, 2**63 + 1, np.uint64), "column user: cannot be taken as categories"),
        ("click", np.full(40, 3), "column click: label 3 is neither 0 nor 1"),
        ("price", np.full(40, b"x"), "column price: not numeric"),
    ],
)
def test_hostile_parquet(shop, column, values, says):
    columns = {"user": ["u"] * 40, "country": ["c"] * 40, "price": [1.0] * 40, "genres": ["a|b"] * 40}
    columns |= {name: list(range(40)) for name in ("when", "user_number", "note")}
    columns |= {name: [0, 1] * 20 for name in ("click", "purchase")}
    pa.parquet.write_table(pa.table(columns | {column: values}), shop / "shop.parquet")
    (shop / "shop.toml").write_text(SCHEMA.replace("shop.csv", "shop.parquet"))
    dataset = read_schema(shop / "shop.toml")
    with pytest.raises(DataError, match=says):
        prepare(dataset)
    assert any(re.search(says, problem) for problem in validate(dataset))


def test_a_test_file_that_is_the_training_file_is_refused(shop):
    (shop / "copy.csv").write_bytes((shop / "shop.csv").read_bytes())
    files = 'files = { train = "shop.csv", test = "copy.csv" }'
    (shop / "shop.toml").write_text(SCHEMA.replace('files = "shop.csv"', files))
    with pytest.raises(DataError, match="the training file and the test file have the same content"):
        prepare(read_schema(shop / "shop.toml"))
