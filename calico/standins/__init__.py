"""Train the small stand-ins for the published checkpoints from synthetic scenes: `python -m calico.standins`."""
