"""Census-Income (KDD), UCI dataset 117: one record per surveyed person, 1994 and 1995.

Prepared as the MPT-Rec paper does, with its faults mended: vocabularies and scalers come from the training file only
(the released code fits a second encoder on the test file, which lacks one category and shifts 20 others), and the
validation half of the test file is cut once, not anew for each model seed. Values keep the blank after the comma:
`` ?`` (unknown) and `` NA`` (a kind of Hispanic origin) are categories like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

COLUMNS = (
    "age class_worker det_ind_code det_occ_code education wage_per_hour hs_college marital_stat major_ind_code "
    "major_occ_code race hisp_origin sex union_member unemp_reason full_or_part_emp capital_gains capital_losses "
    "stock_dividends tax_filer_stat region_prev_res state_prev_res det_hh_fam_stat det_hh_summ instance_weight "
    "mig_chg_msa mig_chg_reg mig_move_reg mig_same mig_prev_sunbelt num_emp fam_under_18 country_father "
    "country_mother country_self citizenship own_or_self vet_question vet_benefits weeks_worked year income_50k"
).split()
NUMERIC = (
    "age wage_per_hour capital_gains capital_losses stock_dividends instance_weight num_emp own_or_self vet_benefits "
    "weeks_worked year"
).split()
LABELS = ("income_50k", "marital_stat")  # the two source columns that are never inputs
POSITIVE = {
    "income": ("income_50k", " 50000+."),
    "marital": ("marital_stat", " Never married"),
    "education": ("education", " Bachelors degree(BA AB BS)"),
    "sex": ("sex", " Male"),
    "race": ("race", " Amer Indian Aleut or Eskimo"),
}


@dataclasses.dataclass(frozen=True)
class CensusIncome(Dataset):
    """The two official files; the training file trains, the test file is halved."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        from datasets_registry.encoding import delimited

        for part, key in ((0, "train"), (2, "test")):
            for batch in delimited.read(files[key], layout(), chunk_rows, row_bytes=520):
                yield Chunk(
                    features={feature.name: batch[feature.name] for feature in self.features},
                    labels={task.name: _equals(batch[column], value) for task, column, value in self._answers()},
                    part=part,
                )

    def _answers(self) -> list[tuple[Task, str, str]]:
        """Each task with its source column and the value that counts as positive."""
        return [(task, *POSITIVE[task.name]) for task in self.tasks]

    def vary(self, word: str) -> Dataset | None:
        if word == "separate_encoders":
            return dataclasses.replace(self, fitted_apart=True)
        if word == "two_task":
            return dataclasses.replace(self, tasks=self.tasks[:2], new_tasks=())
        if word != "no_weight":
            return None
        return dataclasses.replace(self, features=tuple(f for f in self.features if f.name != "instance_weight"))

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout(values=True))


def layout(values: bool = False) -> Layout:
    """The files' columns; with ``values`` each categorical column's known values as well, for validation."""
    from datasets_registry.encoding.delimited import Column, Layout

    known: Mapping[str, Any] = known_values() if values else {}
    return Layout(
        tuple(
            Column(name, "number", low=0.0)
            if name in NUMERIC
            else Column(name, allowed=frozenset(known[name]) if values else None)
            for name in COLUMNS
        )
    )


def known_values() -> Mapping[str, Any]:
    """Every value of each categorical column in the official files."""
    import tomllib

    path = Path(__file__).parent / "manifests" / "census_income.values.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _equals(column: Any, value: str) -> Any:
    """uint8 [n], 1 where a dictionary column has that value."""
    import numpy as np

    from datasets_registry.encoding.vocabulary import to_numpy

    hit = np.array([text == value for text in column.dictionary.to_pylist()], np.uint8)
    return hit[to_numpy(column.indices)]


register_dataset(
    CensusIncome(
        name="census_income",
        title="Census-Income (KDD)",
        tasks=(
            Task("income", "income above 50,000 dollars a year"),
            Task("marital", "never married"),
            Task("education", "highest degree is a bachelor's", excludes=("education",)),
            Task("sex", "male", excludes=("sex",)),
            Task("race", "American Indian, Aleut or Eskimo", excludes=("race",)),
        ),
        old_tasks=("income", "marital"),
        new_tasks=("education",),
        features=tuple(
            Feature(name, "numeric" if name in NUMERIC else "categorical") for name in COLUMNS if name not in LABELS
        ),
        licence="CC BY 4.0",
        citation="Census-Income (KDD). (2000). UCI Machine Learning Repository. https://doi.org/10.24432/C5N30T",
        home_page="https://archive.ics.uci.edu/dataset/117/census+income+kdd",
        size="199,523 + 99,762 rows, 29 categorical and 11 numeric features",
        manifest="census_income",
        split="halved",
        splits=("halved",),
        variants={
            "no_weight": "leaves out instance_weight, which UCI says is no feature (the paper keeps it)",
            "two_task": "the old tasks alone, with education among the inputs (127 of them after embedding), as in "
            "Table 3 of the MPT-Rec paper",
            "separate_encoders": "a defect on purpose: fits second encoders and scalers on the test file, as the "
            "released code of the MPT-Rec paper does; test rows shape their own encoding, as in a leak, and their "
            "codes shift",
        },
        defects=(
            "instance_weight is a survey weight; the paper uses it as an input and so does the default.",
            "own_or_self, vet_benefits and year are categorical codes that the paper uses as numbers.",
            "The test file lacks one household category of the training file; fitted on train, nothing shifts.",
            "With @separate_encoders, 20 household categories (householder and spouse among them) look up at test time "
            "the vector that training gave to their neighbour, for every method alike; use it only to compare with "
            "numbers of that code.",
            "1,510 of the 49,881 test rows have the inputs of a training row, value for value (3.0 %; 1,499 of them "
            "are never married), and without instance_weight, which is nearly an id, 13,656 (27 %): what a model "
            "remembers counts there. @deduplicated leaves them out.",
            "3,229 rows repeat an earlier row within train, 883 within test; they are kept.",
            "det_hh_fam_stat stays an input and gives marital away (AUC .978 alone, .986 with tax_filer_stat): every "
            "method reaches .993 there, and little is left to tell them apart by.",
            "For education det_occ_code alone has an AUC of .782 and age .741; hs_college, which stays an input as in "
            "the paper, says little (.526).",
        ),
    )
)
