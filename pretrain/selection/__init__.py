"""Which target unit is predicted first: counts, estimators, strategies, transforms, the selector.

Knows no model and no task by name: sources and targets are documents of small whole numbers.

documents -> exchange, kernels, plan, table -> counts -> positions, estimators, pointwise, probe ->
strategies, transforms -> artifact, selector
"""
