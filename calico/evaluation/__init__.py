"""Score predictions against the true masks of pairs: metrics, floors and confidence intervals."""
