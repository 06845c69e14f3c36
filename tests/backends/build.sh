#!/bin/sh
# Builds Jaeger and OpenTelemetry's collector from their Go modules into the folder given: no package index has them. Minutes, 2 GB of caches.
set -eu
jaeger=1.64.0 collector=0.116.0
mkdir -p "$1"
out=$(cd "$1" && pwd) here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo 'No Go: without it there is no Jaeger and no OpenTelemetry Collector, and their tests are skipped.' >&2; exit 1; }
export GOFLAGS=-buildvcs=false CGO_ENABLED=0
if [ ! -x "$out/jaeger" ]; then
  source=$(go mod download -json "github.com/jaegertracing/jaeger@v$jaeger" | sed -n 's/^.*"Dir": "\(.*\)",$/\1/p')
  (cd "$source" && go build -o "$out/jaeger" ./cmd/all-in-one)
fi
if [ ! -x "$out/otelcol" ]; then
  GOBIN=$out/go go install "go.opentelemetry.io/collector/cmd/builder@v$collector"
  (cd "$out" && go/builder --config "$here/otelcol.yaml" && mv otelcol-source/otelcol otelcol)
fi
ls -l "$out/jaeger" "$out/otelcol"
