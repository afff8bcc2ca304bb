"""The subcommands of `python -m launcher`: each module has `HELP`, `add_options` and `run`."""
