# The service: docker build -t sumgrad . && docker run --rm sumgrad serve --help
# One that computes on a Dask cluster, and the cluster's members: docker build --build-arg EXTRAS=dask -t sumgrad-dask .
# The Prometheus of docker-compose.yml: docker build --target metrics -t sumgrad-metrics .

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml requirements-dev.lock ./
# What the service stands on comes first: it changes less often than the service. The lock says which versions were tested;
# NumPy's and SciPy's own tests, a fifth of it all, stay behind.
RUN python -m venv --without-pip /sumgrad \
 && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["server"], sep="\n")' > needed.txt \
 && pip --python /sumgrad/bin/python install --no-cache-dir --requirement needed.txt --constraint requirements-dev.lock \
 && find /sumgrad/lib -type d -name tests -prune -exec rm -r {} +
# The extras of pyproject.toml that are wanted beside the server.
ARG EXTRAS=
RUN python -c 'import sys, tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*(one for name in sys.argv[1:] for one in extras[name] if not one.startswith("sumgrad[")), sep="\n")' $EXTRAS > more.txt \
 && pip --python /sumgrad/bin/python install --no-cache-dir --requirement more.txt --constraint requirements-dev.lock
COPY README.md CHANGELOG.md LICENSE ./
COPY proto proto
COPY engine engine
COPY server server
COPY client client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels . \
 && pip --python /sumgrad/bin/python install --no-cache-dir --no-deps wheels/*.whl

# Who runs it all. The number is fixed: Kubernetes wants to be told it (deploy/kubernetes), and volumes keep it.
FROM python:3.11-slim AS base
RUN groupadd --system --gid 999 sumgrad && useradd --system --uid 999 --gid 999 --no-create-home --shell /usr/sbin/nologin sumgrad

FROM base AS metrics
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*
COPY deploy/prometheus.yml /etc/prometheus/prometheus.yml
RUN install --directory --owner=sumgrad --group=sumgrad --mode=700 /etc/sumgrad/metrics /var/lib/sumgrad-metrics
USER sumgrad
WORKDIR /tmp
EXPOSE 9090
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/sumgrad-metrics"]
CMD ["--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=1GB"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:9090/-/ready', timeout=8)"]

FROM base
COPY --from=build /sumgrad /sumgrad
# What the services `init`, `train-a` and `train-b` of docker-compose.yml run.
COPY examples/compose_init.sh examples/train_compose.py /examples/
ENV PATH=/sumgrad/bin:$PATH PYTHONUNBUFFERED=1
# For this user alone: compiled code, graphs and datasets, and what each side of an encrypted connection needs to have. Volumes go there.
RUN install --directory --owner=sumgrad --group=sumgrad --mode=700 \
    /var/cache/sumgrad /var/lib/sumgrad /etc/sumgrad/authority /etc/sumgrad/server /etc/sumgrad/client \
    /etc/sumgrad/metrics /etc/sumgrad/train-a /etc/sumgrad/train-b /etc/sumgrad/dask
ENV SUMGRAD_CACHE=/var/cache/sumgrad
USER sumgrad
WORKDIR /tmp
EXPOSE 50051 9464
# `sumgrad serve` replaces itself by the server, which so is process 1 and gets SIGTERM; it answers by draining.
ENTRYPOINT ["sumgrad"]
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["sumgrad", "health", "127.0.0.1:50051"]
