"""Several processes in a test or a benchmark."""
