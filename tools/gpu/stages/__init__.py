"""One module per stage of tools.gpu.prove, each with `run(options, report)`."""
