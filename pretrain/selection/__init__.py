"""Which target unit is predicted first: counts, estimators, strategies, transforms, the selector.

Knows no model and no task by name: sources and targets are matrices of small whole numbers.
"""
