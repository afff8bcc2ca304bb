"""How a training step changes the weights."""
