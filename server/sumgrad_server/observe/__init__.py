"""What people and machines see of a server that runs: metrics, logs, traces, health, and a page on the metrics port.

`observation.py` brings the observers of calls together, `view.py` is the one place that asks the pool and the stores how things stand. What is
paid for every call is in `metrics.py`, `recent.py` and `logs.py`: a few additions, and nothing that grows.
"""
