"""Base of tasks whose examples have fixed widths: the units of a target are put into one order."""
