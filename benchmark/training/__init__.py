"""Whatever can change a number of a run. Fingerprints hash this folder whole."""
