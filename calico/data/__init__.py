"""Data: acquisition, annotations, pairs and loading, and the synthetic stand-in data sets."""
