"""One script per DVC stage: read params, make one calico call, write files."""
