"""Runs the benchmark: ``python run_all.py --help``."""

from benchmark.cli.main import main

if __name__ == "__main__":
    main()
