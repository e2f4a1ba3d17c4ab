"""The step that machines are compared by: it measures, and it leaves the run that follows alone."""

import torch

from benchmark.execution import calibration

CPU = torch.device("cpu")


def test_the_step_is_measured_and_moves_no_random_stream_of_the_run():
    before = torch.get_rng_state()
    found = calibration.kernel_milliseconds(CPU)
    assert found is not None and 0.01 < found < 1000
    assert torch.equal(torch.get_rng_state(), before)


def test_twice_the_work_takes_longer_in_its_milliseconds(monkeypatch):
    """The number follows the machine's pace: a step on eight times the rows stands for one eight times as slow."""
    quick = min(calibration.kernel_milliseconds(CPU) for _ in range(3))
    monkeypatch.setattr(calibration, "ROWS", 8 * calibration.ROWS)
    assert min(calibration.kernel_milliseconds(CPU) for _ in range(3)) > 1.5 * quick


def test_a_run_goes_on_where_the_step_cannot_be_computed(monkeypatch):
    def no_memory(*_, **__):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(torch.optim, "Adam", no_memory)
    assert calibration.kernel_milliseconds(CPU) is None
