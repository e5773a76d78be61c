"""MADDNESS: approximate matrix products by hashing and table look-up (arXiv 2106.10860); estimator.py explains it."""

from __future__ import annotations

from .estimator import Maddness
from .files import load, save
from .tables import Tables, averaging, dequantise, make_tables
from .trees import Trees, learn_trees

__all__ = ["Maddness", "Tables", "Trees", "averaging", "dequantise", "learn_trees", "load", "make_tables", "save"]
