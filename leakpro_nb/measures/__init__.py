"""Pure functions of scores and truth: how well did the attacker do, and how sure are we?"""

from leakpro_nb.measures.belief import BeliefGain, belief_gain, records_needed
from leakpro_nb.measures.epsilon import EpsilonBound, epsilon_lower_bound
from leakpro_nb.measures.intervals import auc_interval, clopper_pearson
from leakpro_nb.measures.roc import best_threshold, roc, threshold_at_fpr, ties, tpr_at_fpr
from leakpro_nb.measures.validity import blind_baseline_scores, detectable_auc

__all__ = [
    "BeliefGain",
    "EpsilonBound",
    "auc_interval",
    "belief_gain",
    "best_threshold",
    "blind_baseline_scores",
    "clopper_pearson",
    "detectable_auc",
    "epsilon_lower_bound",
    "records_needed",
    "roc",
    "threshold_at_fpr",
    "ties",
    "tpr_at_fpr",
]
