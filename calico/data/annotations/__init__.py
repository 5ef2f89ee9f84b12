"""Readers of the published annotation formats; every source becomes the same tables."""
