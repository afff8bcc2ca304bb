"""Typed configuration: YAML file, then dotted command-line overrides, then cross-checks.

Every field is documented and bounded where it lives. Rules that join two fields of one section
live in that section; rules that join sections live in :class:`Config`; rules that need to know how
many processes there are live in :meth:`Config.check_layout`.
"""

from pretrain.config.base import Section
from pretrain.config.checkpoint import CheckpointConfig
from pretrain.config.command_line import parse_arguments
from pretrain.config.data import DataSection
from pretrain.config.load import load_config, read_yaml
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.config.optimizer import OptimizerConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.config.profile import ProfileConfig
from pretrain.config.root import Config
from pretrain.config.run import RunConfig
from pretrain.config.selection import (
    FITTED_STRATEGIES,
    TABLELESS,
    Decoding,
    SelectionConfig,
    Strategy,
)
from pretrain.config.training import TrainingConfig

__all__ = [
    "FITTED_STRATEGIES",
    "TABLELESS",
    "CheckpointConfig",
    "Config",
    "DataSection",
    "Decoding",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "ProfileConfig",
    "RunConfig",
    "Section",
    "SelectionConfig",
    "Strategy",
    "TrainingConfig",
    "load_config",
    "parse_arguments",
    "read_yaml",
]
