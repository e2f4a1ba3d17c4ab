"""The block parser against a plain reading of the same raw text; the prepared layout; bad rows."""

import collections
import gzip
import re

import numpy as np
import pytest

from benchmark.core.errors import DataError
from datasets_registry import find, prepare, validate
from datasets_registry.ali_ccp import FIELDS
from datasets_registry.encoding import splits
from tests.datasets_registry.ali_ccp_files import SCENARIOS, write


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    directory = write(tmp_path_factory.mktemp("ali"), 3000, 60, pool=500)
    return write(directory, 400, 20, "test", pool=100)


def plainly(directory, which):
    """Rows as (click, conversion, {field: id}) by splitting strings."""
    common = {}
    for line in (directory / f"common_features_{which}.csv").read_text().splitlines():
        key, _, features = line.split(",")
        common[key] = features
    rows = []
    for line in (directory / f"sample_skeleton_{which}.csv").read_text().splitlines():
        _, click, conversion, key, _, features = line.split(",")
        cells = [re.split("[\x02\x03]", part) for part in (common[key] + "\x01" + features).split("\x01")]
        rows.append((int(click), int(conversion), {field: int(value) for field, value, _ in cells}))
    return rows


def test_join_equals_plain_reading(raw):
    files = {f"{w}_{k}": raw / f"{name}_{w}.csv" for w in ("train", "test")
             for k, name in (("skeleton", "sample_skeleton"), ("common", "common_features"))}  # fmt: skip
    chunks = list(find("ali_ccp").read(files, 64))
    assert len(chunks) > 10
    for part, which in ((0, "train"), (2, "test")):
        mine = [chunk for chunk in chunks if chunk.part == part]
        rows = plainly(raw, which)
        for task, place in (("click", 0), ("conversion", 1)):
            assert np.concatenate([chunk.labels[task] for chunk in mine]).tolist() == [row[place] for row in rows]
        for field in FIELDS:
            values = [value for chunk in mine for value in chunk.features[field].to_pylist()]
            assert values == [row[2].get(field, 0) for row in rows], field


def test_minimum_count_and_the_rarest_scenario(raw):
    data = prepare("ali_ccp@tenth", data_dir=raw)
    rows = plainly(raw, "train")
    assert data.meta["rarest"] == {"scenario": SCENARIOS[1]}
    assert 0.08 < data.rows("valid") / len(rows) < 0.12 and data.rows("test") == 400
    assert sum(data.labels(w, "scenario").sum() for w in ("train", "valid")) == sum(
        row[2]["301"] != SCENARIOS[1] for row in rows
    )
    excluded = data.schema(("click", "scenario"))
    assert len(data.schema(("click",)).categorical) == 18 and len(excluded.categorical) == 16
    clicked = data.labels("train", "click") == 1
    assert np.array_equal(np.isnan(data.labels("train", "conversion_clicked")), ~clicked)
    assert data.tasks["conversion_clicked"].partial
    place = FIELDS.index("206")
    schema = data.schema(("click",))
    codes = data.split("train", schema).categorical()[:, place] - schema.offsets[place]
    assert np.bincount(codes)[1:].min() >= 12  # code 0 holds the rest


def test_chunks_and_threads_change_nothing(raw, tmp_path, monkeypatch):
    from datasets_registry.encoding import ali_ccp_text

    first = prepare("ali_ccp", data_dir=raw, cache_dir=tmp_path / "a", chunk_rows=17)
    monkeypatch.setattr(ali_ccp_text, "THREADS", 1)
    second = prepare("ali_ccp", data_dir=raw, cache_dir=tmp_path / "b")
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",0,0,", ",0,7,", "line 1, column conversion: '7' is impossible there"),
        (",0,0,", ",0,0,0,", "line 1: 7 columns, expected 6"),
        ("205\x02", "205\x02x", "line 1, column feature_list"),
        ("1,0,0,", "1,0,0,g", "line 1, column common_feature_index"),
    ],
)
def test_bad_row_is_located(raw, tmp_path, old, new, says):
    for path in raw.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    skeleton = tmp_path / "sample_skeleton_train.csv"
    lines = skeleton.read_text().splitlines(keepends=True)
    lines[0] = "1,0,0," + lines[0].split(",", 3)[3]
    lines[0] = lines[0].replace(old, new, 1)
    skeleton.write_text("".join(lines))
    with pytest.raises(DataError, match=re.escape(says)):
        prepare("ali_ccp", data_dir=tmp_path)
    assert any(says in problem for problem in validate("ali_ccp", data_dir=tmp_path))


def test_purchases_without_a_click_are_left_out_and_said(raw, tmp_path):
    for path in raw.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = prepare("ali_ccp", data_dir=tmp_path)
    skeleton = tmp_path / SKELETON
    lines = skeleton.read_text().splitlines(keepends=True)
    clean = [place for place, line in enumerate(lines) if line.split(",")[1:3] == ["0", "0"]][:7]
    for place in clean:
        number, _, rest = lines[place].split(",", 2)
        lines[place] = f"{number},0,1{rest[1:]}"
    skeleton.write_text("".join(lines))
    after = prepare("ali_ccp", data_dir=tmp_path)
    assert after.meta["rows_read"] == before.meta["rows_read"] - 7
    said = f"{SKELETON}: rows with a purchase and no click are left out, as in the published preparations."
    assert after.warnings.count(said) == 1


def test_lost_common_features_are_named(raw, tmp_path):
    for path in raw.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    common = tmp_path / "common_features_test.csv"
    common.write_text("".join(common.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(DataError, match="is not in .*common_features_test.csv"):
        prepare("ali_ccp", data_dir=tmp_path)


class Counting:
    """A file's bytes as they are asked for."""

    def __init__(self, file):
        self.file, self.bytes = file, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, size=-1):
        block = self.file.read(size)
        self.bytes += len(block)
        return block


@pytest.mark.parametrize("layout", ["raw", "prepared"])
def test_row_prefix_reads_no_further(raw, tmp_path, layout, monkeypatch):
    """What comes after the prefix may be anything: it is not looked at, and the arrays are the whole files'."""
    import contextlib

    from datasets_registry.encoding import ali_ccp_text, delimited
    from datasets_registry.raw.archives import open_plain

    rng = np.random.default_rng(0)
    for path in raw.iterdir():
        content = path.read_bytes()
        if layout == "raw":
            (tmp_path / path.name).write_bytes(content)
        elif "skeleton" in path.name:
            rows = rng.integers(0, 50, (3000, len(FIELDS)))
            text = "".join(f"{int(row[0] == 0)},0,{','.join(map(str, row))}\n" for row in rows.tolist())
            for end in ("train", "dev") if "train" in path.name else ("test",):
                (tmp_path / f"ctr_cvr.{end}").write_text(text)
    whole = prepare("ali_ccp@tenth+first300", data_dir=tmp_path, chunk_rows=20)
    opened = {}

    @contextlib.contextmanager
    def counted(path):
        with open_plain(path) as plain:
            opened[path.name] = Counting(plain)
            yield opened[path.name]

    for module in (ali_ccp_text, delimited):
        monkeypatch.setattr(module, "open_plain", counted)
    garbage = b"\xff not,a row\n" * 400_000
    for path in tmp_path.iterdir():
        if path.is_file() and "common" not in path.name:
            with open(path, "ab") as file:
                file.write(garbage)
    cut = prepare("ali_ccp@tenth+first300", data_dir=tmp_path, chunk_rows=20)
    assert cut.fingerprint == whole.fingerprint and cut.directory != whole.directory
    assert cut.meta["rows"] == {"train": 300, "valid": 30, "test": 300} and cut.meta["rows_read"] < 1000
    large = [name for name in opened if "common" not in name]
    assert len(large) >= 2 and all(opened[name].bytes < 1 << 20 for name in large)
    monkeypatch.undo()
    with pytest.raises(DataError):
        prepare("ali_ccp", data_dir=tmp_path, cache_dir=tmp_path / "other", chunk_rows=20)


def test_row_prefix_keeps_the_rows_that_the_whole_file_would(raw):
    """@first is a prefix of the very split that the whole data has."""
    whole, first = prepare("ali_ccp@tenth", data_dir=raw), prepare("ali_ccp@tenth+first500", data_dir=raw)
    for which, n in (("train", 500), ("valid", 50), ("test", 400)):
        assert first.rows(which) == n
        assert np.array_equal(first.labels(which, "click"), whole.labels(which, "click")[:n])
    assert first.meta["rows_read"] < whole.meta["rows_read"] / 4 + 400


def test_prepared_layout_is_recognised(shared, tmp_path):
    samples = shared("ali-ccp-samples")
    for end, name in (("train", "train"), ("dev", "train"), ("test", "test")):
        lines = (samples / f"paddlerec_aitm_{name}.csv").read_bytes().splitlines(keepends=True)
        (tmp_path / f"ctr_cvr.{end}").write_bytes(b"".join(lines[:-1] if end == "dev" else lines))  # equal: refused
    data = prepare("ali_ccp", data_dir=tmp_path)
    assert data.meta["rows"] == {"train": 46, "valid": 45, "test": 47}  # without purchases that lack a click
    assert [int(data.labels(w, "click").sum()) for w in ("train", "test")] == [3, 3]
    assert validate("ali_ccp", data_dir=tmp_path) == []


def test_digits_are_read_eight_at_a_time():
    from datasets_registry.encoding.ali_ccp_text import _Bad, _decimal, _hexadecimal

    texts = ["0", "7", "10", "99999999", "12345678", "123456789", "2147483647", "0000000042"]
    line = "padding:" + ":".join(texts) + ":"
    text = np.frombuffer(line.encode(), np.uint8)
    end = np.flatnonzero(text == ord(":"))[1:]
    start = end - [len(number) for number in texts]
    assert _decimal(text, start, end).tolist() == [int(number) for number in texts]
    for wrong in ("12a4567", "1234567/", "12345678:", ":2345678", "x123456789", "2147483648", "\xff1", "12345678901"):
        line = "padding:" + wrong + ":"
        text = np.frombuffer(line.encode("latin-1"), np.uint8)
        with pytest.raises(_Bad):
            _decimal(text, np.array([8]), np.array([8 + len(wrong)]))
    keys = ["bacff91692951881", "0", "F", "00000000000000ab", "ffffffffffffffff"]
    text = np.frombuffer(",".join([*keys, ""]).encode(), np.uint8)
    end = np.flatnonzero(text == ord(","))
    assert _hexadecimal(text, end - [len(key) for key in keys], end).tolist() == [int(key, 16) for key in keys]


SKELETON, COMMON = "sample_skeleton_train.csv", "common_features_train.csv"
ID = re.compile(rb"(205\x02)\d+")
RAW_CASES = {
    "missing column": (SKELETON, lambda t: t.replace(b",", b"", 1), "line 1: 5 columns, expected 6"),
    "label outside 0 and 1": (SKELETON, lambda t: re.sub(rb"^1,\d,", b"1,2,", t), "line 1, column click: '2'"),
    "header": (SKELETON, lambda t: b"id,click,buy,key,n,list\n" + t, "line 1, column sample_id: 'id' is impossible"),
    "id beyond int32": (
        SKELETON,
        lambda t: ID.sub(rb"\g<1>2147483648", t, count=1),
        "column feature_list: .*beyond int32",
    ),
    "id beyond ten digits": (SKELETON, lambda t: ID.sub(rb"\g<1>" + b"1" * 11, t, count=1), "column feature_list"),
    "id is no number": (COMMON, lambda t: t.replace(b"121\x02", b"121\x02-", 1), "line 1, column feature_list"),
    "byte order mark": (COMMON, lambda t: b"\xef\xbb\xbf" + t, "line 1, column common_feature_index"),
    "UTF-16": (SKELETON, lambda t: t.decode().encode("utf-16"), "line 1"),
    "index twice": (COMMON, lambda t: t + t[: t.index(b"\n") + 1], "occurs twice"),
    "empty": (SKELETON, lambda t: b"", "the file is empty"),
    "feature cut off": (
        SKELETON,
        lambda t: re.sub(rb"\x01301\x02\d+\x031.0\n", b"\n", t, count=1),
        r"line 1, column feature_num: \d+ features are said and \d+ are listed",
    ),
    "common feature cut off": (
        COMMON,
        lambda t: re.sub(rb",\d+,101\x02", b",3,101\x02", t, count=1),
        "line 1, column feature_num: 3 features are said",
    ),
    "empty common": (COMMON, lambda t: b"", "the file is empty"),
    "gzip cut in half": (SKELETON, lambda t: gzip.compress(t)[: len(gzip.compress(t)) // 2], "damaged or cut off"),
}


@pytest.mark.parametrize("case", RAW_CASES)
def test_hostile_raw_file(raw, tmp_path, case):
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    for path in raw.glob("*.csv"):
        (given / path.name).write_bytes(path.read_bytes())
    name, change, says = RAW_CASES[case]
    (given / name).write_bytes(change((given / name).read_bytes()))
    with pytest.raises(DataError, match=f"{re.escape(name)}.*{says}") as error:
        prepare("ali_ccp", data_dir=given, cache_dir=cache)
    if " line " in says:
        assert "validate ali_ccp" in str(error.value)
    left = [path.name for path in cache.glob("encoded/ali_ccp/*") if not path.name.endswith(".lock")]
    assert left == [], "a half-written cache is left"
    assert {path.name for path in tmp_path.iterdir()} <= {"given", "cache"}


def groups_of(directory, which="train"):
    """common_feature_index of each row that is kept."""
    rows = [line.split(",") for line in (directory / f"sample_skeleton_{which}.csv").read_text().splitlines()]
    return [row[3] for row in rows if row[1] >= row[2]]


def test_rows_with_the_same_common_features_stay_together(tmp_path):
    directory = write(write(tmp_path, 6000, 600, pool=500), 400, 20, "test", pool=100)
    files = {f"{w}_{k}": directory / f"{name}_{w}.csv" for w in ("train", "test")
             for k, name in (("skeleton", "sample_skeleton"), ("common", "common_features"))}  # fmt: skip
    chunks = [chunk for chunk in find("ali_ccp").read(files, 64) if chunk.part == 0]
    keys = {"group": np.concatenate([chunk.keys["group"] for chunk in chunks]), "part": np.zeros(6000, np.uint8)}
    names = groups_of(directory)
    assert [f"{key:016x}" for key in keys["group"].view(np.uint64).tolist()] == names
    for rule, apart in (("tenth_groups", 0), ("tenth", 100)):
        split = splits.assign(rule, "ali_ccp", keys)
        sides = {}
        for name, code in zip(names, split.tolist(), strict=True):
            sides.setdefault(name, set()).add(code)
        torn = sum(len(codes) > 1 for codes in sides.values())
        assert torn == 0 if apart == 0 else torn > apart
        assert 0.06 < split.mean() < 0.14
    whole, first = (
        prepare("ali_ccp", data_dir=directory),
        prepare("ali_ccp@first500", data_dir=directory, chunk_rows=30),
    )
    assert first.meta["rows_read"] < 3000 and whole.meta["rows_read"] == 6400
    for which, n in (("train", 500), ("valid", 50)):
        assert np.array_equal(first.labels(which, "click"), whole.labels(which, "click")[:n])


def test_split_and_vocabulary_of_the_aitm_preparation(raw):
    """Python's own generator draws the validation rows; values are counted in all rows of the training file."""
    import random

    random.seed(2020)
    valid = [random.random() >= 0.9 for _ in groups_of(raw)]
    data = prepare("ali_ccp@aitm", data_dir=raw)
    assert data.rows("valid") == sum(valid)
    rows = [row for row in plainly(raw, "train") if row[0] >= row[1]]
    clicks = [row[0] for row, held_out in zip(rows, valid, strict=True) if held_out]
    assert data.labels("valid", "click").tolist() == clicks
    counts = collections.Counter(row[2].get("206", 0) for row in rows)
    assert data.vocabularies["206"] == sorted(value for value, n in counts.items() if n >= 12 and value)


def test_a_field_may_stand_in_the_common_features(raw, tmp_path):
    """The business scenario of the row goes first; where a row has none, that of its common features counts."""
    for path in raw.iterdir():
        if path.suffix == ".csv":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    skeleton, common = tmp_path / SKELETON, tmp_path / COMMON
    lines = skeleton.read_text().splitlines(keepends=True)
    key = lines[0].split(",")[3]
    cells = lines[0].split(",", 5)
    cells[4], cells[5] = str(int(cells[4]) - 1), re.sub(r"\x01301\x02\d+\x031.0", "", cells[5])
    skeleton.write_text("".join([",".join(cells), *lines[1:]]))
    table = common.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(table) if line.startswith(key))
    index, number, features = table[place].split(",")
    table[place] = f"{index},{int(number) + 1},301\x0277\x031.0\x01{features}"
    common.write_text("".join(table))
    files = {f"{w}_{k}": tmp_path / f"{name}_{w}.csv" for w in ("train", "test")
             for k, name in (("skeleton", "sample_skeleton"), ("common", "common_features"))}  # fmt: skip
    chunk = next(find("ali_ccp").read(files, 64))
    assert chunk.features["301"][0].as_py() == 77 and 77 not in chunk.features["301"].to_pylist()[1:]
