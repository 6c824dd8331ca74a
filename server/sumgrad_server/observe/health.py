"""Health for gRPC's health service: SERVING while a worker is ready and the server doesn't drain."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health, health_pb2

from .view import View

LOOK_SECONDS = 0.1


async def watch(view: View, servicer: health.aio.HealthServicer, services: tuple[str, ...]) -> None:
    """Keeps the health of some services, by name, as it is. Ends only when it is cancelled."""
    last: bool | None = None
    while True:
        serving = view.serving()
        if serving != last:
            last = serving
            await tell(servicer, services, serving=serving)
        await asyncio.sleep(LOOK_SECONDS)


async def tell(servicer: health.aio.HealthServicer, services: tuple[str, ...], *, serving: bool) -> None:
    """Sets the health of some services; without effect once the servicer knows that the server goes down."""
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in services:
        await servicer.set(service, status)
