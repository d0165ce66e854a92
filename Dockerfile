# docker build -t implicit-curriculum .                       for CPUs
# docker build -t implicit-curriculum --build-arg JAX=cuda13 . for NVIDIA GPUs (run with --gpus all)
# docker run --rm -v "$PWD/out:/out" implicit-curriculum       make figures, into out/
FROM python:3.12-slim
ARG JAX=cpu
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY requirements.txt requirements-batch.txt ./
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --requirement requirements.txt --requirement requirements-batch.txt \
    && if [ "$JAX" != cpu ]; then .venv/bin/pip install --no-cache-dir "jax[$JAX]"; fi \
    && touch .venv/run
COPY . .
RUN mkdir -p /out && ln -s /out/runs runs && ln -s /out/site site && ln -s /out/corpora corpora
ENV PATH=/work/.venv/bin:$PATH
CMD ["sh", "-c", "mkdir -p /out/runs /out/site /out/corpora && make figures"]
