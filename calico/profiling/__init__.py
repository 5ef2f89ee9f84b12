"""Count what a model costs: parameters, operations, seconds."""
