"""A synthetic table of seriously ill patients, made from a third of SUPPORT2 and audited before it is published.

Another third was set apart before the generator learnt: the control patients. Change the generator, run the audit again,
and compare:

    leakpro-nb audit target.py --template synthetic_data --out audit
"""

import numpy as np

import leakpro_nb as lp
from leakpro_nb.datasets.generators import CartGenerator

COLUMNS = [
    "age", "sex", "race", "edu", "income", "dzgroup", "ca", "num_co", "dementia", "scoma", "hday", "meanbp", "hrt", "temp",
]  # fmt: skip


def target() -> lp.SyntheticRelease:
    """Return the release with the real patients that it is judged against."""
    data = lp.datasets.support2()  # 9,105 patients
    frame = data.frame[COLUMNS].assign(age=data.frame["age"].round())  # whole years: an exact age is like a name
    order = np.random.default_rng(0).permutation(len(frame))
    original, control = (frame.iloc[order[part::3]] for part in (0, 1))

    # 5 patients at least in each leaf of the trees: a setting as it is often used. 1 copies patients, 50 betrays less.
    generator = CartGenerator(min_samples_leaf=5)
    return lp.SyntheticRelease(
        original=original,
        synthetic=generator(original, len(original), 0),
        control=control,
        generator=generator,
        secrets=["dzgroup", "ca", "income", "dementia"],
        links=(
            ["age", "sex", "race", "edu", "income", "dzgroup"],
            ["num_co", "scoma", "hday", "meanbp", "hrt", "temp"],
        ),
        name="Synthetic patients, SUPPORT2",
        subjects="patients",
    )
