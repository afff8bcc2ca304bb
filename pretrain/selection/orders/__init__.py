"""Orders of units, and how targets are put into them and back."""
