"""Trackers of other makers: a run as one run there, also when it goes on."""
