"""Encodes a dataset in this process and prints what it took, as JSON: ``python -m tests.datasets_registry.measured
NAME DATA_DIR CACHE_DIR``. Own memory is what the system cannot take back (anonymous pages), looked at twenty times a
second; ``peak_bytes`` counts mapped pages of files, too."""

import json
import resource
import sys
import threading
import time

from datasets_registry import prepare


def watch(seen, stop):
    """Keep the largest number of anonymous bytes of this process in ``seen[0]``; Linux alone tells."""
    while not stop.wait(0.05):
        with open("/proc/self/status") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        seen[0] = max(seen[0], kib * 1024)


def main(name, data_dir, cache_dir):
    seen, stop = [0], threading.Event()
    threading.Thread(target=watch, args=(seen, stop), daemon=True).start()
    start = time.perf_counter()
    data = prepare(name, data_dir=data_dir, cache_dir=cache_dir)
    seconds, cpu = time.perf_counter() - start, time.process_time()
    stop.set()
    size = sum(path.stat().st_size for path in data.directory.iterdir())
    rows = data.meta["rows_read"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu, "rows_per_second": rows / seconds}
    found |= {"own_bytes": seen[0], "peak_bytes": peak, "bytes_per_row": size / rows}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:4])
