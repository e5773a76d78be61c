"""Pruning judged fairly: strategies compared from the same weights, with the same training on, on three axes.

    plan       strategies x ratios x seeds, and the controls; checked before anything is trained     `plan`, `smaller`
    data       what is learned from, what chooses the epoch, what results are read from              `data`, `hooks`
    task       what a worker does: train a dense model; prune it and train on                        `task`, `cut`
    fair       paired statistics: effects, orders with ties, flips between the axes                  `fair`
    page       one HTML page, a table in the terminal           `results`, `words`, `charts`, `page`, `terminal`

The protocol is that of ShrinkBench (arXiv 2003.03033) with what it asks of others: the same start weights, the same
training on, random pruning, the unpruned model and smaller dense models as controls, several ratios and seeds, and
compression, work and time shown as the different things they are. It differs in that the epoch is chosen on held-out
samples and never on the test data, that ties are ties, and that time is measured.
"""

from .plan import PrunePlan
from .study import PruneStudy, is_prune_study, open_prune_study, plan_prune, prune_curve, run_prune

__all__ = ["PrunePlan", "PruneStudy", "is_prune_study", "open_prune_study", "plan_prune", "prune_curve", "run_prune"]
