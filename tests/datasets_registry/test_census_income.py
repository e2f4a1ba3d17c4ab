"""The real files, against the facts that are known of them."""

import gzip

import numpy as np
import pytest

from benchmark.core.errors import DataError
from datasets_registry import find, prepare, validate
from datasets_registry.census_income import COLUMNS, NUMERIC, POSITIVE, CensusIncome, known_values
from datasets_registry.encoding.splits import assign


def test_rows_and_labels_are_the_documented_ones(census):
    assert census.meta["rows"] == {"train": 199_523, "valid": 49_881, "test": 49_881}
    assert census.labels("train", "income").sum() == 12_382
    assert census.labels("valid", "income").sum() + census.labels("test", "income").sum() == 6_186
    assert census.labels("train", "marital").mean() == pytest.approx(0.43346, abs=5e-6)
    assert census.warnings == []


def test_vocabulary_sizes_without_reserved_rows_are_the_papers(census):
    two, three = census.schema(census.old_tasks), census.schema((*census.old_tasks, *census.new_tasks))
    assert two.embedding_rows - len(two.reserved_rows) == 488 and two.width(4) == 127
    assert three.embedding_rows - len(three.reserved_rows) == 471 and three.width(4) == 123
    assert "education" not in {feature.name for feature in three.categorical}


def test_encoder_keeps_blanks_and_the_literal_na(census):
    values = census.vocabularies["hisp_origin"]
    assert " NA" in values and " ?" in census.vocabularies["country_self"]
    schema = census.schema(census.old_tasks)
    place = [feature.name for feature in schema.categorical].index("hisp_origin")
    codes = census.split("train", schema).categorical()[:, place] - schema.offsets[place]
    assert (codes == values.index(" NA") + 2).sum() == 874


def test_first_row_by_hand(census, shared):
    with gzip.open(shared("census-income-kdd") / "census-income.data.gz", "rt") as file:
        row = dict(zip(COLUMNS, file.readline().rstrip("\n").split(","), strict=True))
    schema = census.schema(census.old_tasks)
    train = census.split("train", schema)
    codes = train.categorical(np.array([0]))[0]
    for feature, offset, code in zip(schema.categorical, schema.offsets, codes, strict=True):
        assert census.vocabularies[feature.name][code - offset - feature.reserved] == row[feature.name]
    numbers = dict(zip(schema.numeric, train.numeric(np.array([0]))[0], strict=True))
    assert numbers["age"] == pytest.approx(int(row["age"]) / 90)
    for task, (column, value) in POSITIVE.items():
        assert census.labels("train", task)[0] == (row[column] == value)


def test_gathering_rows_equals_slicing_all(census):
    schema = census.schema(("income", "education"))
    for which in ("train", "valid", "test"):
        split = census.split(which, schema)
        index = np.array([7, 3, 3, len(split) - 1])
        everything = split.categorical()
        assert everything.dtype == np.int32 and split.numeric().dtype == np.float32
        assert np.array_equal(split.categorical(index), everything[index])
        assert np.array_equal(split.numeric(index), split.numeric()[index])
        assert everything.min() >= 0 and everything.max() < schema.embedding_rows


def test_halves_belong_to_the_split_stream_alone():
    part = np.repeat(np.array([0, 2], np.uint8), [5, 100])
    first, again = assign("halved", "census_income", {"part": part}), assign("halved", "census_income", {"part": part})
    assert np.array_equal(first, again)
    assert (first == 1).sum() == (first == 2).sum() == 50
    assert not np.array_equal(first, assign("halved", "another", {"part": part}))


def test_no_weight_is_a_variant_with_the_same_test_rows(census, shared):
    other = prepare("census_income@no_weight", data_dir=shared("census-income-kdd"))
    assert set(census.schema(()).numeric) - set(other.schema(()).numeric) == {"instance_weight"}
    assert np.array_equal(census.labels("test", "income"), other.labels("test", "income"))
    assert census.fingerprint != other.fingerprint


def tiny(tmp_path, lines_train, lines_test, chunk=262_144):
    """Encode self-written files, past the manifest's checksums."""
    from datasets_registry.encoding.encode import encode
    from datasets_registry.encoding.profiles import Profile
    from datasets_registry.encoding.store import EncodedDataset

    files = {}
    for key, lines in (("train", lines_train), ("test", lines_test)):
        files[key] = tmp_path / f"{key}.csv"
        files[key].write_text("".join(lines))
    dataset = find("census_income")
    assert isinstance(dataset, CensusIncome)
    target = tmp_path / f"out-{chunk}"
    encode(dataset, Profile(), files, target, sources={}, chunk_rows=chunk)
    return EncodedDataset(dataset, Profile(), target)


def row(**cells):
    values = {name: "0" if name in NUMERIC else " x" for name in COLUMNS}
    values |= {"income_50k": " - 50000.", "marital_stat": " Divorced"}
    return ",".join((values | cells)[name] for name in COLUMNS) + "\n"


def test_encoder_never_looks_at_test_rows(tmp_path):
    train = [row(age=str(20 + i), sex=" Male" if i % 2 else " Female") for i in range(10)]
    test = [row(age="99", sex=" Unheard of")] * 4
    data = tiny(tmp_path, train, test)
    assert data.vocabularies["sex"] == [" Female", " Male"]
    schema = data.schema(("income",))
    place = [feature.name for feature in schema.categorical].index("sex")
    codes = data.split("test", schema).categorical()[:, place] - schema.offsets[place]
    assert set(codes) == {1}  # rare or unseen
    assert data.split("test", schema).numeric()[0, 0] == pytest.approx((99 - 20) / 9)
    assert any("one class" in warning for warning in data.warnings)


def test_result_does_not_depend_on_the_chunk_size(tmp_path):
    train = [row(age=str(i % 91), sex=f" v{i % 7}", education=f" e{i * i % 13}") for i in range(500)]
    test = [row(age=str(i % 91), sex=f" v{i % 9}") for i in range(60)]
    assert tiny(tmp_path, train, test, 1).fingerprint == tiny(tmp_path, train, test, 100_000).fingerprint


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row().replace(",", ", extra,", 1), "line 6: 43 columns, expected 42"),
        (row(age="forty"), "line 6, column age: 'forty' is no number"),
    ],
)
def test_bad_row_names_file_line_and_column(tmp_path, bad, says):
    with pytest.raises(DataError, match="train.csv") as error:
        tiny(tmp_path, [row()] * 5 + [bad] + [row()], [row()])
    assert says in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "a half-written cache is left"


def test_validate_finds_wrong_cells_in_a_damaged_copy(tmp_path):
    usual = {name: min(values) for name, values in known_values().items()}
    lines = [
        row(**usual),
        row(**usual | {"year": " -3"}),
        row(**usual | {"sex": " Nobody"}),
        row().rpartition(",")[0] + "\n",
    ]
    (tmp_path / "census-income.data").write_text("".join(lines))
    with gzip.open(tmp_path / "census-income.test.gz", "wt") as file:
        file.write(row())
    whole = (tmp_path / "census-income.test.gz").read_bytes()
    (tmp_path / "census-income.test.gz").write_bytes(whole[: len(whole) // 2])
    problems = "\n".join(validate("census_income", data_dir=tmp_path))
    assert "expected 3676a81d" in problems and "fetch census_income" in problems
    assert "census-income.data, line 2, column year: ' -3' is below 0" in problems
    assert "line 3, column sex: ' Nobody' is none of the column's 2 values" in problems
    assert "line 4: 41 columns, expected 42" in problems
    assert "census-income.test.gz" in problems and "damaged or cut off" in problems
    with pytest.raises(DataError, match="fetch census_income"):
        prepare("census_income", data_dir=tmp_path)


def test_separate_encoders_reproduce_the_papers_defect(census, shared, tmp_path):
    """Only the test file's rows change, and exactly as a second label encoder changes them."""
    apart = prepare("census_income@separate_encoders", data_dir=shared("census-income-kdd"), cache_dir=tmp_path)
    assert apart.fingerprint != census.fingerprint and any("on purpose" in warning for warning in apart.warnings)
    schema = census.schema(census.old_tasks)
    assert apart.schema(apart.old_tasks) == schema
    assert np.array_equal(apart.split("train", schema).categorical(), census.split("train", schema).categorical())
    names = [feature.name for feature in schema.categorical]
    place = names.index("det_hh_fam_stat")
    values = census.vocabularies["det_hh_fam_stat"]
    lost = values.index(" Grandchild <18 ever marr not in subfamily")
    assert lost == 16 and len(values) == 38
    for which in ("valid", "test"):
        good, shifted = census.split(which, schema).categorical(), apart.split(which, schema).categorical()
        assert [names[i] for i in range(len(names)) if (good[:, i] != shifted[:, i]).any()] == ["det_hh_fam_stat"]
        rank = good[:, place] - schema.offsets[place] - 2
        assert np.array_equal(good[:, place] - shifted[:, place], (rank > lost).astype(np.int32))
        weight = schema.numeric.index("instance_weight")
        moved = census.split(which, schema).numeric() != apart.split(which, schema).numeric()
        assert moved[:, weight].mean() > 0.99
    numbers = np.concatenate([apart.split(which, schema).numeric() for which in ("valid", "test")])
    assert numbers.min(0).tolist() == [0] * 11 and numbers.max(0).tolist() == [1] * 11


def test_separate_encoders_refuse_values_that_training_lacks(tmp_path):
    from datasets_registry.encoding.encode import encode
    from datasets_registry.encoding.profiles import Profile

    (tmp_path / "train").write_text(row() * 20)
    (tmp_path / "test").write_text(row() * 5 + row(sex=" Unheard of") * 5)
    files = {key: tmp_path / key for key in ("train", "test")}
    with pytest.raises(DataError, match="'sex' has more values in the test part"):
        encode(find("census_income@separate_encoders"), Profile(), files, tmp_path / "out", sources={})
