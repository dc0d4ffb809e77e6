"""Kernels of the GPU on the CPU: compiled, to run whole models, and uncompiled, to catch what threads must not do."""
