"""Parameter counts against the exact numbers that follow from the architectures (checked by hand)."""

import pytest
import torch

from datasets_registry.schema import CategoricalFeature, Schema, Task
from methods import METHODS

# embedding rows, categorical and numeric features, preset
SETTINGS = {
    "census": (471, 28, 11, "census_income"),
    "ali_ccp": (1_044_451, 16, 0, "ali_ccp"),
    "byterec": (4_691_359, 8, 0, "byterec"),
    "census, two tasks": (488, 29, 11, "census_income"),
    "ali_ccp, two tasks": (1_283_090, 18, 0, "ali_ccp"),
}
TABLES = [1_884, 5_222_255, 18_765_436, 1_952, 6_415_450]
SINGLE = [76_893, 5_244_048, 18_781_085, 77_985, 6_438_523]
JOINT = {
    ("shared_bottom", 2): [87_262, 5_247_217, 18_784_254, 88_354, 6_441_692],
    ("shared_bottom", 3): [97_631, 5_250_386, 18_787_423, 98_723, 6_444_861],
    ("mmoe", 2): [217_280, 5_284_945, 18_809_406, 220_444, 6_482_040],
    ("mmoe", 3): [228_018, 5_288_354, 18_812_671, 231_194, 6_485_479],
    ("ple", 2): [334_267, 5_314_785, 18_839_198, 337_435, 6_511_890],
    ("ple", 3): [451_501, 5_347_506, 18_865_631, 455_705, 6_545_921],
    ("stem", 2): [221_048, 15_729_455, 56_340_278, 224_348, 19_312_940],
    ("stem", 3): [298_679, 20_973_983, 75_121_555, 303_095, 25_752_003],
    ("mpt_rec", 2): [217_548, 5_285_043, 18_809_600, 220_704, 6_482_118],
    ("mpt_rec", 3): [293_060, 5_307_125, 18_825_442, 297_248, 6_505_500],
}
FROZEN = {
    "shared_bottom": [10_369, 3_169],
    "mmoe": [10_738, 3_409],
    "ple": [117_613, 32_929],
    "stem": [77_139, 5_244_208],
    "mpt_rec": [27_063, 8_129, 6_497],
}
PAPER_OLD_TASKS = {"shared_bottom": [20_738, 6_338], "mmoe": [21_476, 6_818]}


def model(method: str, setting: str, names: str):
    rows, categorical, numeric, preset = SETTINGS[setting]
    features = [CategoricalFeature("f0", rows - categorical + 1)]
    features += [CategoricalFeature(f"f{i}", 1) for i in range(1, categorical)]
    schema = Schema(tuple(features), tuple(f"n{i}" for i in range(numeric)))
    cls = METHODS.get(method)
    with torch.device("meta"):  # shapes without memory: a table has up to 19 million entries
        return cls(schema, [Task(name) for name in names], cls.Config(**cls.info.presets.get(preset, {})))


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("method", "tasks"), JOINT)
def test_all_tasks_at_once(method, tasks, setting):
    built = model(method, setting, "abc"[:tasks])
    assert count(built.parameters()) == JOINT[method, tasks][list(SETTINGS).index(setting)]
    roles = built.parameter_roles()
    tables = TABLES[list(SETTINGS).index(setting)]  # stem has further ones, which belong to its tasks
    assert count(roles["embedding"]) == tables
    assert sum(count(members) for members in roles.values()) == count(built.parameters())


@pytest.mark.parametrize("setting", SETTINGS)
def test_single_task(setting):
    assert count(model("single_task", setting, "a").parameters()) == SINGLE[list(SETTINGS).index(setting)]


@pytest.mark.parametrize(
    ("method", "setting", "expected"),
    [(m, s, n) for m, numbers in FROZEN.items() for s, n in zip(SETTINGS, numbers, strict=False)],
)
def test_what_the_frozen_arm_trains(method, setting, expected):
    built = model(method, setting, "ab")
    parts = built.add_task(Task("c"))
    built.tasks = (*built.tasks, Task("c"))
    assert sum(count(part.parameters()) for part in parts) == expected
    assert count(built.parameter_roles()["task:c"]) == expected


@pytest.mark.parametrize(
    ("method", "setting", "expected"),
    [(m, s, n) for m, numbers in PAPER_OLD_TASKS.items() for s, n in zip(SETTINGS, numbers, strict=False)],
)
def test_the_papers_own_way_of_counting(method, setting, expected):
    built = model(method, setting, "ab")
    assert built.info.paper_counts == "old_task_parameters"
    roles = built.parameter_roles()
    assert count(roles["task:a"]) + count(roles["task:b"]) == expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("census", (128, 16_064, 256, 246, 10_369)), ("ali_ccp", (64, 4_608, 128, 160, 3_169))],
)
def test_head_split_of_mpt_rec(setting, expected):
    (head,) = model("mpt_rec", setting, "ab").add_task(Task("c"))
    *linear, norm = head.projection
    parts = head.embedding, torch.nn.Sequential(*linear), norm, head.gate, head.tower
    assert tuple(count(part.parameters()) for part in parts) == expected


HAND = {
    # Census, d_in 123, two old tasks; a body is 123 x 256 + 256 + 256 x 128 + 128 = 64,640, a tower 10,369
    "cross_stitch": (1_884 + 2 * (64_640 + 10_369) + 2 * 2 * 2, 64_640 + 10_369 + 2 * 3),
    # gates read 123: 123 w + w + w w + w for each layer's width w, of 123, 256, 128, 64 and 32 inputs
    "pepnet": (1_884 + 30_504 + 2 * (64_640 + 10_369 + 177_544), 64_640 + 10_369 + 177_544),
    # rank 8 at both layers, 8 (123 + 256 + 1) + 8 (256 + 128 + 1), query and key of 16
    "low_rank_experts": (1_884 + 64_640 + 2 * (10_369 + 6_120 + 32), 10_369 + 6_120 + 32),
    # a prompt of 123, query and key 16 x 123
    "pcl": (1_884 + 64_640 + 2 * (10_369 + 123 + 3_936), 10_369 + 123 + 3_936),
}


@pytest.mark.parametrize("method", HAND)
def test_hand_counts_of_further_methods(method):
    gates = [123 * w + w + w * w + w for w in (123, 256, 128, 64, 32)]
    assert (gates[0], sum(gates)) == (30_504, 177_544)
    built = model(method, "census", "ab")
    total, new = HAND[method]
    assert count(built.parameters()) == total
    assert sum(count(part.parameters()) for part in built.add_task(Task("c"))) == new


def test_embedding_width_and_layout():
    census = model("shared_bottom", "census", "ab")
    assert census.embed.width == 123
    assert model("mpt_rec", "census, two tasks", "ab").embed.width == 127
    assert model("ple", "ali_ccp", "ab").embed.width == 80
