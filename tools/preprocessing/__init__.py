"""Text to a tokenized corpus: sources, units of work, the desk that hands them out, and merging."""
