"""Programs around training: corpora, comparisons, export, generation, benchmarks."""
