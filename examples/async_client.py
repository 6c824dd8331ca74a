"""Many requests at once with asyncio: the gradient of one objective at eight places."""

import asyncio

import numpy as np
import sumgrad as sg


async def main() -> None:
    """Asks for all places before waiting for any."""
    x = sg.input("x")
    objective = sg.Objective(sg.square(sg.sin(sg.param("w", 1.0) * x) - x), reduction="mean")
    data = {"x": np.linspace(-1.0, 1.0, 50_000)}
    async with sg.aio.local(workers=2) as service:
        places = np.linspace(0.5, 2.0, 8)
        results = await asyncio.gather(*[service.value_and_grad(objective, {"w": w}, data) for w in places])
    for w, result in zip(places, results, strict=True):
        print(f"w = {w:.3f}   F(w) = {result.value:.6f}   F'(w) = {result.grads['w']:+.6f}")


asyncio.run(main())
