"""Text: one selected token stands in front of each sentence."""
