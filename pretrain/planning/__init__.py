"""What a layout costs in memory, communication and time, before anything is started.

Every formula counts what this system really does, with DeepSpeed's and Megatron-Core's habits as
they are; docs/planning.md lists them.
"""

from pretrain.planning.layout import Layout
from pretrain.planning.plan import Plan, make_plan, vocabulary_of
from pretrain.planning.search import Search, search
from pretrain.planning.step_time import Machine

__all__ = ["Layout", "Machine", "Plan", "Search", "make_plan", "search", "vocabulary_of"]
