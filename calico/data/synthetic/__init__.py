"""Synthetic stand-ins for the data sets, written in their real on-disk formats."""
