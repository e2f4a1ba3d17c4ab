"""What a new task costs the old ones and gains itself: the field's measures on a matrix of scores.

Notation: ``stages[i][t]`` is the score a[i, t] of task t on the test rows after stage i; larger is better (turn a loss
round before it comes here). A task that was not scored after a stage is absent or None. Every function returns
None where its measure is undefined, never 0. All results are in the unit of the score unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

Scores = Mapping[str, float | None]

CHANCE_AUC = 0.5


def degradation(stages: Sequence[Scores], old_tasks: Collection[str]) -> dict[str, float | None]:
    """Loss of each old task: a[learnt, t] - a[last, t]; positive means worse than before. Unit: score.

    ``learnt`` is the first stage after which t was scored. With one new task this is a[0, t] - a[1, t], the difference
    that Table 4 of the MPT-Rec paper (arXiv:2408.17214) shows.
    """
    return {task: _difference(_first(stages, task), _last(stages, task)) for task in old_tasks}


def mean_degradation(stages: Sequence[Scores], old_tasks: Collection[str]) -> float | None:
    """Mean of `degradation` over the old tasks; undefined if it is undefined for one of them."""
    return _mean(degradation(stages, old_tasks).values())


def worst_degradation(stages: Sequence[Scores], old_tasks: Collection[str]) -> float | None:
    """Largest `degradation` over the old tasks: the task that paid most, which a mean hides."""
    losses = degradation(stages, old_tasks).values()
    known = [loss for loss in losses if loss is not None]
    return max(known) if known and len(known) == len(losses) else None


def backward_transfer(stages: Sequence[Scores], old_tasks: Collection[str]) -> float | None:
    """BWT = mean over old tasks of a[last, t] - a[learnt, t]; negative means forgetting. Unit: score.

    Lopez-Paz & Ranzato, Gradient Episodic Memory, NeurIPS 2017, eq. 3. The negative of `mean_degradation`.
    """
    loss = mean_degradation(stages, old_tasks)
    return None if loss is None else 0.0 - loss


def forgetting(stages: Sequence[Scores], old_tasks: Collection[str]) -> float | None:
    """Mean over old tasks of max over i < last of a[i, t] - a[last, t]; larger is worse. Unit: score.

    Chaudhry et al., Riemannian Walk, ECCV 2018, eq. 3. The best *earlier* stage counts, so after more than two stages
    this differs from `mean_degradation`, and a task that only ever improved has a negative forgetting.
    """
    losses = []
    for task in old_tasks:
        earlier = [score for scores in stages[:-1] if (score := scores.get(task)) is not None]
        losses.append(_difference(max(earlier, default=None), _last(stages, task)))
    return _mean(losses)


def gain(score: float | None, single_task: float | None) -> float | None:
    """a[1, t] - s[t]: score over that of a model trained on this task alone; larger is better. Unit: score.

    The "gain" of Tables 3 and 5 of the MPT-Rec paper.
    """
    return _difference(score, single_task)


def distance_to_joint(score: float | None, joint: float | None) -> float | None:
    """a_joint[t] - a[1, t]: what learning the task later costs against retraining everything; smaller is better.

    Intransigence of Chaudhry et al., ECCV 2018, eq. 5. Unit: score.
    """
    return _difference(joint, score)


def delta_m(scores: Scores, single_task: Scores, larger_is_better: Mapping[str, bool] | None = None) -> float | None:
    """Multi-task gain: mean over tasks of (-1)^l (a[t] - s[t]) / s[t], larger is better. Unit: share (0.01 is 1 %).

    Maninis, Radosavovic & Kokkinos, Attentive Single-Tasking, CVPR 2019, eq. 4; l = 1 for a metric where smaller is
    better. Some papers print the same symbol as a drop, so a table has to say the sign. Undefined if a task of
    ``scores`` has no single-task score, or that score is 0.
    """
    gains = []
    for task, score in scores.items():
        reference = single_task.get(task)
        if score is None or reference is None or reference == 0:
            return None
        sign = 1.0 if larger_is_better is None or larger_is_better[task] else -1.0
        gains.append(sign * (score - reference) / reference)
    return _mean(gains)


def gain_above_chance(auc: float | None, single_task: float | None) -> float | None:
    """RelaImpr = (AUC - .5) / (AUC_single - .5) - 1: relative gain of what lies above guessing; larger is better.

    Yan et al., Coupled Group Lasso for Web-Scale CTR Prediction, ICML 2014. Unit: share. Undefined if the reference is
    not above chance, where the ratio has no meaning.
    """
    if auc is None or single_task is None or single_task <= CHANCE_AUC:
        return None
    return (auc - CHANCE_AUC) / (single_task - CHANCE_AUC) - 1.0


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _mean(values: Collection[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _first(stages: Sequence[Scores], task: str) -> float | None:
    """Score after the first stage that lists the task, even if that score is undefined."""
    return next((scores[task] for scores in stages if task in scores), None)


def _last(stages: Sequence[Scores], task: str) -> float | None:
    return stages[-1].get(task) if stages else None
