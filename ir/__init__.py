"""The compiler: graph, gradients, passes, fusion, plan. Imports NumPy and itself only."""
