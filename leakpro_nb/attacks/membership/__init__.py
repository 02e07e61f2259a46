"""Membership attacks: one file each."""

from leakpro_nb.attacks.membership.gap import Gap
from leakpro_nb.attacks.membership.lira import Lira
from leakpro_nb.attacks.membership.population import Population
from leakpro_nb.attacks.membership.rmia import Rmia

__all__ = ["Gap", "Lira", "Population", "Rmia"]
