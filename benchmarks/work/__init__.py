"""A file for each workload, with every library's form of it."""

from __future__ import annotations

from sumgrad.bench import Workload

from ..forms import Forms
from . import classifier, logistic, mixture, network, options, poisson

FORMS: dict[str, Forms] = {
    "a": network.FORMS,
    "b": network.FORMS,
    "c": mixture.FORMS,
    "d": logistic.FORMS,
    "e": options.FORMS,
    "f": classifier.FORMS,
    "g": poisson.FORMS,
}


def forms(work: Workload) -> Forms:
    """The forms of a workload."""
    return FORMS[work.key]
