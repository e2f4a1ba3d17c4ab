"""The engine of many machines: runs as tasks of a Dask cluster."""
