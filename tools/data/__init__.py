"""Programs that make corpora from public sources."""
