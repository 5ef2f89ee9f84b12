"""CALICO and its baselines: one file per box of the paper's figure 3, wired in `model.py`."""
