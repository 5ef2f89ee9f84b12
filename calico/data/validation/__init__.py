"""Check a finished data set: rules that unify, curate and pair promise, on the files that they wrote."""
