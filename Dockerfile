# Porthole as an image.
#
#   docker build .                                             for the CPU, with the demo model
#   docker build --target cuda .                               for NVIDIA GPUs (see CUDA_COMPUTE_CAP)
#   docker build --build-arg MODEL=Qwen/Qwen3-VL-8B-Instruct   with a model of the hub inside
#
# On x86-64 the binary needs AVX2 and FMA (x86-64-v3, any server since 2015): .cargo/config.toml
# says so, and the build follows it.

ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim
ARG CUDA_BUILD_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_RUNTIME_IMAGE=nvidia/cuda:13.0.1-runtime-ubuntu24.04

# What plans the build: a layer of the dependencies alone, which takes a quarter of an hour and is
# made anew only when Cargo.lock or a feature changes.
FROM ${RUST_IMAGE} AS tools
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /build

FROM tools AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json --bin porthole

# The binary for the CPU.
FROM tools AS build-cpu
# Further cargo features, such as "mkl".
ARG FEATURES=
COPY --from=planner /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --bin porthole --features "$FEATURES"
COPY . .
RUN cargo build --release --locked --bin porthole --features "$FEATURES" \
 && mkdir -p /out/licenses \
 && strip -o /out/porthole target/release/porthole \
 && cp LICENSE /out/licenses/LICENSE \
 && deploy/docker/notices.sh --features "$FEATURES" >/out/licenses/THIRD-PARTY

# The binary for NVIDIA GPUs.
FROM ${CUDA_BUILD_IMAGE} AS build-cuda
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates git pkg-config \
 && rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
COPY --from=tools /usr/local/rustup /usr/local/rustup
COPY --from=tools /usr/local/cargo /usr/local/cargo
WORKDIR /build
# Of the card: 80 (A100), 86 (A10), 89 (L4, L40S), 90 (H100, H200), 100 (B200), 120 (RTX 50).
ARG CUDA_COMPUTE_CAP=90
# "cuda,flash-attn", "cuda,cudnn", "cuda,nccl": flash-attn fetches CUTLASS from GitHub while it builds.
ARG FEATURES=cuda
ENV CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP}
# The driver's library is not in the image but in the host's driver; its stub is enough to link.
ENV LIBRARY_PATH=/usr/local/cuda/lib64:/usr/local/cuda/lib64/stubs
COPY --from=planner /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --bin porthole --features "$FEATURES"
COPY . .
RUN cargo build --release --locked --bin porthole --features "$FEATURES" \
 && mkdir -p /out/licenses \
 && strip -o /out/porthole target/release/porthole \
 && cp LICENSE /out/licenses/LICENSE \
 && deploy/docker/notices.sh --features "$FEATURES" >/out/licenses/THIRD-PARTY

# The weights. With MODEL those of the hub are put beside the demo model, and the configuration names
# them; a gated model needs `--secret id=hf_token,src=FILE`.
FROM ${RUNTIME_IMAGE} AS weights
ARG MODEL=
ARG MODEL_REVISION=main
COPY models /weights/models
# Where Porthole looks for its configuration; the file itself is mounted to /etc/porthole.
RUN ln -s /etc/porthole/config.toml /weights/config.toml && mkdir -p /configuration \
 && if [ -n "$MODEL" ]; then \
      apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv \
      && python3 -m venv /venv && /venv/bin/pip install --no-cache-dir huggingface_hub==2.4.0; \
    fi
RUN --mount=type=secret,id=hf_token \
    if [ -n "$MODEL" ]; then \
      if [ -f /run/secrets/hf_token ]; then HF_TOKEN=$(cat /run/secrets/hf_token) && export HF_TOKEN; fi \
      && /venv/bin/hf download "$MODEL" --revision "$MODEL_REVISION" --local-dir /weights/models/baked \
           --exclude '*.bin' --exclude '*.pth' --exclude '*.pt' --exclude '*.onnx' --exclude 'original/*' \
      && rm -rf /weights/models/baked/.cache \
      && printf '[model]\nid = "models/baked"\nname = "%s"\n' "$MODEL" >/configuration/config.toml; \
    fi

# The image for NVIDIA GPUs: `docker run --gpus all`.
FROM ${CUDA_RUNTIME_IMAGE} AS cuda
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/porthole --shell /usr/sbin/nologin porthole \
 && install -d -o 10001 -g 10001 /var/lib/porthole /models && install -d /etc/porthole
COPY --from=build-cuda /out/porthole /usr/local/bin/porthole
COPY --from=build-cuda /out/licenses /usr/share/licenses/porthole
COPY --from=weights /weights /usr/share/porthole
COPY --from=weights /configuration /etc/porthole
ENV HOME=/var/lib/porthole \
    HF_HOME=/models/huggingface \
    PORTHOLE__SERVER__BIND=0.0.0.0:8080 \
    PORTHOLE__SERVER__ADMIN_BIND=0.0.0.0:9090 \
    PORTHOLE__AUTH__KEYS_FILE=/var/lib/porthole/keys.toml \
    PORTHOLE__AUTH__START_UP_KEY=always \
    PORTHOLE__LIMITS__STORE=/var/lib/porthole/usage.redb \
    PORTHOLE__LOG__FORMAT=json
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="porthole" \
      org.opencontainers.image.description="OpenAI-compatible gateway with the vision-language model in its own process (CUDA)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /usr/share/porthole
USER 10001:10001
VOLUME ["/var/lib/porthole", "/models"]
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["porthole", "healthcheck"]
ENTRYPOINT ["porthole"]

# The image for the CPU, which a build takes where no target is named.
#
# The server is process 1 itself, without an init: it handles SIGTERM and SIGINT, and starts no
# processes that could be left over.
FROM ${RUNTIME_IMAGE} AS cpu
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/porthole --shell /usr/sbin/nologin porthole \
 && install -d -o 10001 -g 10001 /var/lib/porthole /models && install -d /etc/porthole
COPY --from=build-cpu /out/porthole /usr/local/bin/porthole
COPY --from=build-cpu /out/licenses /usr/share/licenses/porthole
COPY --from=weights /weights /usr/share/porthole
COPY --from=weights /configuration /etc/porthole
# The environment wins over a mounted config.toml: change these with `-e`. The admin listener has no
# credentials; it is for the network of the container, so publish 8080 alone.
ENV HOME=/var/lib/porthole \
    HF_HOME=/models/huggingface \
    PORTHOLE__SERVER__BIND=0.0.0.0:8080 \
    PORTHOLE__SERVER__ADMIN_BIND=0.0.0.0:9090 \
    PORTHOLE__AUTH__KEYS_FILE=/var/lib/porthole/keys.toml \
    PORTHOLE__AUTH__START_UP_KEY=always \
    PORTHOLE__LIMITS__STORE=/var/lib/porthole/usage.redb \
    PORTHOLE__LOG__FORMAT=json
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="porthole" \
      org.opencontainers.image.description="OpenAI-compatible gateway with the vision-language model in its own process (CPU)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /usr/share/porthole
USER 10001:10001
# The two places that are written; with --read-only, give a --tmpfs /tmp too (a model's chat
# template is put there while it loads).
VOLUME ["/var/lib/porthole", "/models"]
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["porthole", "healthcheck"]
ENTRYPOINT ["porthole"]
