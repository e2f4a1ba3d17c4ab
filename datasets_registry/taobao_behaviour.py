"""Taobao views, carts and purchases: user-item pairs as the literature on multi-behaviour recommendation cuts them.

Ids are all there is, so this dataset shows what sharing does without features.
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

BEHAVIOURS = ("view", "cart", "buy")
HELD_OUT = "T"


@dataclasses.dataclass(frozen=True)
class TaobaoBehaviour(Dataset):
    """Pairs with a view. With ``held_out`` those that the benchmark holds out for any behaviour test."""

    held_out: bool = False

    def vary(self, word: str) -> Dataset | None:
        if word != "held_out":
            return None
        return dataclasses.replace(self, held_out=True, split="tenth", splits=("tenth",))

    def configuration(self) -> str:
        return "held_out" if self.held_out else ""

    def read(self, files: Mapping[str, Path], chunk_rows: int) -> Iterator[Chunk]:
        import numpy as np

        from datasets_registry.encoding import delimited
        from datasets_registry.encoding.vocabulary import to_numpy

        parts = (0, 2) if self.held_out else (None,)
        for part in parts:
            for batch in delimited.read(files["pairs"], layout(), chunk_rows, row_bytes=16):
                happened = {name: ~_is(batch[name], "0") for name in BEHAVIOURS}
                tested = np.any([_is(batch[name], HELD_OUT) for name in BEHAVIOURS], axis=0)
                rows = np.flatnonzero(happened["view"] & ((part is None) | (tested == (part == 2))))
                if not len(rows):
                    continue
                user, item = to_numpy(batch["user"])[rows], to_numpy(batch["item"])[rows]
                yield Chunk(
                    features={"user": user, "item": item},
                    labels={name: happened[name][rows].astype(np.uint8) for name in BEHAVIOURS[1:]},
                    part=part or 0,
                    keys={"group": user},
                )

    def check_file(self, key: str, path: Path) -> Iterator[tuple[int, str, str]]:
        from datasets_registry.encoding import delimited

        return delimited.check(path, layout())


def layout() -> Layout:
    """Columns of the pairs: 0 no, 1 in the benchmark's training part, T held out by it."""
    from datasets_registry.encoding.delimited import Column, Layout

    marks = frozenset(("0", "1", HELD_OUT))
    return Layout(
        (
            Column("user", "integer", low=0),
            Column("item", "integer", low=0),
            *(Column(name, allowed=marks) for name in BEHAVIOURS),
        ),
        header=True,
    )


def _is(column: Any, mark: str) -> Any:
    """bool [n], where a dictionary column has that mark."""
    import numpy as np

    from datasets_registry.encoding.vocabulary import to_numpy

    return np.array([text == mark for text in column.dictionary.to_pylist()], bool)[to_numpy(column.indices)]


register_dataset(
    TaobaoBehaviour(
        name="taobao_behaviour",
        title="Taobao view, cart and buy",
        notes="Each row is an item that a user looked at in nine days of 2017. `buy` comes last on the way to a "
        "purchase and is the scarcest: a shop has views and carts in plenty long before purchases enough to learn "
        "from.",
        tasks=(Task("cart", "put into the cart"), Task("buy", "bought")),
        old_tasks=("cart",),
        new_tasks=("buy",),
        funnel=(),
        features=(Feature("user"), Feature("item")),
        licence="Tianchi's terms for the origin (not read; said to be non-commercial research); no redistribution",
        citation="Alibaba, User Behavior Data from Taobao for Recommendation, Tianchi 649; cut of MBCGCN (github.com/"
        "SS-00-SS/MBCGCN)",
        home_page="https://tianchi.aliyun.com/dataset/649",
        size="873,954 viewed of 957,915 pairs of 15,449 users and 11,953 items",
        manifest="taobao_behaviour",
        split="random",
        splits=("random", "per_user"),
        variants={
            "held_out": "tests on the viewed pairs that the benchmark holds out for any behaviour and trains on the "
            "others; what is held out was chosen because something happened there, so base rates and AUCs cannot be "
            "compared with those of other splits, nor with the literature's ranking measures"
        },
        defects=(
            "No time and no features but two ids.",
            "view is no task: whatever was not viewed is missing, and sampled negatives would say more of the sampling "
            "than of the users.",
            "Not a conversion path: of the viewed pairs with a purchase most have no cart (both have 18,884 of "
            "87,508), so none is declared.",
            "Pairs with a cart or a purchase but no view (83,961) are left out.",
            "The benchmark keeps users with at least one purchase, so base rates are above the platform's.",
        ),
    )
)
