"""Arms: strategies by which a method adds a new task, and the runs that are measured beside them.

An arm says from where a run starts, which tasks it trains, which parameters move and what is added to backbone or
loss. The trainer is the same for all. Planning reads this without torch; what the options do is in
`benchmark.training.peft` (parameter-efficient arms) and `benchmark.training.forgetting` (arms that fight forgetting).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, unknown_name
from benchmark.spec.budget import Budget

if TYPE_CHECKING:  # planning reads arms without torch
    from torch import nn

    from datasets_registry.schema import Task
    from methods.base import MultiTaskModel


@dataclass(frozen=True)
class Arm:
    """One strategy of training.

    ``stage`` 0 knows the old tasks only. ``from_stage0`` continues the stage-0 model of the same method and seed;
    ``teacher`` starts afresh and learns the old tasks from that model's predictions. ``copies`` keeps the stage-0 model
    for the old tasks and trains a copy of it for the new ones. ``stages_of_epochs`` 2 grants the epochs of stage 0 and
    of the arm together. ``old_labels`` says what of the old tasks is read beside inputs: their labels of "all" rows or
    of a "memory", "predictions" of the stage-0 model, or "none".
    ``trains`` is "old", "all", "new" or "one" (a single-task model of one task). ``frozen`` keeps everything but
    what is added for the new task. ``adaptation`` names what the harness adds to a frozen backbone, ``continual`` what
    it adds to the loss of fine-tuning; ``options`` are their defaults. ``own_head`` tells that the adaptation brings
    all that predicts the new task, so the method's ``add_task`` is not asked; ``probes`` that training begins with the
    added part alone, for the option ``share`` of the epochs. ``needs`` are the arms that a method has to support for
    this one to work with it (itself, if empty), ``like`` an arm that asks the same of a method: who cannot be run with
    that one cannot be run with this one either.
    """

    name: str
    title: str
    stage: int
    trains: str
    from_stage0: bool = False
    frozen: bool = False
    needs: tuple[str, ...] = ()
    like: str = ""
    adaptation: str = ""
    own_head: bool = False
    probes: bool = False
    continual: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    later_options: Mapping[str, float] = field(default_factory=dict)
    """Options that joined after the first records: at their defaults they stay out of a run's key, which they would
    rename."""
    teacher: bool = False
    copies: bool = False
    stages_of_epochs: int = 1
    old_labels: str = "none"
    paper: str = ""

    @property
    def reads_stage0(self) -> bool:
        """Whether a run by this arm needs the weights that stage 0 left."""
        return self.from_stage0 or self.teacher

    def budget(self, table: Mapping[str, Any], learning_rate: float | None = None) -> Budget:
        """What a run by this arm may spend, from its key's table; ``learning_rate`` replaces the table's if given."""
        spent = Budget.of(table, self.from_stage0 and self.trains == "new", learning_rate)
        if self.stages_of_epochs == 1:
            return spent
        return spent.model_copy(update={"epochs": spent.epochs + (self.stages_of_epochs - 1) * table["epochs"]})

    def tasks(self, old: Sequence[str], new: Sequence[str]) -> list[str]:
        """Names of the tasks whose labels are trained (for "one", the plan names the task)."""
        return {"old": [*old], "all": [*old, *new], "new": [*new]}[self.trains]

    def supported_by(self, arms: Collection[str], without: Collection[str] = ()) -> bool:
        """Whether a method that declares ``arms`` and ``without`` can be run this way."""
        return set(self.needs or [self.name]) <= set(arms) and not {self.name, self.like} & set(without)

    def resolve(self, changes: Mapping[str, Any]) -> dict[str, float]:
        """The options with ``changes`` applied. Raises UsageError for a wrong name or a value that is no number of
        the default's kind above 0."""
        resolved = dict(self.options)
        defaults = {**self.options, **self.later_options, **(OWN_TRAINING if self.reads_stage0 else {})}
        for name, value in changes.items():
            if name not in defaults:
                raise unknown_name(f"option of the arm {self.name}", name, defaults)
            whole = isinstance(defaults[name], int)
            kind = "a whole number" if whole else "a number"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value < 0:
                raise UsageError(f"option of the arm {self.name}: {name} must be {kind} above 0, not {value!r}.")
            if value == 0 and name not in MAY_BE_ZERO:
                raise UsageError(f"option of the arm {self.name}: {name} must be {kind} above 0, not {value!r}.")
            resolved[name] = value if whole else float(value)
        if "alpha" in resolved and "alpha" not in changes:  # LoRA's scale alpha / rank stays what it is by default
            resolved["alpha"] = self.options["alpha"] / self.options["rank"] * resolved["rank"]
        return {n: v for n, v in resolved.items() if n not in self.later_options or v != self.later_options[n]}

    def option(self, name: str, resolved: Mapping[str, float]) -> float:
        """An option of a run, whose key leaves out what joined later and is at its default."""
        return resolved.get(name, {**self.options, **self.later_options}.get(name, 0.0))

    def take_in(self, model: MultiTaskModel, new: Sequence[Task]) -> list[nn.Parameter]:
        """Add the new tasks to a stage-0 model, set what is trainable, and return those parameters."""
        from torch import nn

        added: list[nn.Parameter] = []
        for task in new:
            for part in model.add_task(task):
                added += [part] if isinstance(part, nn.Parameter) else list(part.parameters())
            model.tasks = (*model.tasks, task)
        if not self.frozen or self.copies:
            return list(model.parameters())
        trained = {id(parameter) for parameter in added}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        return [parameter for parameter in model.parameters() if id(parameter) in trained]


STAGE0 = "stage0"
SCRATCH = "scratch"
JOINT = "joint"


def _adapted(name: str, title: str, paper: str, *, like: str = "", own_head: bool = False, **options: float) -> Arm:
    return Arm(
        name,
        title,
        stage=1,
        trains="new",
        from_stage0=True,
        frozen=True,
        needs=("frozen",),
        like=like,
        adaptation=name,
        own_head=own_head,
        options=options,
        later_options={"l2": 0.0},
        paper=paper,
    )


def _continual(name: str, title: str, paper: str, old_labels: str, **options: float) -> Arm:
    return Arm(
        name,
        title,
        1,
        "new",
        True,
        needs=("finetune",),
        continual=name,
        options=options,
        later_options={"select_old": 0},
        old_labels=old_labels,
        paper=paper,
    )


MAY_BE_ZERO = ("warm_up", "l2", "select_old", "l2_embedding", "l2_dnn")
"""Options of arms that 0 switches off."""

OWN_TRAINING: Mapping[str, float] = {"learning_rate": 1e-3, "l2_embedding": 0.0, "l2_dnn": 0.0}
"""What a run after stage 0 may train with instead of the method's own values: a common option of these arms, which
stands in a run's key only where it is set. (The numbers tell the kind of value; they are no defaults.)"""

ARMS = {
    arm.name: arm
    for arm in (
        Arm(STAGE0, "old tasks", stage=0, trains="old", old_labels="all"),
        Arm(JOINT, "joint retraining", stage=1, trains="all", old_labels="all"),
        Arm(
            "warm_joint",
            "joint training continued from stage 0",
            stage=1,
            trains="all",
            from_stage0=True,
            needs=("joint", "finetune"),
            old_labels="all",
        ),
        Arm(
            "joint_distil",
            "joint retraining with stage 0 as teacher",
            stage=1,
            trains="all",
            teacher=True,
            needs=("joint", "finetune"),
            old_labels="predictions",
            paper="Hinton et al., NIPS 2014 workshop",
        ),
        Arm("frozen", "frozen backbone", stage=1, trains="new", from_stage0=True, frozen=True),
        Arm("finetune", "fine-tuning", stage=1, trains="new", from_stage0=True),
        Arm(
            "finetune_long",
            "fine-tuning for the epochs of both stages",
            stage=1,
            trains="new",
            from_stage0=True,
            needs=("finetune",),
            stages_of_epochs=2,
        ),
        Arm(
            "finetune_copy",
            "a fine-tuned copy beside the old model",
            stage=1,
            trains="new",
            from_stage0=True,
            frozen=True,
            needs=("finetune",),
            copies=True,
        ),
        Arm(
            "lp_ft",
            "probing, then fine-tuning",
            stage=1,
            trains="new",
            from_stage0=True,
            needs=("finetune", "frozen"),
            probes=True,
            options={"share": 0.3},
            paper="Kumar et al., ICLR 2022",
        ),
        Arm(SCRATCH, "single task from scratch", stage=1, trains="one"),
        _adapted("linear_probe", "linear probe", "Alain and Bengio, ICLR 2017 workshop", own_head=True),
        _adapted(
            "side",
            "side network",
            "Zhang et al., Side-Tuning, ECCV 2020",
            like="linear_probe",
            own_head=True,
            width=32,
        ),
        _adapted("adapter", "bottleneck adapters", "Houlsby et al., ICML 2019", width=16),
        _adapted("lora", "LoRA", "Hu et al., ICLR 2022", rank=8, alpha=8.0),
        _adapted("bias_only", "biases only", "Ben Zaken et al., ACL 2022"),
        _adapted("ia3", "(IA)3", "Liu et al., NeurIPS 2022", like="lora"),
        _adapted("film", "FiLM", "Perez et al., AAAI 2018", like="lora"),
        _adapted("soft_prompt", "soft prompt", "Lester et al., EMNLP 2021"),
        _adapted("prefix", "prefix", "Li and Liang, ACL 2021", like="soft_prompt", length=8),
        _adapted("table_delta", "low-rank tables", "Hu et al., ICLR 2022", like="soft_prompt", rank=1),
        _continual("ewc", "fine-tuning with EWC", "Kirkpatrick et al., PNAS 2017", "none", strength=100.0),
        _continual(
            "lwf", "fine-tuning with distillation", "Li and Hoiem, ECCV 2016", "predictions", strength=1.0, warm_up=1
        ),
        _continual(
            "replay", "fine-tuning with replay", "Rolnick et al., NeurIPS 2019", "memory", share=0.05, strength=1.0
        ),
    )
}
