"""Benchmarks: ten workloads, each in graphc and in its peers, timed turn by turn (`python -m graphc bench`)."""
