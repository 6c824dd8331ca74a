# The service: docker build -t sumgrad . && docker run --rm sumgrad serve --help

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml requirements-dev.lock README.md CHANGELOG.md LICENSE ./
# What the service stands on comes first: it changes less often than the service. The lock says which versions were tested;
# NumPy's and SciPy's own tests, a fifth of it all, stay behind.
RUN python -m venv --without-pip /sumgrad \
 && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["server"], sep="\n")' > needed.txt \
 && pip --python /sumgrad/bin/python install --no-cache-dir --requirement needed.txt --constraint requirements-dev.lock \
 && find /sumgrad/lib -type d -name tests -prune -exec rm -r {} +
COPY proto proto
COPY engine engine
COPY server server
COPY client client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels . \
 && pip --python /sumgrad/bin/python install --no-cache-dir --no-deps wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin sumgrad
COPY --from=build /sumgrad /sumgrad
# What the services `init` and `train` of docker-compose.yml run.
COPY examples/compose_init.sh examples/train_compose.py /examples/
ENV PATH=/sumgrad/bin:$PATH PYTHONUNBUFFERED=1
# For this user alone: compiled code, graphs and datasets, and what each side of an encrypted connection needs to have. Volumes go there.
RUN install --directory --owner=sumgrad --group=sumgrad --mode=700 \
    /var/cache/sumgrad /var/lib/sumgrad /etc/sumgrad/authority /etc/sumgrad/server /etc/sumgrad/client
ENV SUMGRAD_CACHE=/var/cache/sumgrad
USER sumgrad
WORKDIR /tmp
EXPOSE 50051 9464
# `sumgrad serve` replaces itself by the server, which so is process 1 and gets SIGTERM; it answers by draining.
ENTRYPOINT ["sumgrad"]
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["sumgrad", "health", "127.0.0.1:50051"]
