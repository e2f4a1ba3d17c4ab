"""Side-by-side measuring: the alternatives take turns, so that a drifting machine hits all of them alike."""

import statistics
import time

import pytest

LINES = []


@pytest.fixture
def say():
    """Add a line to the summary."""
    return LINES.append


@pytest.fixture
def side_by_side(benchmark):
    """Call ``compare({name: function}, rounds)``: medians of seconds by name and of each ratio to the first name."""

    def compare(alternatives, rounds=5, title=""):
        seconds = {name: [] for name in alternatives}
        names = list(alternatives)
        for number in range(rounds + 1):
            for name in names:
                started = time.perf_counter()
                alternatives[name]()
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - started)
        benchmark.pedantic(alternatives[names[0]], rounds=1)
        first = seconds[names[0]]
        ratios = {name: statistics.median(s / f for s, f in zip(seconds[name], first)) for name in names[1:]}
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        benchmark.extra_info.update({"median_seconds": medians, "ratio_to_first": ratios})
        parts = [f"{names[0]} {medians[names[0]]:.3f} s"]
        parts += [f"{name} {medians[name]:.3f} s ({ratios[name]:.2f}x)" for name in names[1:]]
        LINES.append(f"{title}: " + ", ".join(parts))
        return medians, ratios

    return compare


def pytest_terminal_summary(terminalreporter):
    if LINES:
        terminalreporter.section("side by side (medians; ratio of each to the first)")
        for line in LINES:
            terminalreporter.write_line(line)
