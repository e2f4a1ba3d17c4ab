"""From official hosts and raw files to chunks of columns."""
