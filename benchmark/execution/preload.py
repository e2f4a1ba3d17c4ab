"""Imported once by the server process from which runs are forked, so that no run pays for these imports.

torch's optimizers import its compiler (about two seconds) when the first one is made.
"""

import importlib
import signal

# Ctrl-C during these imports is answered by the command line, not by a traceback from the middle of torch. Runs are
# asked to end by the same signal, so it is given back.
_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)

import methods  # noqa: E402
from benchmark.records import provenance as environment  # noqa: E402

for name in (
    "torch._dynamo",
    "torch.utils.flop_counter",
    "benchmark.execution.runner",
    "datasets_registry.encoding.store",
):
    importlib.import_module(name)
for name in methods.METHODS:
    methods.METHODS.get(name)
# Remembered by every fork: the code that was loaded, even if a file is edited during a sweep.
environment.remember_code(methods.METHODS.file(name) for name in methods.METHODS)
signal.signal(signal.SIGINT, _interrupt)
