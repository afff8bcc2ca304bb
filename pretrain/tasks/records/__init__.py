"""Records of named fields: the units of the fields of a target are put into one order."""
