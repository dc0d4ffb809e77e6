"""What `step.profile(x, y)` measures: the time of every kernel, as a table, as pictures and as a trace.

record   what a profile is
measure  how one is taken
table    as text and for notebooks
bars     as a picture
trace    as events for Perfetto and chrome://tracing
"""
