"""What `tools.compare_strategies` trains: variants of a strategy, runs, what they left behind."""
