"""What a search leaves for people and later commands: ``tuned.toml`` with the best values, one CSV file of trials for
each study."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from benchmark.core.errors import UsageError
from benchmark.core.files import write_atomically
from benchmark.planning.suite import Searched, Suite
from benchmark.tuning.space import split_values
from benchmark.tuning.study import TRIALS, Study

TUNED = "tuned.toml"
HEAD = """\
# Configs found by 'run_all.py tune' on validation rows alone; no trial has seen a test row. The tables [search...] say
# what was spent on each method; a suite that takes this file is of the track "tuned" and never mixed with another.
# Name this file with --config, or as config_file in a suite. Presets are weaker, a suite's [config.METHOD] and --set
# stronger than what stands here.
"""

EQUAL_HEAD = """\
# Values that the search of the track "equal" found on validation rows alone, with the same space and the same passes
# over the rows for every method and arm. The command that runs the suite writes this file anew.
"""


def write_tuned(out: Path, study: Study) -> Path:
    """Put the best values of a finished study into ``out``/tuned.toml; tables of other studies, and what people wrote
    about them, stay as they are.

    A study without any score has no table. Raises UsageError if the file is there and no TOML.
    """
    path = out / TUNED
    document = _read(path) if path.is_file() else tomlkit.parse(HEAD)
    own, arms = split_values(study.best.values) if study.best else ({}, {})
    _put(document, "dataset_config", study, None if study.best is None else _table(own, _account(study)))
    _put(document, "dataset_arm_config", study, _tables(arms) if arms else None)
    _put(document, "search", study, None if study.best is None else _table(_spent(study)))
    write_atomically(path, re.sub(r"\n{3,}", "\n\n", tomlkit.dumps(document)).rstrip() + "\n")
    return path


def _put(document: tomlkit.TOMLDocument, name: str, study: Study, entry: Table | None) -> None:
    """Replace the study's entry in a group of tables, by dataset and method in the order of their names."""
    if entry is None and name not in document:
        return
    datasets = document.setdefault(name, tomlkit.table(is_super_table=True))
    methods = datasets.setdefault(study.dataset, tomlkit.table(is_super_table=True))
    methods.pop(study.method, None)
    if entry is not None:
        methods.add(study.method, entry)
    _sort(methods)  # whichever study ended first
    _sort(datasets)


def _table(values: Mapping[str, Any], comments: Iterable[str] = ()) -> Table:
    table = tomlkit.table()
    for line in comments:
        table.add(tomlkit.comment(line))
    for name, value in values.items():
        table.add(name, value)
    return table


def _tables(groups: Mapping[str, Mapping[str, Any]]) -> Table:
    tables = tomlkit.table(is_super_table=True)
    for name, values in groups.items():
        tables.add(name, _table(values))
    return tables


def _spent(study: Study) -> dict[str, Any]:
    """What a suite keeps of the search (`benchmark.planning.suite.Searched`)."""
    assert study.best is not None
    _, arms = split_values(study.best.values)
    spent = {
        "trials": study.budgeted,
        "failed": study.failed,
        "arms": study.arms,
        "seeds": list(dict.fromkeys(run.key.seed for run in study.default_runs)),
        "dimensions": study.space.described(),
        "default": study.trials[0].score,
        "best": study.best.score,
        "trial": study.best.number,
        "options": {f"{arm}.{name}": value for arm, own in arms.items() for name, value in own.items()} or None,
    }
    return {name: value for name, value in spent.items() if value is not None}


def _sort(tables: MutableMapping[str, Any]) -> None:
    entries = {name: tables.pop(name) for name in sorted(tables)}
    for name, entry in entries.items():
        tables[name] = entry


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}. Mend it, or move it away.") from error


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


def _account(study: Study) -> list[str]:
    """Comment lines: what was spent and what came of it."""
    key = study.default_runs[0].key
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.key.seed for run in study.default_runs))
    budget = ", ".join(f"{name} {value}" for name, value in sorted(key.budget.items()))
    default, best = study.trials[0].score, study.best
    assert best is not None
    return [
        f"{study.budgeted} trials ({study.failed} failed) of {' and '.join(study.arms)}, seeds {seeds}; {budget}.",
        f"{key.selection}: {'none' if default is None else f'{default:.5f}'} with the default config, "
        f"{best.score:.5f} with trial {best.number}.",
    ]


EQUAL = "equal.toml"
WORTH = "search_worth.csv"


def write_equal(out: Path, suite: Suite) -> Path:
    """Write what the search of the track "equal" found into ``out``/equal.toml, a file as --config takes it."""
    names = ("dataset_config", "dataset_arm_config", "search", "arm_search")
    content = suite.model_dump(mode="json", include=set(names), exclude_none=True)
    path = out / EQUAL
    write_atomically(path, EQUAL_HEAD + tomlkit.dumps({name: content[name] for name in names if content[name]}))
    return path


def worth(suite: Suite) -> list[dict[str, Any]]:
    """What the search was worth: a row for every method and arm that was searched, with the validation scores of the
    untuned config and of the chosen one after the last round, trials, passes, space and chosen values."""
    rows = []
    for dataset, methods in suite.search.items():
        for method, searched in methods.items():
            found = [(searched, suite.dataset_config.get(dataset, {}).get(method, {}))]
            found += [(one, one.options) for one in suite.arm_search.get(dataset, {}).get(method, {}).values()]
            rows += [_worth(dataset, method, one, chosen) for one, chosen in found]
    return rows


def write_worth(out: Path, suite: Suite) -> Path:
    """Write the rows of `worth` as CSV."""
    text, rows = io.StringIO(), worth(suite)
    table = csv.DictWriter(text, list(rows[0]) if rows else ["dataset"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(out / WORTH, text.getvalue())
    return out / WORTH


def _worth(dataset: str, method: str, searched: Searched, chosen: Mapping[str, Any]) -> dict[str, Any]:
    default = searched.default
    return {
        "dataset": dataset,
        "method": method,
        "arm": searched.arms[0],
        "trials": searched.trials,
        "failed": searched.failed,
        "passes": searched.passes,
        "default": default,
        "best": searched.best,
        "gain": None if default is None else searched.best - default,
        "chosen": json.dumps({n: v for n, v in chosen.items() if n in searched.dimensions}) if searched.trial else "{}",
        "space": json.dumps(dict(searched.dimensions)),
    }
