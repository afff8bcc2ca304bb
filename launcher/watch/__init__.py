"""A dashboard of a run, from its folder alone; needs neither torch nor the machines it runs on."""
