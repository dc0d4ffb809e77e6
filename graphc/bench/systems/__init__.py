"""The workloads in each system, one file a system; all but graphc's import nothing of graphc outside of this room."""
