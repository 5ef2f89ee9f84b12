"""Train small stand-ins for the published checkpoints on synthetic scenes: `python -m calico.standins`."""
