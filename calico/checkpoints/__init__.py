"""Pretrained weights: where they come from, and loading them strictly with a report."""
