"""Tasks: what is learned, how its targets are selected, how a model is scored."""
