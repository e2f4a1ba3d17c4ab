"""RetailRocket views, carts and purchases: the dense part as user-item pairs, without times and properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_registry.base import Chunk, Dataset, Feature, register_dataset
from datasets_registry.schema import Task

if TYPE_CHECKING:
    from datasets_registry.encoding.delimited import Layout

BEHAVIOURS = ("view", "cart", "buy")


@dataclasses.dataclass(frozen=True)
class RetailRocket(Dataset):
    """Pairs with a view."""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        for batch in delimited.read(files["pairs"], layout(), chunk_rows, row_bytes=16):
            columns = {name: to_numpy(batch[name]) for name in batch.schema.names}
            rows = np.flatnonzero(columns["view"] == 1)
            if len(rows):
                yield Chunk(
                    features={name: columns[name][rows] for name in ("user", "item")},
                    labels={name: columns[name][rows].astype(np.uint8) for name in BEHAVIOURS[1:]},
                    keys={"group": columns["user"][rows]},
                )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """Columns of the pairs."""
    from datasets_registry.encoding.delimited import Column, Layout

    ids = tuple(Column(name, "integer", low=0) for name in ("user", "item"))
    return Layout((*ids, *(Column(name, "integer", low=0, high=1) for name in BEHAVIOURS)), header=True)


register_dataset(
    RetailRocket(
        name="retailrocket",
        title="RetailRocket, dense part",
        notes="Each row is an item that a visitor of a shop looked at. `buy` is the last step of a real conversion "
        "path: a shop has views and carts in plenty before purchases enough to learn from.",
        tasks=(Task("cart", "put into the cart"), Task("buy", "bought")),
        old_tasks=("cart",),
        new_tasks=("buy",),
        funnel=("cart", "buy"),
        features=(Feature("user"), Feature("item")),
        licence="terms of the Kaggle page (said to be CC BY-NC-SA 4.0; not read)",
        citation="Retailrocket recommender system dataset, Kaggle, 2017; dense part by caserec (github.com/caserec/"
        "Datasets-for-Recommender-Systems)",
        home_page="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        size="78,371 viewed of 79,595 pairs of 3,431 visitors and 8,885 items (the complete data: 2,756,101 events)",
        manifest="retailrocket",
        split="random",
        splits=("random", "per_user"),
        defects=(
            "No time and no features but two ids in this part; the filter (visitors of 10, items of 40 interactions) "
            "was taken over the whole period.",
            "4,452 of the 4,731 viewed pairs with a purchase have a cart, too: nearly a conversion path.",
            "Pairs with a cart or a purchase but no view (1,224) are left out.",
            "Small, with little to gain: 455 purchases among the test rows, and trees are 0.008 AUC above the rate of "
            "the user alone.",
        ),
    )
)
