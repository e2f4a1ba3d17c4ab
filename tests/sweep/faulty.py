"""Methods that go wrong, each in its own way; loaded with --method-file."""

import atexit
import gc
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

import torch
from torch import nn

from methods.base import MultiTaskModel, register_method


class Linear(MultiTaskModel):
    """Logistic regression on the numeric inputs: works."""

    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        self.towers = nn.ModuleDict({t.name: nn.Linear(len(schema.numeric), 1) for t in tasks})

    def forward(self, batch):
        return {name: tower(batch.numeric).squeeze(-1) for name, tower in self.towers.items()}

    def add_task(self, task):
        self.towers[task.name] = nn.Linear(len(self.schema.numeric), 1)
        return [self.towers[task.name]]

    @dataclass(frozen=True)
    class Config:
        pass


def faulty(name, arms=("joint",)):
    return register_method(name, title=name, paper="none", arms=arms)


@faulty("healthy", arms=("joint", "frozen", "finetune"))
class Healthy(Linear):
    pass


@faulty("raises")
class Raises(Linear):
    def forward(self, batch):
        raise ValueError("a message with \x1b[31mcolour\x1b[0m")


@faulty("diverges")
class Diverges(Linear):
    def loss(self, batch, outputs, progress):
        terms = super().loss(batch, outputs, progress)
        return {name: term * (float("nan") if progress.epoch == 2 else 1.0) for name, term in terms.items()}


@faulty("leaves")
class Leaves(Linear):
    def forward(self, batch):
        sys.exit(0)


@faulty("crashes")
class Crashes(Linear):
    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGSEGV)


@faulty("wrong_shape")
class WrongShape(Linear):
    def forward(self, batch):
        return {name: logits.unsqueeze(-1) for name, logits in super().forward(batch).items()}


@faulty("not_frozen", arms=("frozen",))
class NotFrozen(Linear):
    """Claims that only the new tower is new, and lets the old tasks read it."""

    def forward(self, batch):
        shift = sum(self.towers[name].bias for name in self.new_tasks) if self.new_tasks else 0.0
        return {name: tower(batch.numeric).squeeze(-1) + shift for name, tower in self.towers.items()}


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.payload = lambda: b


@faulty("unpicklable")
class RaisesUnpicklable(Linear):
    def forward(self, batch):
        raise Unpicklable("cannot cross a process border", torch)


@faulty("hangs")
class Hangs(Linear):
    """Ignores the polite signals and leaves a child behind."""

    def forward(self, batch):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            signal.pause()
        while True:
            signal.pause()


@faulty("leaves_daemons")
class LeavesDaemons(Linear):
    """Works, but leaves children in sessions of their own behind."""

    def forward(self, batch):
        if not getattr(self, "left", False):
            self.left = True
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        while True:
                            signal.pause()
                    os._exit(0)
        return super().forward(batch)


@faulty("hangs_with_daemons")
class HangsWithDaemons(LeavesDaemons):
    def forward(self, batch):
        super().forward(batch)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)


@faulty("leaks")
class Leaks(Linear):
    """Takes memory until there is none; the suite sets a limit."""

    def forward(self, batch):
        self.hoard = [*getattr(self, "hoard", []), torch.ones(64 << 20)]
        return super().forward(batch)


@faulty("floods")
class Floods(Linear):
    def forward(self, batch):
        if not getattr(self, "flooded", False):
            self.flooded = True
            for _ in range(300):
                print("x" * (1 << 20))
                time.sleep(0.005)
        return super().forward(batch)


@faulty("vanishes")
class Vanishes(Linear):
    """Leaves as if all were well."""

    def forward(self, batch):
        os._exit(0)


@faulty("forges")
class Forges(Linear):
    """Writes a record of its own, with the scores that it likes, and leaves as if all were well."""

    def forward(self, batch):
        from benchmark.execution.job import Job
        from benchmark.records.record import Record, TaskScores, run_id, write_record

        job = next(found for found in gc.get_objects() if isinstance(found, Job))
        scores = {name: TaskScores(n=100, positives=50, metrics={"auc": 0.9}) for name in job.key.tasks}
        write_record(job.directory, Record(run_id=run_id(job.key), key=job.key, status="ok", scores=scores))
        os._exit(0)


@faulty("reads_test_labels")
class ReadsTestLabels(Linear):
    def forward(self, batch):
        from datasets_registry import prepare

        data = prepare("tiny")
        data.labels("valid", self.tasks[0])
        data.labels("test", self.tasks[0])
        return super().forward(batch)


@faulty("predicts_nan")
class PredictsNan(Linear):
    def forward(self, batch):
        outputs = super().forward(batch)
        return outputs if self.training else {name: logits * float("nan") for name, logits in outputs.items()}


@faulty("base_exception")
class RaisesBaseException(Linear):
    def forward(self, batch):
        raise BaseException("not even an Exception")


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no message for you")


@faulty("hostile_exception")
class RaisesHostile(Linear):
    def forward(self, batch):
        raise Hostile


@faulty("endless_message")
class RaisesEndless(Linear):
    def forward(self, batch):
        raise ValueError("\ud800\x00\x1b]0;title\x07" + "y" * (8 << 20))


@faulty("kills_supervisor")
class KillsSupervisor(Linear):
    def forward(self, batch):
        os.kill(os.getppid(), signal.SIGKILL)
        while True:
            time.sleep(60)


@faulty("is_terminated")
class IsTerminated(Linear):
    """As by a batch system or an operator."""

    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


@faulty("is_terminated_once")
class IsTerminatedOnce(Linear):
    def forward(self, batch):
        marker = os.path.join(os.environ["MPTBENCH_CACHE"], "terminated-once")
        if not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(batch)


@faulty("closes_files")
class ClosesFiles(Linear):
    def forward(self, batch):
        os.closerange(0, 200)
        return super().forward(batch)


@faulty("recurses")
class Recurses(Linear):
    def forward(self, batch):
        return self.forward(batch)


@faulty("never_exits")
class NeverExits(Linear):
    """Works, but its threads and exit handlers would keep a process alive for ever."""

    def forward(self, batch):
        if not getattr(self, "begun", False):
            self.begun = True
            threading.Thread(target=threading.Event().wait).start()
            atexit.register(threading.Event().wait)
        return super().forward(batch)


@faulty("slow")
class Slow(Linear):
    """Works, half a second an epoch, and says where it is."""

    def end_epoch(self, epoch, rows):
        print(f"epoch {epoch}", flush=True)
        time.sleep(0.5)


@faulty("large", arms=("joint", "frozen"))
class Large(Linear):
    """Works, with weights of ten megabytes."""

    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        self.ballast = nn.Parameter(torch.zeros(2_600_000))


@faulty("more_threads")
class MoreThreads(Linear):
    """Trains with settings that its record would not state."""

    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(False)


@faulty("other_numbers")
class OtherNumbers(Linear):
    def __init__(self, schema, tasks, config):
        super().__init__(schema, tasks, config)
        torch.set_default_dtype(torch.float64)
