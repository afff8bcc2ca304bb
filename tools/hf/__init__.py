"""Models of ours as Hugging Face's, and the other way round."""
