"""Configs: what is typed, what is refused and in which words, what papers' presets say."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field

from benchmark.core.errors import UsageError
from benchmark.planning.configs import read_value, resolve_config
from datasets_registry import DATASETS
from methods import METHODS, declared, presets


@pytest.mark.parametrize(
    "text, value",
    [
        ("[64, 32]", [64, 32]),
        ("64,32", [64, 32]),
        ("(64, 32)", [64, 32]),
        ("64,", [64]),
        ("0.1", 0.1),
        ("true", True),
        ("rank", "rank"),
        ('"64,32"', "64,32"),
        ("both, general", "both, general"),
    ],
)
def test_values_are_read_as_people_type_them(text, value):
    assert read_value(text) == value


def test_a_value_nested_without_end_is_refused():
    with pytest.raises(UsageError, match="nested"):
        read_value("[" * 10_000)


@dataclass(frozen=True)
class Config:
    experts: int = 3
    warm_up: int = 0
    hidden: tuple[int, ...] = (64, 32)
    groups: tuple[tuple[str, ...], ...] = ()
    dropout: tuple[float, ...] = ()
    l2_dnn: float = 1e-3
    offset: float = -1.0
    gated: bool = False
    kind: Literal["soft", "hard"] = "soft"
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"experts": -1}, "experts must be at least 1, not -1"),
        ({"experts": 0}, "at least 1"),
        ({"experts": 2.5}, "experts must be a whole number like 3, not 2.5"),
        ({"experts": True}, "whole number"),
        ({"experts": "3"}, "whole number"),
        ({"hidden": [64, 0]}, "hidden must hold numbers of at least 1"),
        ({"hidden": 64}, r"hidden must be a list like \[64, 32\], not 64"),
        ({"hidden": ["a"]}, "hidden must be"),
        ({"dropout": [0.1, 1.0]}, "between 0 and 1"),
        ({"l2_dnn": -1e-3}, "l2_dnn must be at least 0"),
        ({"l2_dnn": float("nan")}, "finite"),
        ({"l2_dnn": float("inf")}, "finite"),
        ({"l2_dnn": 10**400}, "l2_dnn"),
        ({"gated": 1}, "true or false"),
        ({"kind": "sotf"}, "kind must be 'soft' or 'hard', not 'sotf'"),
        ({"share": 1.5}, "share: input should be less than or equal to 1, not 1.5"),
        ({"exprts": 3}, "Did you mean 'experts'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changes, words):
    with pytest.raises(UsageError, match=words):
        resolve_config(Config, "mine", changes)


def test_what_can_be_is_kept_with_lists_as_lists_and_numbers_widened():
    changes = {
        "warm_up": -1,
        "groups": [["a"], ["b", "c"]],
        "dropout": [0, 0.5],
        "l2_dnn": 0,
        "offset": -3,
        "kind": "hard",
    }
    resolved = resolve_config(Config, "mine", {"experts": 9}, changes | {"experts": 1, "balancing": "pcgrad"})
    assert resolved == {
        "experts": 1, "warm_up": -1, "hidden": [64, 32], "groups": [["a"], ["b", "c"]], "dropout": [0.0, 0.5],
        "l2_dnn": 0.0, "offset": -3.0, "gated": False, "kind": "hard", "share": 0.5, "balancing": "pcgrad",
    }  # fmt: skip
    assert isinstance(resolved["l2_dnn"], float) and isinstance(resolved["dropout"][0], float)


def test_a_value_of_a_config_nested_without_end_is_refused():
    value = []
    for _ in range(3000):
        value = [value]
    with pytest.raises(UsageError, match="nested"):
        resolve_config(Config, "mine", {"hidden": value})


def test_presets_name_methods_datasets_and_values_that_exist():
    for info in declared():
        for dataset, values in info.presets.items():
            assert dataset in DATASETS
            resolved = resolve_config(METHODS.get(info.name).Config, info.name, values)
            assert {key: resolved[key] for key in values} == {
                key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
            }
    known = {info.name for info in declared()}
    from methods import _presets

    assert {method for entry in _presets() for method in entry["methods"]} <= known


def test_a_later_preset_and_a_file_s_own_go_over_an_earlier_one():
    assert presets("mmoe")["ali_ccp"] == {
        "embedding_dim": 5, "hidden": (128, 64), "dropout": (0.1, 0.3), "tower": (32, 32),
        "l2_embedding": 1e-6, "l2_dnn": 1e-6,
    }  # fmt: skip
    assert presets("mpt_rec")["byterec"] == {
        "hidden": (128, 64), "tower": (32, 32), "l2_embedding": 1e-4, "l2_dnn": 7e-6,
    }  # fmt: skip
    own = presets("mmoe", {"byterec": {"experts": 5, "l2_dnn": 0.0}, "mine": {"experts": 2}})
    assert own["byterec"]["experts"] == 5 and own["byterec"]["l2_dnn"] == 0.0 and own["byterec"]["tower"] == (32, 32)
    assert own["mine"] == {"experts": 2}


COMPARISON = {  # the MPT-Rec comparison's coefficients of L2, (embedding, network), on Census-Income and on the others
    "single_task": ((0.0, 0.0), (0.0, 0.0)),
    "stem": ((6e-3, 0.0), (1e-6, 1e-6)),
    "sparse_sharing": ((3e-4, 0.0), (1e-6, 0.0)),
    "cs_rec": ((3e-4, 0.0), (1e-6, 0.0)),
    "mpt_rec": ((6e-3, 3e-5), (1e-4, 7e-6)),
    "maml": ((0.0, 0.0), (0.0, 0.0)),  # a single-task network
    "aitm": ((1e-6, 1e-6), (1e-6, 1e-6)),  # its own released code's
}


APART = ("gbdt", "logistic_regression", "auto_int", "multitab", "resflow")
"""Methods that are no MLP over one shared input: their sizes are their papers'."""
NETWORKS = sorted(info.name for info in declared() if info.name not in APART)


@pytest.mark.parametrize("method", NETWORKS)
def test_every_method_has_the_comparisons_sizes_and_regularisation_where_it_has_no_own(method):
    """What the comparison does not have is given what its Shared-Bottom, MMoE and PLE have."""
    census, others = COMPARISON.get(method, ((3e-4, 3e-4), (1e-6, 1e-6)))
    for dataset, expected in (("census_income", census), ("ali_ccp", others), ("byterec", others)):
        config = resolve_config(METHODS.get(method).Config, method, presets(method).get(dataset, {}))
        assert (config["l2_embedding"], config["l2_dnn"]) == expected, dataset
        assert config["embedding_dim"] == (5 if dataset == "ali_ccp" else 4)
        if method != "aitm":
            assert config["tower"] == ([64, 32] if dataset == "census_income" else [32, 32])
        if "hidden" in config:
            assert config["hidden"] == ([256, 128] if dataset == "census_income" else [128, 64])
