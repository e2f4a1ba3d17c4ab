"""The command line as the fault campaigns call it: every epoch leaves a checkpoint, and no t-SNE is computed.

In production a checkpoint is worth its time only after half a minute; here a kill has to meet one.
"""

import sys

from benchmark.cli import main as cli
from benchmark.execution import executor

executor.CHECKPOINT_SECONDS = 0.0
sys.modules["sklearn"] = None  # type: ignore[assignment]  # its figure is left out where it is not installed

if __name__ == "__main__":
    cli.main()
