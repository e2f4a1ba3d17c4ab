"""All fault campaigns, one after the other, and what they counted: ``python -m tests.faults``."""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", nargs="?", help="run only this one, for example attacks")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--inputs", type=int, default=100_000, help="per reader")
    given = parser.parse_args()
    campaigns = (
        ("kill_and_resume", "--kills", given.kills),
        ("kill_and_resume", "--kills", given.kills, "--runners", 2),
        ("disk",),
        ("attacks",),
        ("methods",),
        ("files", "--faults", given.files),
        ("fuzz", "--inputs", given.inputs),
        ("cluster", "--workers", 2),
        ("cluster", "--workers", 4),
    )
    if given.campaign is not None:
        campaigns = tuple(campaign for campaign in campaigns if campaign[0] == given.campaign)
        if not campaigns:
            parser.error(f"no campaign {given.campaign!r}")
    failed = 0
    for name, *words in campaigns:
        failed += subprocess.run([sys.executable, "-m", f"tests.faults.{name}", *map(str, words)]).returncode != 0
    print(f"{len(campaigns)} campaigns, {failed} of them lost something")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
