"""What a search leaves for people and later commands: ``tuned.toml`` with the best values, one CSV file of trials for
each study."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from benchmark.core.files import write_atomically
from benchmark.spec.budget import SELECTION_RULE
from benchmark.tuning.study import TRIALS, Study

TUNED = "tuned.toml"
HEAD = """\
# Configs found by 'run_all.py tune' on validation rows alone; no trial has seen a test row.
# Name this file with --config, or as config_file in a suite. Presets are weaker, a suite's [config.METHOD] and --set
# stronger than what stands here.
"""
BLOCK = re.compile(r"(?:^#.*\n)*^(\[dataset_config\..+\])\n(?:^[^\[#\n].*\n)*", re.MULTILINE)


def write_tuned(out: Path, study: Study) -> Path:
    """Put the best values of a finished study into ``out``/tuned.toml; tables of other studies stay as they are.

    A study without any score has no table.
    """
    path = out / TUNED
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    blocks = {match[1]: match[0] for match in BLOCK.finditer(old)}
    header = f"[dataset_config.{_key(study.dataset)}.{_key(study.method)}]"
    blocks.pop(header, None)
    if study.best is not None:
        values = "".join(f"{_key(name)} = {_value(value)}\n" for name, value in study.best.values.items())
        blocks[header] = f"{_account(study)}{header}\n{values}"
    write_atomically(path, "\n".join([HEAD, *(blocks[header] for header in sorted(blocks))]))
    return path


def write_trials(out: Path, study: Study) -> Path:
    """Write ``out``/trials/DATASET.METHOD.csv: every trial with its values, score or reason, and its run ids."""
    names = list(study.space.dimensions)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "score", *names, "runs", "reason"])
    for trial in study.trials:
        values = [json.dumps(trial.values.get(name, study.space.defaults[name])) for name in names]
        runs = " ".join(run.id for run in trial.runs) or study.rejection(trial).run_id
        table.writerow([trial.number, trial.score, *values, runs, trial.reason])
    path = out / TRIALS / f"{study.dataset}.{study.method}.csv"
    write_atomically(path, text.getvalue())
    return path


def _account(study: Study) -> str:
    """Comment lines: what was spent and what came of it."""
    key = study.default_runs[0].key
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.key.seed for run in study.default_runs))
    budget = ", ".join(f"{name} {value}" for name, value in sorted(key.budget.items()))
    default, best = study.trials[0].score, study.best
    assert best is not None
    return (
        f"# {study.budgeted} trials ({study.failed} failed) of {' and '.join(study.arms)}, seeds {seeds}; {budget}.\n"
        f"# {SELECTION_RULE}: {'none' if default is None else f'{default:.5f}'} with the default config, "
        f"{best.score:.5f} with trial {best.number}.\n"
    )


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: Any) -> str:
    """A config value in TOML, which writes numbers, lists and texts as JSON does."""
    return json.dumps(value)
