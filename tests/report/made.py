"""Self-made records: small, complete, and with numbers that a test can compute by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.records.record import (
    Epoch,
    Flops,
    Key,
    Parameters,
    Provenance,
    Record,
    Seconds,
    Selection,
    TaskScores,
    run_directory,
    run_id,
    write_record,
)

OLD, NEW = ["income", "marital"], ["education"]
BUDGET = {"epochs": 30, "patience": 5, "batch_size": 256, "learning_rate": 0.001}


def record(
    method: str,
    arm: str,
    seed: int,
    scores: dict[str, float | None] | None = None,
    *,
    dataset: str = "census",
    old: list[str] = OLD,
    new: list[str] = NEW,
    tasks: list[str] | None = None,
    config: dict[str, Any] | None = None,
    status: str = "ok",
    trainable: int = 1000,
    total: int = 10_000,
    paper_trainable: int | None = None,
    training_step: float = 6e5,
    training_step_new: float | None = None,
    seconds: float = 60.0,
    cpu: str = "Example CPU",
    parent: Record | None = None,
    commit: str = "0123456789abcdef",
    curve: list[float] = [0.8, 0.85, 0.84],  # noqa: B006 (read only)
) -> Record:
    scores = scores or {}
    tasks = tasks if tasks is not None else (old if arm == "stage0" else new if arm != "joint" else old + new)
    key = Key(
        dataset=dataset, old_tasks=old, new_tasks=new, tasks=tasks, method=method, config=config or {"width": 4},
        arm=arm, stage=0 if arm == "stage0" else 1, budget=BUDGET, selection="validation_mean", seed=seed,
    )  # fmt: skip
    ok = status == "ok"
    return Record(
        run_id=run_id(key),
        key=key,
        status=status,
        reason=None if ok else f"made to be {status}",
        parent=parent.run_id if parent else None,
        scores={
            task: TaskScores(
                n=1000,
                positives=0 if value is None else 100,
                metrics={"auc": value, "log_loss": 0.3},
                reasons={"auc": "one class"} if value is None else {},
                auc_standard_error=None if value is None else 0.004,
            )
            for task, value in scores.items()
            if ok
        },
        curve=[
            Epoch(
                epoch=i + 1,
                loss={tasks[0]: 1 / (i + 1)},
                validation={task: {"auc": value} for task in tasks},
                selection=value,
                train_seconds=2.0,
                validate_seconds=0.5,
            )
            for i, value in enumerate(curve if ok else [])
        ],
        selection=Selection(rule="validation_mean", epoch=2, score=0.85, epochs_run=3) if ok else None,
        params=Parameters(
            total=total, trainable=trainable, by_role={"shared": total}, trainable_by_role={"shared": trainable},
            reserved=10, paper_trainable=paper_trainable,
        ) if ok else None,
        flops=Flops(
            forward=training_step / 3, training_step=training_step,
            forward_new=training_step_new / 3 if training_step_new else None, training_step_new=training_step_new,
        ) if ok else None,
        seconds=Seconds(
            load=1, build=1, cache=0, train=seconds - 12, validate=5, predict=5, total=seconds,
            to_best_epoch=seconds / 2
        ) if ok else None,
        rows_per_second=50_000 if ok else None,
        peak_memory_bytes=500 * 2**20 if ok else None,
        provenance=Provenance(
            commit=commit, dirty=False, code_fingerprint="c", data_fingerprint="d", packages={}, python="3.11",
            machine="x86_64", cpu=cpu, gpu=None, device="cpu", threads=1, jobs=1, deterministic=True,
            flush_denormal=True, command="made", started="2026-01-01T00:00:00Z",
        ),
    )  # fmt: skip


def study(
    methods: dict[str, float], seeds: range = range(3), dataset: str = "census", arms: tuple[str, ...] = ("finetune",)
) -> list[Record]:
    """Single-task references, and for each method stage 0, joint, frozen and ``arms``.

    ``methods`` maps a name to its level. Seeds shift all scores alike by .001 per seed (ten at most), and each
    method's own by a fixed pattern, so means, differences and degradations are round numbers.
    """
    made = []
    for seed in seeds:
        shift = 0.001 * (seed % 10)
        for task, level in (("income", 0.940), ("marital", 0.990), ("education", 0.860)):
            made.append(
                record("single_task", "scratch", seed, {task: level + shift / 10}, tasks=[task], dataset=dataset,
                       trainable=8000, total=8000, seconds=40)
            )  # fmt: skip
        for place, (name, level) in enumerate(methods.items()):
            own = level + shift + 0.0005 * ((seed + place) % 3 - 1)
            before = {"income": own, "marital": own + 0.03}
            stage0 = record(name, "stage0", seed, before, dataset=dataset, trainable=9000, total=9000)
            made.append(stage0)
            made.append(
                record(name, "joint", seed, {"income": own - 0.002, "marital": own + 0.029, "education": own - 0.08},
                       dataset=dataset, trainable=10_000, total=10_000, seconds=90 + place)
            )  # fmt: skip
            made.append(
                record(name, "frozen", seed, before | {"education": own - 0.081}, dataset=dataset, parent=stage0,
                       trainable=1000 + 500 * place, total=10_000, paper_trainable=2000, training_step_new=6e4,
                       seconds=20 + place)
            )  # fmt: skip
            for arm in arms:
                after = {"income": own - 0.03, "marital": own - 0.03, "education": own - 0.079}
                made.append(record(name, arm, seed, after, dataset=dataset, parent=stage0, trainable=10_000))
    return made


def write(out: Path, records: list[Record]) -> Path:
    for item in records:
        write_record(run_directory(out, item.key), item)
    return out
