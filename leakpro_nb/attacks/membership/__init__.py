"""Membership attacks: one file each."""

from leakpro_nb.attacks.membership.activation_gradient import ActivationGradient
from leakpro_nb.attacks.membership.augmentation import Augmentation
from leakpro_nb.attacks.membership.bavaria import Bavaria
from leakpro_nb.attacks.membership.bayes_optimal import Base
from leakpro_nb.attacks.membership.boundary import Boundary
from leakpro_nb.attacks.membership.calibration import Calibration
from leakpro_nb.attacks.membership.combined import Combined
from leakpro_nb.attacks.membership.gap import Gap
from leakpro_nb.attacks.membership.gradient_norm import GradientNorm
from leakpro_nb.attacks.membership.infor_mia import InforMia
from leakpro_nb.attacks.membership.lira import Lira
from leakpro_nb.attacks.membership.multi_signal import MultiSignal
from leakpro_nb.attacks.membership.oslo import Oslo
from leakpro_nb.attacks.membership.population import Population
from leakpro_nb.attacks.membership.quantile import Quantile
from leakpro_nb.attacks.membership.reference import Reference
from leakpro_nb.attacks.membership.rmia import Rmia
from leakpro_nb.attacks.membership.sequence import Sequence
from leakpro_nb.attacks.membership.trajectory import Trajectory
from leakpro_nb.attacks.membership.yoqo import Yoqo

__all__ = [
    "ActivationGradient",
    "Augmentation",
    "Base",
    "Bavaria",
    "Boundary",
    "Calibration",
    "Combined",
    "Gap",
    "GradientNorm",
    "InforMia",
    "Lira",
    "MultiSignal",
    "Oslo",
    "Population",
    "Quantile",
    "Reference",
    "Rmia",
    "Sequence",
    "Trajectory",
    "Yoqo",
]
