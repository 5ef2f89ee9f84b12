"""Predictors: from a question about images to a text with masks."""
