# Two static programs and nothing else:
#   docker build --target controller -t bulla-controller .
#   docker build --target cli -t bulla .
#
# The images hold no certificates. In a cluster none are missing: the API server's comes with the service account. Where a
# kubeconfig names no certificate-authority, mount /etc/ssl/certs.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make
WORKDIR /src
COPY . .
RUN BULLA_LAYOUT=1 cargo build --release --locked -p bulla-controller -p bulla-cli
# Called as `controller` it takes the arguments of sealed-secrets' Deployment (docs/coming-from-sealed-secrets.md).
RUN mkdir -p /links/usr/local/bin && ln -s /bulla-controller /links/usr/local/bin/controller

FROM scratch AS cli
COPY --from=build /src/target/release/bulla /bulla
USER 65532:65532
ENTRYPOINT ["/bulla"]

# Last, so that it is the default.
FROM scratch AS controller
COPY --from=build /src/target/release/bulla-controller /bulla-controller
COPY --from=build /links/ /
USER 65532:65532
ENTRYPOINT ["/bulla-controller"]
