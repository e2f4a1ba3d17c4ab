"""Figures: data beside the picture, one colour per method everywhere, arrays beside records, hostile input."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmark import report
from benchmark.planning.suite import load_suite
from benchmark.records.record import run_directory, run_id
from benchmark.report.figures import drawing, plot, style
from benchmark.report.figures import standard as figures
from benchmark.report.figures.plot import Plot, area, palette, short_count
from benchmark.report.html import charts
from benchmark.report.measures import arm_title
from tests.report import made
from tests.report.conftest import TITLES


def plots(out: Path, titles: dict[str, str] = TITLES) -> dict[str, Plot]:
    return {plot.name.split("-")[0]: plot for plot in report.report(out, titles).plots}


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_distinct_and_visible_on_white() -> None:
    assert len(set(style.COLOURS)) == len(style.COLOURS)
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in style.COLOURS)


def test_the_csv_beside_a_picture_holds_what_is_in_it(built: Path) -> None:
    with (built / "figures/trade_off-census.csv").open(newline="") as stream:
        rows = {(row["method"], row["arm"]): row for row in csv.DictReader(stream)}
    assert float(rows["Shared-Bottom", "joint"]["degradation"]) == pytest.approx(0.002)  # of income, which loses most
    assert float(rows["Shared-Bottom", "frozen"]["trained_parameters"]) == 1000
    assert ("SingleTask", "scratch") not in rows  # it has no old tasks to lose


def test_a_method_has_one_colour_in_all_figures_of_a_group(built: Path) -> None:
    found = plots(built)
    places = [
        {row["method"]: palette(found[name].rows).index(row["method"]) for row in found[name].rows}
        for name in ("trade_off", "parameters", "curves")
    ]
    for method in ("Shared-Bottom", "MPT-Rec"):
        assert len({place[method] for place in places}) == 1


def test_marker_areas_grow_with_the_count_and_end_at_three_decades() -> None:
    assert area(10, 1000) < area(100, 1000) < area(1000, 1000)
    assert area(1, 1e9) == area(1e6, 1e9)
    assert [short_count(x) for x in (0.3, 100, 27063, 999_600, 5.2e6)] == ["0.3", "100", "27.1k", "1M", "5.2M"]


def test_arrays_beside_records_become_figures(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    records = made.study({"mpt_rec": 0.94})
    out = made.write(tmp_path, records)
    assert {"attention", "representations"}.isdisjoint(plots(out))
    generator = np.random.default_rng(0)
    for record in records:
        folder = run_directory(out, record.key)
        if record.key.arm == "frozen":
            weights = np.tile([0.7, 0.3], (50, 1))
            np.savez(folder / "attention.npz", weights=weights, tasks=np.array(["income", "marital"]))
        if record.key.arm == "stage0" and record.key.seed == 0:
            centres = {"general": 0.0, "specific_income": 9.0}
            np.savez(folder / "representations.npz", **{k: generator.normal(c, 1, (30, 4)) for k, c in centres.items()})
    found = plots(out)
    assert {(r["task"], r["seed"]): r["median"] for r in found["attention"].rows}["income", 2] == pytest.approx(0.7)
    files = found["representations"].write(tmp_path / "figures")
    with files[-1].open(newline="") as stream:
        points = list(csv.DictReader(stream))
    kinds = {kind: [(float(p["x"]), float(p["y"])) for p in points if p["representation"] == kind] for kind in
             ("general", "specific: income")}  # fmt: skip
    means = {kind: np.mean(xy, axis=0) for kind, xy in kinds.items()}
    spread = max(np.std(xy, axis=0).max() for xy in kinds.values())
    assert np.linalg.norm(means["general"] - means["specific: income"]) > spread  # two clusters stay two


def test_label_share_needs_two_shares_and_joins_what_differs_in_nothing_else(tmp_path: Path) -> None:
    records = made.study({"mpt_rec": 0.94})
    assert "label_share" not in plots(made.write(tmp_path, records))
    for share in (1, 10):
        for record in made.study({"mpt_rec": 0.93 + share / 1000}):
            record.key.dataset += f"@new{share}pct"
            record.run_id = run_id(record.key)
            records.append(record)
    rows = plots(made.write(tmp_path, records))["label_share"].rows
    mine = [row["share"] for row in rows if (row["method"], row["arm"]) == ("MPT-Rec", "frozen")]
    assert mine == [0.01, 0.1, 1.0]


def test_curves_stop_where_early_stopping_has_ended_a_seed(tmp_path: Path) -> None:
    records = made.study({"mpt_rec": 0.94}, arms=())
    for record in records:
        if record.key.method == "mpt_rec" and record.key.seed == 0:
            record.curve = record.curve[:2]
    rows = plots(made.write(tmp_path, records))["curves"].rows
    mine = [
        (r["epoch"], r["n"]) for r in rows if (r["method"], r["arm"], r["task"]) == ("MPT-Rec", "joint", "education")
    ]
    assert mine == [(1, 3), (2, 3), (3, 2)]


def test_forty_methods_with_hostile_names_can_be_drawn(tmp_path: Path) -> None:
    methods = {f"m_{i} & $x^2 {{中}}": 0.9 + 0.001 * i for i in range(40)}
    out = made.write(tmp_path, made.study(methods, range(2), arms=()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plots(out, {})
        written = [path for name in ("trade_off", "forest") for path in found[name].write(tmp_path / "figures")]
    assert len(written) == 6 and all(path.stat().st_size > 0 for path in written)


def test_workers_draw_the_same_files_as_one_process(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "WORTH_A_PROCESS", 1)
    found = [plots(built)[name] for name in ("trade_off", "parameters")]
    together = drawing.draw(found, tmp_path / "two", workers=2)
    alone = drawing.draw(found, tmp_path / "one", workers=1)
    assert [path.name for path in together] == [path.name for path in alone]
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]


def test_a_worker_that_fails_is_reported(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "WORTH_A_PROCESS", 1)
    plot = plots(built)["parameters"]
    with pytest.raises(RuntimeError, match="worker"):
        drawing.draw([plot, Plot("broken", [{"wrong": 1}], plot.draw)], tmp_path, workers=2)


def test_the_front_is_that_of_the_table_and_captions_say_the_finding(built: Path) -> None:
    found = report.report(built, TITLES)
    plots = {one.name.split("-")[0]: one for one in found.plots}
    table = next(t for t in found.tables if t.name.startswith("pareto"))
    ahead = {(r.cells["method"].text, r.cells["arm"].text) for r in table.rows if r.cells["front"].text == "front"}
    shown = {(row["method"], arm_title(row["arm"])) for row in plots["trade_off"].rows if row["front"]}
    assert shown == ahead
    assert f"{len(ahead)} of 6 ways are on the front" in plots["trade_off"].rows[0]["answer"]
    worse = sum(row["verdict"].startswith("worse") for row in plots["forest"].rows)
    assert f"{worse} are worse" in plots["forest"].rows[0]["answer"]
    assert "0 of " in plots["curves"].rows[0]["answer"]  # the made curves fall in their last epoch


@pytest.mark.parametrize("count", [2, 8, 16])
def test_methods_are_told_apart_without_colour(count: int) -> None:
    strokes = [(s["linestyle"], s["marker"]) for s in map(figures._stroke, range(count))]
    assert len(set(strokes)) == count
    assert plot.numbered(["m"] * count)
    assert {plot.ink(colour) for colour in ("#000000", "#0072B2")} == {"white"} and plot.ink("#E69F00") == "black"


def test_the_arms_of_the_largest_suite_have_shapes_of_their_own() -> None:
    arms = list(load_suite("arms").arms)
    assert len(arms) > 15 and len({style.marker(arm, arms) for arm in arms}) == len(arms)
    assert len({charts.SHAPES[style.marker(arm, arms)] for arm in arms}) == len(arms)


def test_a_long_name_keeps_both_of_its_ends() -> None:
    cut = plot.short("MPT-Rec " + "x" * 300 + " fusion=fixed")
    assert len(cut) <= plot.LONGEST and cut.startswith("MPT-Rec") and cut.endswith("fusion=fixed")
