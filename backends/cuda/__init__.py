"""CUDA: kernels, the driver, memory and calls of a GPU."""
