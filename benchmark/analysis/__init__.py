"""What records say, as numbers: no sentence, no table, no figure. `benchmark.report` renders it."""
