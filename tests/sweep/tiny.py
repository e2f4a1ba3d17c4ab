"""A dataset small enough to run whole sweeps in seconds; loaded with --dataset-file."""

from datasets_registry import DATASETS
from datasets_registry.base import register_dataset

synthetic = DATASETS.get("synthetic")
tiny = type(synthetic)(
    **{
        **{field: getattr(synthetic, field) for field in synthetic.__dataclass_fields__},
        "name": "tiny",
        "rows": 2_000,
    }
)
register_dataset(tiny)
