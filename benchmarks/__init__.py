"""sumgrad beside other libraries: the gradient of a sum over samples, one thread each, in one run (`make bench`, `python -m benchmarks`).

`work/` has a file for each workload, with every library's form of it; `peers/` how each library is run; the other modules are the parts of a run.
"""
