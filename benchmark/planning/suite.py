"""Suites: TOML files that say what to run. Read, narrowed by the command line, checked, and nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from benchmark.core.errors import UsageError, unknown_name
from benchmark.planning.configs import read_value
from benchmark.records.claims import Claim, parse_claims
from benchmark.spec.arms import ARMS
from benchmark.spec.budget import BudgetTable, StrictTable
from benchmark.spec.options import OPTION_NAMES

SUITES = Path(__file__).parents[1] / "suites"


Margin = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]

Table = TypeVar("Table", bound=StrictTable)
Share = Annotated[float, Field(gt=0, le=100)]
Weights = Annotated[int, Field(gt=0)]


class Limits(StrictTable):
    """What a run may take before it is stopped. None: no limit."""

    seconds: float | None = Field(None, gt=0)
    memory_gib: float | None = Field(None, gt=0)


class Searched(StrictTable):
    """What a search spent on a method on a dataset, and what came of it.

    ``dimensions`` says in words what was tried of each name; ``default`` and ``best`` are scores on validation rows, of
    the config without tuning and of trial number ``trial``. ``passes`` counts the passes over the training rows that
    the trials took together (None: a search that counted trials alone). ``options`` are its options of arms, by name;
    they are run from ``dataset_arm_config`` and stand here to be shown.
    """

    trials: int = Field(ge=1)
    failed: int = Field(0, ge=0)
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    dimensions: Mapping[str, str]
    default: float | None = None
    best: float
    trial: int = Field(ge=0)
    options: Mapping[str, int | float] = Field(default_factory=dict)
    passes: float | None = Field(None, ge=0)


class SearchBudget(StrictTable):
    """What the search of the track "equal" may spend on every method and arm: successive halving.

    ``rounds``: pairs (configs, epochs). The first round trains so many configs for so many epochs, each further one the
    best of the round before, from the beginning; the config without tuning takes part in all. ``rows``: a dataset with
    more training rows is searched on a sample of so many. ``share``: what the whole search may cost at most, in
    passes, of the runs that it serves.
    """

    rounds: tuple[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], ...] = ((6, 3), (2, 9))
    rows: int = Field(200_000, ge=1)
    share: float = Field(1 / 3, gt=0)
    seed: int = Field(0, ge=0)

    @field_validator("rounds")
    @classmethod
    def _narrowing(cls, rounds: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        configs = [number for number, _ in rounds]
        if not rounds or configs != sorted(configs, reverse=True) or configs[-1] < 2:
            raise ValueError(
                "rounds go on with fewer configs each, and with two or more: the untuned one is among them"
            )
        return rounds

    @property
    def passes(self) -> int:
        """Of one method and arm."""
        return sum(configs * epochs for configs, epochs in self.rounds)


class Suite(StrictTable):
    """One suite.

    ``methods`` may be ["all"]: every registered method.

    ``budget`` and ``config`` (TOML ``[config.METHOD]``) hold for all datasets; ``dataset_budget``
    (``[dataset_budget.NAME]``) replaces single values on one dataset. ``dataset_config``
    (``[dataset_config.NAME.METHOD]``) are a method's values on one dataset, over its presets and below ``config``;
    ``config_file`` names a file with such tables, as tuning writes it, by its path from the suite file. ``variants``
    are further entries of a method with other config values:
    ``[variants.mpt_rec_no_gan] method = "mpt_rec", env_coe = 0.0``. ``arm_config`` sets options of
    arms: ``[arm_config.lora] rank = 4``.

    ``track`` is "published", the configs of methods and suite, "tuned", those that one search with equal trials found
    (`benchmark.tuning`), or "equal", those that a search with equal passes over the rows found for every method and
    arm; the command that runs such a suite makes this search first, with ``search_budget``. A file of a search brings
    ``dataset_arm_config`` (options of an arm for a method on a dataset, below ``arm_config``), ``search``, what was
    spent on each method, and ``arm_search``, what was spent on each arm of it, and makes the track "tuned" if the suite
    does not say "equal".

    ``new_tasks``: "each" makes every task of a dataset that is a candidate the new one in turn. ``chain``: new tasks
    that arrive one after another, in one order or a list of orders, for all datasets or in a table by dataset;
    "declared": the dataset's own chain, there and back. ``label_shares``: percentages of the new tasks' training
    labels; a share with fewer than ``least_positives`` positives is skipped. ``trained_weights``: numbers of weights
    that the arms' options are fitted to.

    ``selection``: the validation metric whose mean over the trained tasks chooses the epoch: "auc", or "gauc" on
    datasets whose rows name a user.

    ``margin`` is the largest loss of a score that counts as none: a number, or a table ``[margin]`` by
    "DATASET/TASK", task, metric ("auc", "r2") or "default". ``claim`` (``[[claim]]`` tables, see
    `benchmark.records.claims`) replaces the claims of the MPT-Rec paper, which are judged otherwise.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    arms: tuple[str, ...] = ("joint", "frozen", "finetune")
    seeds: tuple[int, ...] = (0, 1, 2)
    new_tasks: tuple[str, ...] | Literal["each"] | None = None
    chain: Mapping[str, tuple[tuple[str, ...], ...]] = Field(default_factory=dict)
    label_shares: tuple[Share, ...] = ()
    least_positives: int = Field(20, ge=1)
    trained_weights: tuple[Weights, ...] = ()
    margin: Margin | Mapping[str, Margin] = 0.001
    claim: tuple[Claim, ...] | None = None
    budget: BudgetTable = BudgetTable()
    dataset_budget: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    config: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    config_file: str | None = None
    dataset_config: Mapping[str, Mapping[str, Mapping[str, Any]]] = Field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    arm_config: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    dataset_arm_config: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = Field(default_factory=dict)
    track: Literal["published", "tuned", "equal"] = "published"
    search: Mapping[str, Mapping[str, Searched]] = Field(default_factory=dict)
    arm_search: Mapping[str, Mapping[str, Mapping[str, Searched]]] = Field(default_factory=dict)
    search_budget: SearchBudget = SearchBudget()
    selection: Literal["auc", "gauc"] = "auc"
    limits: Limits = Limits()
    threads: int = Field(1, ge=1)

    @field_validator("chain", mode="before")
    @classmethod
    def _by_dataset(cls, chain: Any) -> Any:
        """One order, or several, for all datasets ("*") or by dataset."""

        def orders(value: Any) -> Any:
            if value == "declared":
                return ()
            single = isinstance(value, list | tuple) and value and all(isinstance(task, str) for task in value)
            return (value,) if single else value

        tables = chain if isinstance(chain, Mapping) else {"*": chain} if chain else {}
        return {dataset: orders(value) for dataset, value in tables.items()}

    def budget_for(self, dataset: str) -> dict[str, Any]:
        """The budget of all runs on one dataset, resolved."""
        base = dataset.partition("@")[0]
        changes = {**self.dataset_budget.get(base, {}), **self.dataset_budget.get(dataset, {})}
        return BudgetTable(**{**self.budget.model_dump(), **changes}).model_dump(exclude_none=True)

    def config_on(self, dataset: str, method: str) -> Mapping[str, Any]:
        """What ``dataset_config`` says of a method; a profile's own table replaces that of its dataset."""
        return _on(self.dataset_config, dataset, method) or {}

    def arm_config_on(self, dataset: str, method: str, arm: str) -> dict[str, Any]:
        """The options that are set for an arm of a method on a dataset."""
        return {**(_on(self.dataset_arm_config, dataset, method) or {}).get(arm, {}), **self.arm_config.get(arm, {})}

    def searched(self, dataset: str, method: str, arm: str = "") -> Searched | None:
        """What was spent on the search of a method's config on a dataset, or of an arm's, if one was made."""
        if arm:
            return (_on(self.arm_search, dataset, method) or {}).get(arm)
        return _on(self.search, dataset, method)


def _on(tables: Mapping[str, Mapping[str, Any]], dataset: str, method: str) -> Any:
    """A method's entry on a dataset; a profile's own table comes before that of its dataset."""
    found = (tables.get(name, {}) for name in (dataset, dataset.partition("@")[0]))
    return next((table[method] for table in found if method in table), None)


class _ConfigFile(StrictTable):
    """The content of a ``config_file``."""

    dataset_config: Mapping[str, Mapping[str, Mapping[str, Any]]] = Field(default_factory=dict)
    dataset_arm_config: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = Field(default_factory=dict)
    search: Mapping[str, Mapping[str, Searched]] = Field(default_factory=dict)
    arm_search: Mapping[str, Mapping[str, Mapping[str, Searched]]] = Field(default_factory=dict)


def suite_names() -> list[str]:
    """Names of the suites that come with the program."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """A suite by name, or from a ``.toml`` file by path. Raises UsageError naming file, line or field.

    Its ``config_file`` becomes a path from here and is not read: `with_config_file` does that.
    """
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise UsageError(f"No suite file at {path}.")
        raise unknown_name("suite", name, suite_names(), "'python run_all.py list suites' shows all.")
    suite = _read(path, Suite, name=path.stem)
    if suite.config_file is None:
        return suite
    if suite.dataset_config:
        raise UsageError(f"{path}: has both config_file and [dataset_config] tables; keep one of them.")
    return suite.model_copy(update={"config_file": str(path.parent / suite.config_file)})


def with_config_file(suite: Suite, path: Path) -> Suite:
    """The suite with the ``[dataset_config.NAME.METHOD]`` tables of a file, and with what the file says of the search
    that found them, which makes the suite's track "tuned". Raises UsageError naming file and field."""
    if not path.is_file():
        raise UsageError(f"No config file at {path}. 'python run_all.py tune' writes one: <out>/tuned.toml.")
    found = _read(path, _ConfigFile)
    changes: dict[str, Any] = {name: getattr(found, name) for name in _ConfigFile.model_fields}
    track = "tuned" if found.search and suite.track != "equal" else suite.track
    return suite.model_copy(update={**changes, "config_file": str(path), "track": track})


def _read(path: Path, kind: type[Table], **defaults: Any) -> Table:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no text, digits or brackets without end
        raise UsageError(f"{path}: not valid TOML: {str(error)[:200]}") from error
    place = ""
    try:
        if kind is Suite and "claim" in content:
            content["claim"] = parse_claims(content["claim"], str(path))
        table = kind(**{**defaults, **content})
        if isinstance(table, Suite):
            for dataset in table.dataset_budget:
                place = f"dataset_budget.{dataset}."
                table.budget_for(dataset)
        return table
    except ValidationError as error:
        first = error.errors()[0]
        place += ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{path}: {unknown_name('key', place, kind.model_fields)}") from error
        raise UsageError(f"{path}: '{place}': {first['msg']}") from error


def parse_seeds(text: str) -> tuple[int, ...]:
    """``0-4`` or ``0,3,7-9`` as numbers. Raises UsageError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UsageError(f"--seeds: cannot read '{part}'; write for example 0-4 or 0,2,5.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 10_000:
            raise UsageError(f"--seeds: '{part}' is no ascending range of at most 10,000 seeds.")
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))


def apply_settings(suite: Suite, settings: Iterable[str], config_classes: Mapping[str, type]) -> Suite:
    """Apply ``--set method.key=value``, ``--set arm.key=value`` and ``--set budget.key=value``; values as in TOML.

    The owner ``all`` stands for every method, for options that any method has (see `benchmark.spec.options`).
    ``config_classes`` maps the methods that may be set to their Config. Raises UsageError.
    """
    budget: dict[str, Any] = {}
    arm_config = {arm: dict(values) for arm, values in suite.arm_config.items()}
    config = {method: dict(values) for method, values in suite.config.items()}
    for setting in settings:
        match = re.fullmatch(r"([^.=]+)\.([^=]+)=(.*)", setting)
        if not match:
            raise UsageError(f"--set: cannot read '{setting}'; write method.key=value or budget.key=value.")
        owner, key, text = (part.strip() for part in match.groups())
        value = read_value(text)
        if owner == "budget":
            if key not in BudgetTable.model_fields:
                raise unknown_name("budget key", key, BudgetTable.model_fields)
            budget[key] = value
        elif owner in ARMS:
            ARMS[owner].resolve({key: value})
            arm_config.setdefault(owner, {})[key] = value
        elif owner == "all":
            if key not in OPTION_NAMES:
                raise unknown_name("option of every method", key, sorted(OPTION_NAMES))
            for method in config_classes:
                config.setdefault(method, {})[key] = value
        elif owner in config_classes:
            config.setdefault(owner, {})[key] = value
        else:
            raise unknown_name("method or arm", owner, [*config_classes, *ARMS, "budget", "all"])
    try:
        budget_table = BudgetTable(**{**suite.budget.model_dump(), **budget})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--set budget.{first['loc'][0]}: {first['msg']}") from error
    # A value set by hand holds on every dataset, so it also leaves the per-dataset tables.
    per_dataset = {
        dataset: {key: value for key, value in values.items() if key not in budget}
        for dataset, values in suite.dataset_budget.items()
    }
    return suite.model_copy(
        update={"budget": budget_table, "dataset_budget": per_dataset, "config": config, "arm_config": arm_config}
    )
