"""The web report as a file: what it says, that it repeats, and that no record can break out of its place."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmark import report
from benchmark.records.record import Record, run_id
from benchmark.report.html import About, Card, render
from benchmark.report.model import Cell, Column, Row, Table
from tests.report import made
from tests.report.conftest import TITLES

CODE_LIMIT = 150_000
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u202e"


def page(out: Path, records: list[Record], about: About | None = None, titles: dict[str, str] = TITLES) -> str:
    about = about or About()
    return render(report.report(made.write(out, records), titles, stale=about.stale), about)


def data(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def row(text: str, method: str, arm: str) -> str:
    rows = re.findall(r"<tr data-cell=.*?</tr>", text, re.DOTALL)
    return next(r for r in rows if f"<td>{method}</td>" in r and f"<td>{arm}</td>" in r)


def test_the_same_records_give_the_same_bytes_and_the_numbers_of_the_tables(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946})
    text = page(tmp_path / "a", records)
    assert text == page(tmp_path / "b", records[::-1])
    assert "+0.0020 ± 0.0000" in row(text, "Shared-Bottom", "joint")  # worst degradation, as worked out by hand
    assert "unchanged" in row(text, "Shared-Bottom", "frozen")


def test_the_trade_off_says_which_loss_it_shows(tmp_path: Path) -> None:
    """The point of joint lies at the loss of the task that loses most (.002), not at the mean of both (.0015)."""
    text = page(tmp_path, made.study({"shared_bottom": 0.940}))
    assert "worst degradation of an old task" in text and "mean degradation of" not in text
    figure = text[text.index("What education gains and what it costs") :]
    assert re.search(r"joint.{0,200}\+?0\.0020", figure[: figure.index("</figure>")], re.DOTALL)


def test_every_row_leads_to_its_runs_and_the_runs_they_rest_on(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.940})
    found = data(page(tmp_path, records))
    cell = next(c for c in found["cells"] if c["title"].startswith("Shared-Bottom, frozen"))
    of = {role: {(found["runs"][i]["key"]["arm"], found["runs"][i]["key"]["seed"]) for i in ids}
          for role, ids in cell["runs"].items()}  # fmt: skip
    assert of == {
        role: {(arm, seed) for seed in range(3)}
        for role, arm in (("this arm", "frozen"), ("stage 0", "stage0"), ("single task", "scratch"))
    }
    run = found["runs"][cell["runs"]["this arm"][0]]
    assert found["shared"][run["key"]["config"]] == {"width": 4}
    assert found["shared"][run["from"]]["commit"] == "0123456789abcdef"


def test_what_others_wrote_stays_text(tmp_path: Path) -> None:
    records = made.study({"x": 0.94}, dataset="d")
    lost = made.record("x", "lora", 0, status="failed", dataset="d")
    lost.reason, lost.log_tail = HOSTILE, [HOSTILE]
    card = Card(
        "d", HOSTILE, HOSTILE, (("home page", "javascript:alert(1)"), ("paper", "https://example.org/x")), (HOSTILE,)
    )
    about = About(title=HOSTILE, methods=(card,), datasets=(card,), stale={records[0].run_id: HOSTILE},
                  skips=(("d", "x", "joint", HOSTILE),))  # fmt: skip
    text = page(tmp_path, [*records, lost], about, {"x": HOSTILE})
    assert "<img" not in text and "\u202e" not in text
    assert text.count("</script>") == 2
    assert 'href="javascript' not in text and 'href="https://example.org/x"' in text
    assert data(text)["runs"][lost.run_id]["reason"].startswith("</script><img src=x onerror=alert(1)>")


def test_failures_skips_stale_and_damaged_records_are_told_with_their_reasons(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    lost = made.record("shared_bottom", "lora", 0, status="oom")
    out = made.write(tmp_path, [*records, lost])
    broken = min(out.glob("runs/census/shared_bottom/joint/*/record.json"))
    broken.write_text("{")
    about = About(
        stale={records[0].run_id: "the code has changed since"}, skips=(("d", "maml", "lora", "no such arm"),)
    )
    text = render(report.report(out, TITLES, stale=about.stale), about)
    trouble = text[text.index('id="trouble"') : text.index('id="cards"')]
    for reason in ("made to be oom", "the code has changed since", "no such arm: d, maml, LoRA", broken.name):
        assert reason in trouble


def test_judged_claims_stand_first() -> None:
    keys = ("claim", "problem", "verdict", "value", "found", "contest", "deciding", "evidence")
    texts = ("It does no <harm>", "census", "supported", "", "worst loss 0.0001", "", "", "no_degradation-census")
    cells = {key: Cell(text=text) if text else Cell(code="n/a") for key, text in zip(keys, texts, strict=True)}
    table = Table("claims", "Claims", tuple(Column(key, key, "text") for key in keys), (Row(cells),))
    text = render(report.Report((table,), (), ()), About())
    first = text[text.index('id="claims"') : text.index('id="leaderboard"')]
    assert '<li class="good"><span class="verdict">supported</span>' in first
    assert "It does no &lt;harm&gt;" in first and "worst loss 0.0001" in first


def test_groups_of_one_dataset_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    records = made.study({"shared_bottom": 0.94})
    for other in made.study({"shared_bottom": 0.90}):
        other.key.budget = {"epochs": 1}
        other.run_id = run_id(other.key)
        records.append(other)
    text = page(tmp_path, records)
    assert "census (budget {&#34;epochs&#34;:1})" in text and "census (budget {&#34;batch_size" in text


def test_a_tree_without_runs_is_a_page_too_and_the_code_of_a_page_is_small(tmp_path: Path) -> None:
    text = page(tmp_path, [])
    assert "nothing can be said" in text
    assert len(text.encode()) < CODE_LIMIT


def test_a_page_names_no_other_place_to_load_from(tmp_path: Path) -> None:
    text = page(tmp_path, made.study({"shared_bottom": 0.94}))
    assert re.findall(r'(?:src|href)="(?!#|data:,)[^"]*"|url\(|@import|fetch\(', text) == []
    assert "default-src &#39;none&#39;" in text


def test_a_long_curve_is_thinned(tmp_path: Path) -> None:
    records = [made.record("m", "joint", 0, {"income": 0.9}, curve=[0.5] * 1001)]
    assert len(data(page(tmp_path, records))["runs"][records[0].run_id]["curve"]) <= 200


def test_making_a_page_needs_neither_torch_nor_a_drawing_library() -> None:
    code = (
        "import sys; from benchmark.report.html import About, render; from benchmark.report import Report; "
        "render(Report((), (), ()), About()); "
        "print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
