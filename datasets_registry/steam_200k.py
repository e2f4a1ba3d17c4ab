"""Steam-200k: which games users own and for how many hours they played them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

HOURS = {"played": 0.0, "hours5": 5.0, "hours20": 20.0, "hours100": 100.0}


@dataclasses.dataclass(frozen=True)
class Steam200k(Dataset):
    """Owned user-game pairs with hours; an empty cell is a game never played."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np
        import pyarrow.compute as pc

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["pairs"], layout(), chunk_rows, row_bytes=16):
            hours = to_numpy(pc.fill_null(batch["hours"], 0.0))
            labels = {name: (hours >= least) & (hours > 0) for name, least in HOURS.items()}
            yield Chunk(
                features={name: batch[name] for name in ("user_id", "game_id")},
                labels={name: values.astype(np.uint8) for name, values in labels.items()},
                keys={"group": to_numpy(batch["user_id"])},
            )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """Columns of the pairs."""
    from datasets_registry.encoding.delimited import Column, Layout

    ids = tuple(Column(name, "integer", low=0) for name in ("user_id", "game_id"))
    return Layout((*ids, Column("hours", "number", low=0, empty=True)), header=True, nulls=("",))


register_dataset(
    Steam200k(
        name="steam_200k",
        title="Steam-200k (hours played)",
        notes="Each row is a game that a user owns. `hours20` tells games that hold their players from those tried "
        "once; it needs weeks of play, whereas `played` is known at once.",
        toy="all tasks are thresholds of one number, the hours played: what is learnt of one is learnt of the others "
        "by construction; no evidence on the relatedness of tasks",
        tasks=(
            Task("played", "played at all"),
            Task("hours5", "played for 5 hours or more"),
            Task("hours20", "played for 20 hours or more"),
            Task("hours100", "played for 100 hours or more"),
        ),
        old_tasks=("played", "hours5"),
        new_tasks=("hours20",),
        chain=("hours20", "hours100"),
        funnel=("played", "hours5", "hours20", "hours100"),
        features=(Feature("user_id"), Feature("game_id")),
        licence="terms of the Kaggle page (said to be Open Database Licence; not read)",
        citation="Tamber Team, Steam Video Games, Kaggle, 2017",
        home_page="https://www.kaggle.com/datasets/tamber/steam-video-games",
        size="128,804 pairs of 12,393 users and 5,155 games",
        manifest="steam_200k",
        split="random",
        splits=("random", "per_user"),
        complete_rows=128_804,
        defects=(
            "No time and no features but two ids.",
            "Half the users own two games or fewer, so the split is by row.",
            "Bundled games are bought together, which ties a user's rows across the splits.",
            "12 repeated plays were added up, 707 repeated purchases merged by the preparation.",
        ),
    )
)
