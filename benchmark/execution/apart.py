"""What the command line wants to know of methods before they run, computed where their code can do no harm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.execution import processes
from benchmark.execution.children import end_child
from datasets_registry import load_file
from methods import METHODS


def apart(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    seconds: float,
    *,
    method_files: Iterable[Path] = (),
    dataset_files: Iterable[Path] = (),
) -> Any | None:
    """``function(*arguments)`` in a supervised process, as runs have, that knows these files; its output is dropped.

    None if it raises, dies or takes longer than ``seconds``: whatever a method's code does there, its run will say.
    ``function``, its arguments and its result are pickled.
    """
    context: Any = processes.context()  # every context has Process, though its base does not say so
    receiver, sender = context.Pipe(duplex=False)
    files = tuple(method_files), tuple(dataset_files)
    process = context.Process(target=_supervised, args=(function, arguments, files, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(seconds) else None
    except (EOFError, OSError):
        return None
    finally:
        end_child(process)
        receiver.close()


def _supervised(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    files: tuple[tuple[Path, ...], tuple[Path, ...]],
    sender: Connection,
) -> None:
    def work() -> int:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with contextlib.suppress(Exception, SystemExit):
            for file in files[0]:
                METHODS.load_file(file)
            for file in files[1]:
                load_file(file)
            sender.send(function(*arguments))
        return 0

    processes.supervise(work, Path(os.devnull))
