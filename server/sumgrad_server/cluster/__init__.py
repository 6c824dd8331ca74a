"""Computing on the workers of a Dask cluster: the other executor. Nothing else of the server knows of Dask."""
