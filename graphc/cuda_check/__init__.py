"""Everything about `device="cuda"` that needs a GPU, checked and timed in one run: `python -m graphc.cuda_check`."""
