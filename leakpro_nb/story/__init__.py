"""What the reports say: sentences and tables for people who do not read code.

Every function turns a result, or what is about to become one, into something that a notebook displays. One file per
template; what stands here by name is shared, or belongs to the membership audit.
"""

from leakpro_nb.story.base import checks, placeholder, repeat, skipped, threat_table
from leakpro_nb.story.membership import (
    advice,
    another_model,
    attack_table,
    finish,
    meaning,
    most_exposed,
    not_examined,
    plan_of_attack,
    summary,
    target_table,
    tpr_table,
    tuning_table,
)

__all__ = [
    "advice",
    "another_model",
    "attack_table",
    "checks",
    "finish",
    "meaning",
    "most_exposed",
    "not_examined",
    "placeholder",
    "plan_of_attack",
    "repeat",
    "skipped",
    "summary",
    "target_table",
    "threat_table",
    "tpr_table",
    "tuning_table",
]
