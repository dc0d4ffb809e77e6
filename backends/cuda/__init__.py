"""Programs for NVIDIA GPUs: the same loop nests as on the CPU, printed for threads in blocks; the driver; calls."""
