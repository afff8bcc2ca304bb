"""The model run forward only, in any layout."""
