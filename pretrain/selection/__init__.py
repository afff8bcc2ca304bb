"""Which target unit is predicted first: counts, estimators, orders, the fitter, the schedule.

Knows no model and no task by name: sources and targets are documents of small whole numbers, and
what tasks differ in is handed to the fitter.

table (collectives, kernels, sharding, rows -> counts -> positions -> manifest, store) ->
estimators -> orders -> selector -> fitter -> schedule
"""
