"""OpenTelemetry traces, where the extra `otel` is installed and the environment asks for them (variables OTEL_...).

A span is made when its call is over, with the times and the parent that it had: while a call runs, tracing costs nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..rpc import Finished

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

SERVICE = "sumgrad.v1.GradientService"
OUR_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Statuses that make the span of a server an error, by OpenTelemetry's conventions for RPC: the others are the client's affair."""


class CallSpans:
    """A span for each call that ended. An Observer."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import propagate, trace

        self._provider = provider
        self._tracer = provider.get_tracer("sumgrad_server")
        self._extract = propagate.extract
        self._kind = trace.SpanKind.SERVER
        self._error = trace.StatusCode.ERROR

    def call_began(self, method: str) -> None:
        """A call has come."""

    def call_ended(self, call: Finished) -> None:
        """It is over."""
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"{SERVICE}/{call.method}",
            context=self._extract(call.trace),
            kind=self._kind,
            attributes=_attributes(call),
            start_time=ended - int(call.seconds * 1e9),
        )
        if call.status in OUR_FAULTS:
            span.set_status(self._error, call.message)
        span.end(ended)

    def close(self) -> None:
        """Sends what is not sent yet."""
        self._provider.shutdown()


def _attributes(call: Finished) -> dict[str, str | int]:
    known: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": call.method,
        "rpc.grpc.status_code": call.status,
        "sumgrad.request_id": call.request_id,
        "sumgrad.caller": call.caller,
        "sumgrad.samples": call.samples,
        "sumgrad.received_bytes": call.received_bytes,
        "sumgrad.sent_bytes": call.sent_bytes,
    }
    return {name: value for name, value in known.items() if value != ""}


def from_environment(environment: Mapping[str, str]) -> CallSpans | None:
    """What traces calls as the standard variables say; None if there are none, or the extra is missing (which the log says then)."""
    if not any(name.startswith("OTEL_") for name in environment) or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    make = _EXPORTERS.get(environment.get("OTEL_TRACES_EXPORTER", "otlp"))
    if make is None:
        log.info("calls are not traced: OTEL_TRACES_EXPORTER is %r; otlp and console send them", environment["OTEL_TRACES_EXPORTER"])
        return None
    try:
        return _spans(make(environment))
    except ModuleNotFoundError as error:
        log.warning('OTEL_ variables are set, but %s is missing, so calls are not traced: pip install "sumgrad[otel]"', error.name)
        return None


def _spans(exporter: SpanExporter) -> CallSpans:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Sampler, limits, batches, the resource's attributes: the library reads those variables itself.
    named = Resource.create()
    if str(named.attributes["service.name"]).startswith("unknown_service"):  # neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES says
        named = named.merge(Resource({"service.name": "sumgrad"}))
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return CallSpans(provider)


def _otlp(environment: Mapping[str, str]) -> SpanExporter:
    both = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    if environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", both).startswith("http"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter()


def _console(_: Mapping[str, str]) -> SpanExporter:
    import sys

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr)  # stdout is for the announcement


_EXPORTERS: Mapping[str, Callable[[Mapping[str, str]], SpanExporter]] = {"otlp": _otlp, "console": _console}
