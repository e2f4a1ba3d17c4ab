"""Every long step says how far it is: epochs, a frozen part's outputs, predictions, data, runs."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmark.cli import progress
from benchmark.cli.progress import ProgressDisplay
from benchmark.core import steps
from benchmark.training.protocol import execute
from tests.benchmark.fakes import FakeData
from tests.benchmark.test_protocol import CPU, key


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Everything that work in this process tells."""
    found: list[tuple[str, int, int]] = []
    monkeypatch.setattr(steps, "SECONDS", 0.0)
    steps.listen(lambda *told: found.append(told))
    yield found
    steps.listen(None)


def test_a_run_tells_of_epochs_of_the_frozen_part_s_outputs_and_of_predictions(heard: Any, tmp_path: Any) -> None:
    stage0 = execute(key(), FakeData(), CPU)
    torch.save(stage0.weights, tmp_path / "weights.pt")
    assert {what for what, _, _ in heard} == {"epoch", "predictions"}
    heard.clear()
    execute(key("frozen"), FakeData(), CPU, stage0=tmp_path / "weights.pt")
    assert {what for what, _, _ in heard} == {"epoch", "predictions", "outputs of the frozen part"}
    assert all(0 <= done < total for _, done, total in heard)


def test_a_listener_is_not_bothered_with_every_batch(heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SECONDS", 3600.0)
    for batch in range(1000):
        steps.tell("epoch", batch, 1000)
    assert heard == []


def display(runs: int = 4, width: int = 80) -> tuple[ProgressDisplay, io.StringIO]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, _environ={})
    assert isinstance(console.file, io.StringIO)
    return ProgressDisplay(console, runs, 2), console.file


def run_of(name: str) -> Any:
    budget = {"batch_size": 64, "learning_rate": 1e-2, "epochs": 10, "patience": 4}
    return SimpleNamespace(
        id=name, label=f"census_income/{name}/stage0/seed 0", parent=None, key=SimpleNamespace(budget=budget)
    )


def test_the_time_left_is_known_long_before_the_first_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown, file = display()
    with shown:
        run = run_of("mmoe")
        shown.started(run)
        clock[0] = 60.0
        shown.step(run, "epoch", 1, 2)  # half of the first of ten epochs
        assert "next 50%" in file.getvalue() and "to go" not in file.getvalue()
        shown.epoch(run, 2, 10)
        assert "epoch 2/10" in file.getvalue()
        assert "about 19 min to go" in file.getvalue()  # a fifth of a run a minute, 3.8 runs left
        shown.step(run, "outputs of the frozen part", 10, 100)
        clock[0] = 70.0
        shown.step(run, "outputs of the frozen part", 60, 100)
        assert "outputs of the frozen part 60%, 8 s left" in file.getvalue()


def test_what_was_printed_while_the_display_lives_stays_whole_and_within_the_width() -> None:
    shown, file = display(runs=3, width=80)
    record = SimpleNamespace(status="ok", seconds=SimpleNamespace(total=1.0), reason=None)
    with shown:
        for name in ("mmoe", "ple", "mpt_rec"):
            shown.started(run_of(name))
        for name in ("mmoe", "ple", "mpt_rec"):
            shown.epoch(run_of(name), 1, 10)
            shown.ended(run_of(name), record, kept=False)  # type: ignore[arg-type]
    text = file.getvalue()
    for number, name in enumerate(("mmoe", "ple", "mpt_rec"), 1):
        assert f"[{number}/3]" in text and f"ok      census_income/{name}/stage0/seed 0" in text
