"""What a trained model has to be compared with."""
