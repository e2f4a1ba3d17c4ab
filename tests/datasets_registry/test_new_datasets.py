"""Datasets whose official files are described but were not at hand: files written here in the published layout, served
by a web server on this machine where they are fetched without a login."""

import dataclasses
import gzip
import http.server
import json
import threading
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmark.core.errors import DataError, DataUnavailable
from datasets_registry import find, prepare, validate
from datasets_registry.raw import download as downloads
from datasets_registry.raw.manifest import MANIFESTS
from datasets_registry.tenrec_qk_video_hub import LABELS as QK_LABELS
from datasets_registry.vk_lsvd import CONTEXT, LABELS


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a directory and remembers what was asked for."""

    asked: ClassVar[list] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(directory, function that gives a dataset whose manifest points to that directory on this machine)."""
    monkeypatch.setattr(Files, "asked", [])
    monkeypatch.setattr(downloads, "_dead", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    directory = tmp_path / "served"
    directory.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def pointing(name, official):
        text = (MANIFESTS / f"{find(name).manifest}.toml").read_text()
        assert official in text
        manifest = tmp_path / f"{name}.toml"
        manifest.write_text(text.replace(official, f"http://127.0.0.1:{server.server_port}"))
        return dataclasses.replace(find(name), manifest=str(manifest))

    yield directory, pointing
    server.shutdown()
    server.server_close()


def vk_lsvd(root, rows=120, sub="ur0.01_ir0.01"):
    """27 weeks of rows, users and items as published; returns all rows as columns."""
    rng = np.random.default_rng(0)
    parts = []
    for week in range(27):
        n = rows if week < 25 else 10 * rows
        columns = {
            "user_id": rng.integers(0, 40, n).astype(np.uint32),
            "item_id": rng.integers(5, 90, n).astype(np.uint32),
        }
        columns |= {name: rng.integers(0, 5, n).astype(np.uint8) for name in (*CONTEXT, "timespent")}
        columns |= {name: rng.random(n) < 0.2 for name in LABELS}
        folder = root / "subsamples" / sub / ("train" if week < 25 else "validation" if week == 25 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(pa.table(columns), folder / f"week_{week:02}.parquet")
        parts.append(columns)
    (root / "metadata").mkdir(exist_ok=True)
    users = {"user_id": np.arange(39, -1, -1, np.int64), "age": np.arange(40) % 50, "gender": np.arange(40) % 2}
    users |= {"geo": np.arange(40) % 7, "train_interactions_rank": np.arange(40)}
    items = {"item_id": np.arange(80), "author_id": np.arange(80) // 3, "duration": np.arange(80) % 9}
    for name, table in (("users", users), ("items", items)):
        pa.parquet.write_table(pa.table(table), root / "metadata" / f"{name}_metadata.parquet")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


OFFICIAL = "https://huggingface.co/datasets/deepvk/VK-LSVD/resolve/main"


def test_vk_lsvd_is_fetched_week_by_week_and_goes_on_where_it_was(served, tmp_path, monkeypatch):
    directory, pointing = served
    rows = vk_lsvd(directory)
    dataset = pointing("vk_lsvd", OFFICIAL)
    missing = directory / "subsamples/ur0.01_ir0.01/train/week_07.parquet"
    missing.rename(tmp_path / "later")
    with pytest.raises(DataUnavailable, match="404"):
        prepare(dataset)
    (tmp_path / "later").rename(missing)
    Files.asked.clear()
    said = []
    data = prepare(dataset, report=lambda what, done, total: said.append((what, done, total)))
    left = sum(path.stat().st_size for path in directory.rglob("*.parquet") if path.name >= "week_07.parquet")
    left += sum(path.stat().st_size for path in directory.glob("metadata/*"))
    # licence and size before the first byte, then how far each file has come
    assert said[0][0] == f"note: to fetch from Hugging Face Hub: 22 files, {left / 1e6:,.1f} MB; licence: Apache-2.0"
    fetched = {what: total for what, done, total in said if what.startswith("download") and done == total}
    assert len(fetched) == 22
    last = directory / "subsamples/ur0.01_ir0.01/test/week_26.parquet"
    assert fetched["download week_26.parquet"] == last.stat().st_size
    assert len(Files.asked) == 29 - 7 and not any("week_06" in path for path in Files.asked)
    assert data.meta["rows"] == {"train": 25 * 120, "valid": 1200, "test": 1200}
    for task in LABELS:
        assert np.array_equal(data.labels("test", task), rows[task][-1200:])
    schema = data.schema(())
    codes = data.split("test", schema).categorical() - np.array(schema.offsets)
    names = [feature.name for feature in schema.categorical]
    assert "timespent" not in names

    def values(name):
        known = [None, None, *data.vocabularies[name]]
        return [known[code] for code in codes[:, names.index(name)]]

    items = rows["item_id"][-1200:]
    assert values("author_id") == [item // 3 if item < 80 else None for item in items.tolist()]
    assert values("age") == [(39 - user) % 50 for user in rows["user_id"][-1200:].tolist()]
    assert validate(dataset) == []


def test_vk_lsvd_subsamples_are_variants(tmp_path):
    vk_lsvd(tmp_path, sub="up0.001_ip0.001")
    with pytest.raises(DataUnavailable):
        prepare("vk_lsvd", data_dir=tmp_path, fetch=False)
    data = prepare("vk_lsvd@up0.001_ip0.001", data_dir=tmp_path, fetch=False)
    assert data.rows("train") == 3000


def test_vk_lsvd_hostile(tmp_path):
    vk_lsvd(tmp_path)
    path = tmp_path / "subsamples/ur0.01_ir0.01/train/week_03.parquet"
    table = pa.parquet.read_table(path)
    bad = table.set_column(table.schema.get_field_index("like"), "like", pa.array(np.full(len(table), 2, np.uint8)))
    pa.parquet.write_table(bad, path)
    with pytest.raises(DataError, match="week_03.parquet, column like: 2 is neither 0 nor 1"):
        prepare("vk_lsvd", data_dir=tmp_path)
    assert any("week_03.parquet, line 1, column like" in problem for problem in validate("vk_lsvd", data_dir=tmp_path))
    pa.parquet.write_table(table.drop_columns(["share"]), path)
    with pytest.raises(DataError, match="week_03.parquet: missing columns: share"):
        prepare("vk_lsvd", data_dir=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="week_03.parquet: no readable Parquet"):
        prepare("vk_lsvd", data_dir=tmp_path)


def write_csv(path, head, rows, sign=","):
    path.write_text("\n".join([sign.join(head), *(sign.join(map(str, row)) for row in rows)]) + "\n")


def test_kuaisar(served, tmp_path):
    import zipfile

    directory, pointing = served
    rng = np.random.default_rng(0)
    head = (
        "user_id item_id playing_time duration_ms time timestamp click forward like follow search search_item_related"
    )
    rows = []
    for i in range(600):
        search = int(rng.random() < 0.3)
        length = 0.0 if i % 10 == 0 else 50.0
        feedback = [int(rng.random() < 0.3) for _ in range(4)]
        watched = [i % 20, i % 33, float(rng.integers(100)), length, "2023-05-22 15:53:20", 1.684742e12 + i]
        rows.append([*watched, *feedback, search, int(search and i % 2)])
    write_csv(tmp_path / "rec_inter.csv", head.split(), rows)
    users = "user_id,search_active_level,rec_active_level,onehot_feat1,onehot_feat2"
    write_csv(tmp_path / "user_features.csv", users.split(","), [(user, 1, user % 3, 0, 2) for user in range(20)])
    levels = [f"{level}_level_category_id" for level in ("first", "second", "third", "fourth")]
    item_head = ["item_id", "caption", "author_id", "item_type", "upload_time", "upload_type", *levels]
    items = [(item, '"[1, 213]"', item // 2, "NORMAL", "2023-04-22", "LongImport", 9, 1, 0, 0) for item in range(30)]
    write_csv(tmp_path / "item_features.csv", item_head, items)
    with zipfile.ZipFile(directory / "KuaiSAR.zip", "w") as archive:
        for name in ("rec_inter.csv", "user_features.csv", "item_features.csv"):
            archive.write(tmp_path / name, f"KuaiSAR_final/{name}")
    dataset = pointing("kuaisar_small", "https://zenodo.org/records/8181109/files")
    data = prepare(dataset)
    assert data.meta["rows"] == {"train": 480, "valid": 60, "test": 60} and validate(dataset) == []
    tail = rows[-60:]
    complete = [np.nan if row[3] == 0 else float(row[2] >= row[3]) for row in tail]
    assert np.array_equal(data.labels("test", "complete"), complete, equal_nan=True)
    related = [float(row[11]) if row[10] else np.nan for row in tail]
    assert np.array_equal(data.labels("test", "search_item_related"), related, equal_nan=True)
    assert data.vocabularies["author_id"] == sorted({str(item // 2) for item in range(30)})
    inputs = {feature.name for feature in data.schema(()).categorical} | set(data.schema(()).numeric)
    assert not inputs & {"playing_time", "time", "timestamp", "search", "caption"}


LOG = "timestamp uid campaign conversion conversion_timestamp conversion_id attribution click click_pos click_nb"
LOG = [*LOG.split(), "cost", "cpo", "time_since_last_click", *(f"cat{i}" for i in range(1, 10))]
CRITEO = (
    "https://huggingface.co/datasets/criteo/criteo-attribution-dataset/resolve/904188a63cbad78bee43cd26ff5ee4ac77903986"
)
CRITEO_FILE = "criteo_attribution_dataset.tsv.gz"


def test_criteo_attribution(served):
    directory, pointing = served
    rng = np.random.default_rng(0)
    rows = []
    for i in range(500):
        seen = [i, rng.integers(90), rng.integers(4), int(i % 3 == 0), -1, -1, int(i % 6 == 0), i % 2]
        rows.append([*seen, -1, -1, 1e-5, 0.2, rng.integers(-1, 50), *rng.integers(-5, 5, 9)])
    write_csv(directory / "plain.tsv", LOG, rows, "\t")
    (directory / CRITEO_FILE).write_bytes(gzip.compress((directory / "plain.tsv").read_bytes()))
    dataset = pointing("criteo_attribution", CRITEO)
    with pytest.raises(DataUnavailable, match="sha256 of .* is not 94ac7a46.*this mirror lies"):
        prepare(dataset)
    import hashlib

    manifest = Path(dataset.manifest)
    sums = ("94ac7a465564349bc7ba008602211d5990a3c53cc133abc0aadef61ea2391a98", (directory / CRITEO_FILE).read_bytes())
    manifest.write_text(manifest.read_text().replace(sums[0], hashlib.sha256(sums[1]).hexdigest()))
    data = prepare(dataset)
    assert data.meta["rows"] == {"train": 400, "valid": 50, "test": 50} and validate(dataset) == []
    assert data.labels("test", "conversion").tolist() == [float(i % 3 == 0) for i in range(450, 500)]
    inputs = {feature.name for feature in data.schema(()).categorical} | set(data.schema(()).numeric)
    assert inputs == {"campaign", *(f"cat{i}" for i in range(1, 10)), "time_since_last_click"}


def test_the_command_says_licence_and_size_before_it_fetches(served, tmp_path, mpt):
    directory, pointing = served
    pointing("criteo_attribution", CRITEO)
    (tmp_path / "ours.py").write_text(
        "import dataclasses\nfrom datasets_registry import find\nfrom datasets_registry.base import register_dataset\n"
        "log = dataclasses.replace(find('criteo_attribution'), name='ours', manifest='{}')\n"
        "register_dataset(log)\n".format(tmp_path / "criteo_attribution.toml")
    )
    (directory / CRITEO_FILE).write_bytes(b"not what it should be" * 1000)
    result = mpt("fetch", "ours", "--dataset-file", tmp_path / "ours.py")
    text = " ".join(result.text.split())
    order = [
        "licence: CC BY-NC-SA 4.0",
        "to fetch from",
        "1 file, 0.0 MB; licence: CC BY-NC-SA 4.0",
        "this mirror lies",
    ]
    places = [text.index(part) for part in order]
    assert result.code == 1 and places == sorted(places), result.text


def test_qk_article(tmp_path):
    head = "user_id,item_id,click,gender,age,exposure_count,click_count,like_count,comment_count,read_percentage"
    head += (
        ",item_score1,item_score2,category_second,category_first,item_score3,read,read_time,share,like,follow,favorite"
    )
    rows = []
    for i in range(320):
        before = [i % 8, i, i % 2, 1, i % 5, 9, 9, 9, 9, 50, 0.5, i / 7, 101, 1, "\\N" if i % 3 else 2]
        rows.append([*before, int(i % 4 == 0), 9, int(i % 5 == 0), int(i % 6 == 0), 0, 0])
    write_csv(tmp_path / "QK-article.csv", head.split(","), rows)
    data = prepare("tenrec_qk_article@user_order", data_dir=tmp_path)
    assert data.rows("test") == data.rows("valid") == 8 and validate("tenrec_qk_article", data_dir=tmp_path) == []
    assert data.labels("test", "read").tolist() == [float(i % 4 == 0) for i in range(312, 320)]
    inputs = {feature.name for feature in data.schema(()).categorical} | set(data.schema(()).numeric)
    assert not inputs & {"exposure_count", "click_count", "like_count", "comment_count", "read_percentage", "read_time"}


def test_rent_the_runway_is_fetched_in_its_official_layout(served):
    directory, pointing = served
    folder = directory / "public_datasets/data/renttherunway"
    folder.mkdir(parents=True)
    rows = [
        {
            "fit": ("fit", "small", "large")[i % 3],
            "user_id": str(i % 9),
            "item_id": str(i % 5),
            "rating": str(2 + i % 5 * 2),
        }
        | {
            "size": 8,
            "category": "gown",
            "review_date": f"May {i % 28 + 1}, 2017",
            "rented for": "wedding",
            "age": "31",
        }
        for i in range(300)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "renttherunway_final_data.json.gz").write_bytes(gzip.compress(lines.encode()))
    dataset = pointing("rent_the_runway", "https://mcauleylab.ucsd.edu")
    said = []
    data = prepare(dataset, report=lambda what, done, total: said.append(what))
    assert said[0].startswith("note: to fetch from UCSD: 1 file") and "licence: none stated" in said[0]
    assert sum(data.meta["rows"].values()) == 300 and any("300 of 192,544 rows" in text for text in data.warnings)
    assert sum(tally["positives"] for tally in data.meta["base_rates"]["small"].values()) == 100
    assert validate(dataset) == []


def test_hillstrom_is_fetched_and_a_changed_copy_is_refused(served, tmp_path):
    directory, pointing = served
    real = Path(__file__).resolve().parents[3] / "shared" / "data" / "hillstrom-email" / "hillstrom.csv.gz"
    if not real.is_file():
        pytest.skip(f"no real file at {real}")
    content = gzip.decompress(real.read_bytes())
    name = "Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv"
    dataset = pointing("hillstrom", "https://www.minethatdata.com")
    (directory / name).write_bytes(content.replace(b"Phone", b"Fax", 1))
    with pytest.raises(DataUnavailable, match="sha256 is"):
        prepare(dataset)
    (directory / name).write_bytes(content)
    data = prepare(dataset)
    assert sum(data.meta["rows"].values()) == 64_000
    assert sum(tally["positives"] for tally in data.meta["base_rates"]["conversion"].values()) == 578


def write_blocks(root, rng):
    """Two blocks of each split in the layout of UniRank's script; returns the users' items in order and the rows."""
    users, rows = {u: rng.integers(1, 60, 80).tolist() for u in range(1, 13)}, []
    for split, (first, last) in {"train": (0, 64), "valid": (64, 72), "test": (72, 80)}.items():
        for block, members in enumerate((range(1, 7), range(7, 13))):
            local = {item: place for place, item in enumerate(sorted({i for u in members for i in users[u]}), 1)}
            data = [
                {"user_index": place, "item_index": local[users[u][at]], "seq_len": at, "user_id": u, "gender": u % 3}
                | {"age": u % 5, "watching_times": 1, **{name: float(rng.random() < 0.4) for name in QK_LABELS}}
                for place, u in enumerate(members)
                for at in range(first, last)
            ]
            rows += [row | {"split": split, "item": users[row["user_id"]][row["seq_len"]]} for row in data]
            side = [{"user_index": p, "full_item_seq": [local[i] for i in users[u]]} for p, u in enumerate(members)]
            items = [{"item_index": 0, "item_id": 0}, *({"item_index": p, "item_id": i} for i, p in local.items())]
            for kind, content in (("data", data), ("user_info", side), ("item_info", items)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                pa.parquet.write_table(pa.Table.from_pylist(content), root / split / kind / f"part-{block:05d}.parquet")
    return users, rows


def test_uniranks_blocks_give_each_row_the_items_before_it(tmp_path):
    users, rows = write_blocks(tmp_path / "QK-Video", np.random.default_rng(0))
    dataset = find("tenrec_qk_video_hub")
    files = dataset.recognises(tmp_path)
    assert len(files) == 18
    by_part = {0: "train", 1: "valid", 2: "test"}
    read = [
        (by_part[chunk.part], *row)
        for chunk in dataset.read(files, 50)
        for row in zip(
            np.asarray(chunk.features["user_id"]).tolist(),
            chunk.features["item_id"].tolist(),
            chunk.features["seen"].to_pylist(),
            chunk.labels["share"].tolist(),
            strict=True,
        )
    ]
    assert read == [
        (r["split"], r["user_id"], r["item"], users[r["user_id"]][max(0, r["seq_len"] - 50) : r["seq_len"]], r["share"])
        for r in rows
    ]
    data = prepare("tenrec_qk_video_hub", data_dir=tmp_path)
    assert data.meta["rows"] == {"train": 768, "valid": 96, "test": 96}
    bad = files["data.valid.part-00001"]
    table = pa.parquet.read_table(bad)
    place = table.schema.get_field_index("seq_len")
    pa.parquet.write_table(table.set_column(place, "seq_len", pa.array([99] * len(table))), bad)
    with pytest.raises(DataError, match="a history that the block's user_info does not have"):
        prepare("tenrec_qk_video_hub", data_dir=tmp_path)
