"""(e): Black and Scholes's price over scenarios. In sumgrad: `sumgrad.bench.options`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..contender import Answer, Arrays, Missing
from ..forms import Forms
from ..space import Space


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """The textbook's sensitivities: delta, vega, rho, and the slope in the strike."""
    try:
        from scipy.special import ndtr
    except ImportError:
        raise Missing("SciPy is not installed") from None
    volatility, rate, spot_shift, strike_shift = params.values()
    maturity = data["maturity"]
    spot, strike = data["spot"] * (1 + spot_shift), data["strike"] * (1 + strike_shift)
    root = np.sqrt(maturity)
    d1 = (np.log(spot / strike) + (rate + volatility * volatility / 2) * maturity) / (volatility * root)
    d2 = d1 - volatility * root
    delta, discounted = ndtr(d1), strike * np.exp(-rate * maturity) * ndtr(d2)
    vega = spot * root * np.exp(-0.5 * d1 * d1) * (1 / math.sqrt(2 * math.pi))
    grads = {
        "volatility": vega.sum(),
        "rate": (discounted * maturity).sum(),
        "spot_shift": (data["spot"] * delta).sum(),
        "strike_shift": -discounted.sum() / (1 + strike_shift),
    }
    return float((spot * delta - discounted).sum()), grads


def price(s: Space, params: Any, data: Any) -> Any:
    """The price, for scalars and arrays alike."""
    maturity = data["maturity"]
    spot, strike = data["spot"] * (1.0 + params["spot_shift"]), data["strike"] * (1.0 + params["strike_shift"])
    spread = params["volatility"] * s.sqrt(maturity)
    d1 = (s.log(spot / strike) + (params["rate"] + 0.5 * params["volatility"] * params["volatility"]) * maturity) / spread
    return spot * _normal(s, d1) - strike * s.exp(-params["rate"] * maturity) * _normal(s, d1 - spread)


def _normal(s: Space, x: Any) -> Any:
    return 0.5 + 0.5 * s.erf(x * math.sqrt(0.5))


def rows(s: Space, params: Any, data: Any) -> Any:
    """All scenarios; rows and columns are the same here."""
    return s.sum(price(s, params, data), None)


FORMS = Forms(by_hand, rows, rows, price)
