"""The other datasets' raw formats: real samples where they are at hand, self-written files otherwise."""

import gzip

import numpy as np
import pytest

from benchmark.core.errors import DataError, DataUnavailable, UsageError
from datasets_registry import availability, find, prepare, validate


def test_byterec_sample(shared, tmp_path):
    sample = shared("byterec-sample") / "byterec_sample.txt"
    (tmp_path / "final_track2_train.txt").write_bytes(sample.read_bytes())
    data = prepare("byterec", data_dir=tmp_path)
    total = {task: sum(data.labels(w, task).sum() for w in ("train", "valid", "test")) for task in data.tasks}
    assert (total["finish"], total["like"]) == (76, 7)
    table = [line.split("\t") for line in sample.read_text().splitlines()]
    assert total["long_video"] == sum(int(row[11]) > 10 for row in table)
    schema = data.schema(data.old_tasks)
    assert len(schema.categorical) == 8 and schema.numeric == ()
    by_time = prepare("byterec@time", data_dir=tmp_path)
    assert by_time.meta["rows"] == {"train": 160, "valid": 20, "test": 20}
    assert validate("byterec", data_dir=tmp_path) == []


def test_aliexpress_sample(shared, tmp_path):
    (tmp_path / "AliExpress_NL").mkdir()
    for which in ("train", "test"):
        content = (shared("aliexpress-sample") / f"aliexpress_{which}_sample.csv").read_bytes()
        (tmp_path / "AliExpress_NL" / f"{which}.csv").write_bytes(content)
    data = prepare("aliexpress_nl", data_dir=tmp_path)
    assert data.rows("train") + data.rows("valid") == 100 and data.rows("test") == 20
    assert data.labels("test", "click").sum() == 10 and data.labels("test", "conversion").sum() == 2
    assert len(data.schema(()).categorical) == 16 and len(data.schema(()).numeric) == 63
    assert availability("aliexpress_us", tmp_path)[0] == "login"


@pytest.fixture(scope="module")
def kuairand(shared, tmp_path_factory):
    cache = tmp_path_factory.mktemp("kuairand")
    return lambda name: prepare(name, data_dir=shared("kuairand-pure"), cache_dir=cache)


def test_kuairand_part(kuairand):
    data = kuairand("kuairand_pure")
    known = {"click": 100_900, "long_view": 70_963, "profile_enter": 4_231, "like": 3_915, "comment": 579,
             "follow": 304, "forward": 195, "hate": 190}  # fmt: skip
    for task, positives in known.items():
        assert sum(data.labels(w, task).sum() for w in ("train", "valid", "test")) == positives
    assert (data.labels("test", "comment_read").sum(), data.labels("test", "profile_enter").sum()) == (1012, 442)
    complete = data.labels("test", "complete")
    assert data.tasks["complete"].partial and np.isnan(complete).any() and np.nansum(complete) == 3220
    assert sum(data.meta["rows"].values()) == 228_329
    assert any("228,329 of 1,436,609" in warning for warning in data.warnings)
    inputs = {f.name for f in data.schema(()).categorical} | set(data.schema(()).numeric)
    assert not inputs & {"play_time_ms", "profile_stay_time", "comment_stay_time", "show_cnt", "like_cnt"}


def test_kuairand_joins_users_and_videos(kuairand, shared):
    data = kuairand("kuairand_pure")
    with gzip.open(shared("kuairand-pure") / "user_features_pure.csv.gz", "rt") as file:
        active = {line.split(",")[0]: line.split(",")[1] for line in file}
    schema = data.schema(())
    names = [f.name for f in schema.categorical]
    codes = data.split("train", schema).categorical(np.arange(50)) - np.repeat(
        schema.offsets, [f.length for f in schema.categorical]
    )
    for row in codes:
        user = str(data.vocabularies["user_id"][row[names.index("user_id")] - 2])
        code = row[names.index("user_active_degree")]
        assert (data.vocabularies["user_active_degree"][code - 2] if code else "UNKNOWN") == active[user]


def test_kuairand_splits_and_profiles_by_name(kuairand):
    by_time, at_random = kuairand("kuairand_pure"), kuairand("kuairand_pure@random")
    assert by_time.fingerprint != at_random.fingerprint
    days = kuairand("kuairand_pure@from20220501")
    assert sum(days.meta["rows"].values()) < 228_329 and days.rows("test") == by_time.rows("test")
    users = kuairand("kuairand_pure@users2pct")
    assert 0.005 < sum(users.meta["rows"].values()) / 228_329 < 0.05


def test_tenrec(tmp_path):
    head = "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age,hist_1"
    rng = np.random.default_rng(0)
    rows = [
        f"{i % 9},{rng.integers(40)},{i % 2},0,{int(i % 5 == 0)},{int(i % 7 == 0)},{i % 3},{i},1,{i % 4},8"
        for i in range(400)
    ]
    (tmp_path / "QB-video.csv").write_text("\n".join([head, *rows]) + "\n")
    data = prepare("tenrec_qb_video", data_dir=tmp_path)
    assert sum(data.meta["rows"].values()) == 400 and set(data.tasks) == {"click", "like", "share", "follow"}
    assert {f.name for f in data.schema(()).categorical} == {"user_id", "item_id", "video_category", "gender", "age"}
    with pytest.raises(DataUnavailable, match="QK-video.csv"):
        prepare("tenrec_qk_video", data_dir=tmp_path)


def movielens_files(directory, layout):
    """The same forty ratings, two users and two films in one of three layouts."""
    directory.mkdir()
    ratings = [(1 + i % 2, 1 + i // 2 % 2, 1 + i % 5, 880_000_000 + i) for i in range(40)]
    if layout == "recbole":
        names, mark = ("ml-100k.inter", "ml-100k.user", "ml-100k.item"), "\t"
        heads = [
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n",
        ]
        users, items = (
            "1\t24\tM\twriter\t1\n2\t53\tF\tother\t2\n",
            "1\tToy Story\t1995\tAnimation Comedy\n2\tÉlisa\t1995\tDrama\n",
        )
    elif layout == "100k":
        names, mark, heads = ("u.data", "u.user", "u.item"), "\t", ["", "", ""]
        flags = {1: ("Animation", "Comedy"), 2: ("Drama",)}
        from datasets_registry.movielens import GENRES_100K

        users = "1|24|M|writer|1\n2|53|F|other|2\n"
        items = "".join(
            f"{i}|{title} (1995)|01-Jan-1995||x|" + "|".join(str(int(g in flags[i])) for g in GENRES_100K) + "\n"
            for i, title in ((1, "Toy Story"), (2, "Élisa"))
        )
    else:
        names, mark, heads = ("ratings.dat", "users.dat", "movies.dat"), "::", ["", "", ""]
        users = "1::M::24::writer::1\n2::F::53::other::2\n"
        items = "1::Toy Story (1995)::Animation|Comedy\n2::Élisa (1995)::Drama\n"
    encoding = "utf-8" if layout == "recbole" else "latin-1"
    texts = ["".join(mark.join(map(str, row)) + "\n" for row in ratings), users, items]
    for name, head, text in zip(names, heads, texts, strict=True):
        (directory / name).write_text(head + text, encoding=encoding)
    return directory


def test_movielens_layouts_agree(tmp_path):
    first = prepare("movielens_100k", data_dir=movielens_files(tmp_path / "a", "recbole"))
    second = prepare("movielens_100k", data_dir=movielens_files(tmp_path / "b", "100k"))
    third = prepare("movielens_1m", data_dir=movielens_files(tmp_path / "c", "1m"))
    assert first.fingerprint == second.fingerprint
    for data in (first, third):
        assert data.vocabularies["genres"] == ["Animation", "Comedy", "Drama"]
        assert data.vocabularies["release_year"] == ["1995"]
        total = {t: sum(data.labels(w, t).sum() for w in ("train", "valid", "test")) for t in data.tasks}
        assert total == {"like": 16, "dislike": 16, "love": 8}


def test_movielens_bad_row(tmp_path):
    files = movielens_files(tmp_path / "a", "100k")
    (files / "u.data").write_text("1\t1\t3\t880000000\n1\t2\t7\t880000001\n")
    with pytest.raises(DataError, match="u.data, line 2, column rating: '7'"):
        prepare("movielens_100k", data_dir=files)
    assert "line 2, column rating" in validate("movielens_100k", data_dir=files)[0]


def test_profiles_are_nested_subsets_by_name():
    rows = {share: prepare(f"synthetic@{share}pct").meta["rows"]["train"] for share in (1, 5, 20)}
    everything = prepare("synthetic")
    assert rows[1] < rows[5] < rows[20] < everything.rows("train") == prepare("synthetic@100pct").rows("train")
    known = {
        share: ~np.isnan(prepare(f"synthetic@new{share}pct").labels("train", "share")) for share in (1, 5, 20, 100)
    }
    assert all((known[a] <= known[b]).all() for a, b in ((1, 5), (5, 20), (20, 100)))
    assert known[5].mean() == pytest.approx(0.05, abs=0.01) and known[100].all()
    few = prepare("synthetic@new5pct")
    assert not np.isnan(few.labels("test", "share")).any() and not np.isnan(few.labels("train", "click")).any()
    assert few.fingerprint != everything.fingerprint
    first = prepare("synthetic@first1k")
    assert first.meta["rows"] == {"train": 1000, "valid": 100, "test": 1000}


def test_unknown_words_are_named():
    with pytest.raises(UsageError, match="Unknown dataset 'censes_income'. Did you mean 'census_income'"):
        find("censes_income")
    with pytest.raises(UsageError, match="'no_wait'. Did you mean 'no_weight'"):
        find("census_income@no_wait")
    with pytest.raises(UsageError, match="share must lie in"):
        find("synthetic@200pct")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("u.data", lambda t: t + b"1\t1\t3\n", "u.data, line 41: not a row of ratings"),
        (
            "u.data",
            lambda t: t.replace(b"1\t1\t1", b"one\t1\t1", 1),
            "u.data, line 1, column user_id: 'one' is no number",
        ),
        ("u.data", lambda t: b"\xef\xbb\xbf" + t, "u.data, line 1, column user_id"),
        ("u.data", lambda t: t + b"1\t1\t1e400\t9\n", "u.data, line 41, column rating: '1e400' is no number"),
        ("u.data", lambda t: t + b"1\t1\t3\t1e400\n", "u.data, line 41, column timestamp: '1e400' is no number"),
        ("u.data", lambda t: t + b"9" * 5000 + b"\t1\t3\t9\n", "u.data, line 41, column user_id: '999"),
        ("u.data", lambda t: t + b"1_0\t1\t3\t9\n", "u.data, line 41, column user_id: '1_0' is no number"),
        ("u.data", lambda t: b"", "u.data: the file is empty"),
        ("u.user", lambda t: t + b"3|20\n", "u.user, line 3: not a row of users"),
        ("u.item", lambda t: t.replace(b"|1", b"", 1), "u.item, line 1: not a row of items"),
        ("u.data", lambda t: gzip.compress(t)[:60], "u.data: damaged or cut off.*validate movielens_100k"),
    ],
)
def test_hostile_movielens_file(tmp_path, name, change, says):
    files = movielens_files(tmp_path / "a", "100k")
    (files / name).write_bytes(change((files / name).read_bytes()))
    with pytest.raises(DataError, match=says):
        prepare("movielens_100k", data_dir=files, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("encoded/*/*/meta.json"))


@pytest.mark.parametrize(
    ("dataset", "file", "line", "says"),
    [
        ("tenrec_qb_video", "QB-video.csv", "1,2,3,0,0,0,1,1,1,1", "line 2, column click: '3' is above 1"),
        ("tenrec_qb_video", "QB-video.csv", "1,x,1,0,0,0,1,1,1,1", "line 2, column item_id: 'x' is no whole number"),
        ("byterec", "final_track2_train.txt", "\t".join("1 2 3 4 5 6 0 2 7 8 9 10".split()), "line 1, column like"),
        ("byterec", "final_track2_train.txt", "\t".join("1 2 3 4 5 6 0 1".split()), "line 1: 8 columns, expected 12"),
        ("kuairand_pure", "log_standard_4_08_to_4_21_pure.csv", "1,2", "line 2: 2 columns, expected 19"),
        ("aliexpress_nl", "AliExpress_NL/train.csv", "7,x" + ",0" * 80, "line 2, column categorical_1: 'x'"),
        (
            "aliexpress_nl",
            "AliExpress_NL/train.csv",
            "7" + ",0" * 78 + ",inf,0,0",
            "line 2, column numerical_63: 'inf'",
        ),
        (
            "kuairand_pure",
            "log_standard_4_08_to_4_21_pure.csv",
            "1,2,3,4,inf" + ",0" * 14,
            "line 2, column time_ms: 'inf'",
        ),
    ],
)
def test_hostile_row_of_other_readers(tmp_path, dataset, file, line, says):
    from datasets_registry import aliexpress, kuairand, tenrec
    from datasets_registry.raw.manifest import load_manifest

    layouts = {"tenrec": tenrec.layout, "kuairand": kuairand.log_layout, "aliexpress": aliexpress.layout}
    if dataset == "tenrec_qb_video":
        head = "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age\n"
    else:
        layout = layouts.get(dataset.split("_")[0])
        head = ",".join(column.name for column in layout().columns) + "\n" if layout else ""
    for raw in load_manifest(dataset).files.values():
        path = tmp_path / raw.names[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + line + "\n")
    if dataset == "kuairand_pure":
        for names, layout in ((("user_features_pure.csv",), kuairand.user_layout),
                              (("video_features_basic_pure.csv",), kuairand.video_layout)):  # fmt: skip
            columns = layout().columns
            text = ",".join(column.name for column in columns) + "\n" + ",".join("0" for _ in columns) + "\n"
            (tmp_path / names[0]).write_text(text)
    with pytest.raises(DataError, match=f"{file.split('/')[-1]}, {says}.*validate {dataset}"):
        prepare(dataset, data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert any(says in problem for problem in validate(dataset, data_dir=tmp_path))


def official_aliexpress(directory, rows=400, searches=90):
    """The official files of one country: no header, users by search, items with the label in column 49."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        user = [[s, *rng.integers(0, 5, 7), *rng.random(23).round(4), *rng.integers(0, 5, 2)] for s in range(searches)]
        item = []
        for i in range(rows):
            numbers = rng.random(47).round(4).astype(object)
            for place in (19, 34, 35, 36, 40, 41, 42):
                numbers[place - 2] = f"v{rng.integers(4)}"
            item.append([i // 4, *numbers, i % 3])
        for name, table in (("user", user), ("item", item)):
            text = "".join(",".join(map(str, row)) + "\n" for row in table)
            (directory / f"NL_{name}_{part}.csv").write_text(text)
    return user, item


def test_aliexpress_official_files(tmp_path):
    user, item = official_aliexpress(tmp_path)
    data = prepare("aliexpress_nl", data_dir=tmp_path)
    joined = [row for row in item if row[0] < 90]  # ten searches have no user: an inner join leaves them out
    assert data.rows("test") == len(joined) == 360 and data.rows("train") + data.rows("valid") == 360
    assert data.labels("test", "click").tolist() == [float(row[48] > 0) for row in joined]
    assert data.labels("test", "conversion").tolist() == [float(row[48] == 2) for row in joined]
    schema = data.schema(())
    codes = data.split("test", schema).categorical() - np.array(schema.offsets)
    known = [[None, None, *data.vocabularies[f.name]] for f in schema.categorical]
    columns = [[known[k][code] for code in codes[:, k]] for k in range(16)]
    places = [*((0, i) for i in (*range(2, 9), 32, 33)), *((1, i) for i in (19, 34, 35, 36, 40, 41, 42))]
    for column, (side, place) in zip(columns, places, strict=True):
        expected = [str((user[row[0]], row)[side][place - 1]) for row in joined]
        assert column == expected
    lows, highs = ([entry[k] for entry in data.meta["numeric"]] for k in ("min", "max"))
    numbers = data.split("test", schema).numeric() * (np.array(highs) - lows) + lows
    numeric = [i for i in range(2, 49) if i not in (19, 34, 35, 36, 40, 41, 42)]
    expected = [[*user[row[0]][8:31], *(row[i - 1] for i in numeric)] for row in joined]
    assert np.allclose(numbers, np.array(expected, float), atol=1e-6) and len(expected[0]) == 63
    assert validate("aliexpress_nl", data_dir=tmp_path) == []
    path = tmp_path / "NL_item_train.csv"
    path.write_text(path.read_text().replace(",2\n", ",3\n", 1))
    with pytest.raises(DataError, match="NL_item_train.csv, line 3, column 49: '3' is above 2"):
        prepare("aliexpress_nl", data_dir=tmp_path)


def test_searches_stay_together_in_validation(tmp_path):
    official_aliexpress(tmp_path)
    data = prepare("aliexpress_nl", data_dir=tmp_path)
    train, valid = (data.split(which, data.schema(())) for which in ("train", "valid"))
    users = [{tuple(row) for row in split.numeric()[:, :23].tolist()} for split in (train, valid)]
    assert users[0] and users[1] and not users[0] & users[1]
