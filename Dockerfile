# quantcliff on a GPU: docker build -t quantcliff . && docker run --rm --gpus all -v "$PWD:/work" quantcliff diagnose ...
# The host needs a driver and the NVIDIA container toolkit; PyTorch's own wheels bring CUDA. Without a GPU it runs on CPUs.
FROM python:3.11-slim-bookworm

ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# GPTQ and AWQ compile kernels for some models, and `make` is what the checkout is driven with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git \
    && rm -rf /var/lib/apt/lists/*

# PyTorch first and alone: the layer stays while the library changes.
COPY pyproject.toml /source/
RUN pip install "$(sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' /source/pyproject.toml)"

COPY . /source
RUN pip install /source

WORKDIR /work
ENTRYPOINT ["quantcliff"]
CMD ["--help"]
