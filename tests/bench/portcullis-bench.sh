#!/usr/bin/env bash
# portcullis-bench.sh VARIANT PORT BACKEND CERTS THREADS: writes the configuration for one variant of bench.py and becomes
# the gateway. What a product has on is on in every variant: access log to a file, metrics, policies, limits on everything
# that a peer can grow.
set -euo pipefail
variant=$1 port=$2 backend=$3 certs=$4 threads=$5
here=$(cd "$(dirname "$0")" && pwd)
portcullis=${PORTCULLIS:-$here/../../target/release/portcullis}
directory=${BENCH_WORK:-$here/work}/conf/portcullis-$variant
rm -rf "$directory"
mkdir -p "$directory/policies" "$directory/log"

tls='' identity='' authenticate='none' limits='' trusted='' table=''
policy='permit(principal, action in Action::"read", resource);'
case $variant in
  plain | bigplain) ;;
  tls | hs | hs-mlkem | hs-p256 | big | idle) tls='{ mode: "off" }' ;;
  es256 | rs256 | es256rl | scale-*)
    tls='{ mode: "off" }' authenticate='{ any: [staff] }'
    identity="identity: { jwt: { staff: { issuer: 'https://issuer.example', audience: [bench], jwks: { file: $certs/jwks.json }, algorithms: [ES256, RS256], scopes: scope } } }"
    if [ "$variant" = es256rl ]; then
      limits=', limits: [per-caller]'
      policy='permit(principal is Jwt, action in Action::"read", resource) when { principal in Scope::"read" };'
    fi
    ;;
  mtls | hs-mtls)
    tls='{ mode: required, trust: [clients] }' authenticate='{ any: [clients] }'
    policy='permit(principal is Subject, action in Action::"read", resource);'
    ;;
  *) echo "unknown variant: $variant" >&2; exit 2 ;;
esac

route() { # NAME PATH
  echo "  - { name: $1, on: [edge], path: $2, authenticate: $authenticate, upstream: app$limits }"
}
case $variant in
  scale-*) # so many routes with a policy each, and a limit by addresses that the load generator makes up
    count=${variant#scale-} trusted='trusted_proxies: [127.0.0.1]' limits=', limits: [per-caller, per-address]'
    table='per-address: { key: address, rate: 1000000/s, burst: 1000000, max_keys: 1000000 }'
    policy=$(seq 0 $((count - 1)) | sed 's/.*/@id("r&") permit(principal in Scope::"read", action in Action::"read", resource == Route::"r&");/')
    routes=$(for n in $(seq 0 $((count - 1))); do route "r$n" "/r$n/**"; done)
    ;;
  *) routes=$(route all '/**') ;;
esac
printf '%s\n' "$policy" > "$directory/policies/bench.cedar"
cat > "$directory/portcullis.yaml" <<YAML
version: 1
cores: $threads
listeners:
  edge:
    bind: 127.0.0.1:$port
    ${tls:+tls: { certificates: [edge], client: $tls, min_version: '1.3' \}}
    limits: { connections: 20000, connections_per_address: 20000, idle: 300s, streams: 256 }
    $trusted
certificates: { edge: { files: { certificate: $certs/server.pem, key: $certs/server.key } } }
trust: { clients: { files: { ca: $certs/ca.pem }, names: subject } }
$identity
upstreams: { app: { endpoints: ["http://127.0.0.1:$backend"], pool: { per_core: 512 } } }
limits:
  per-caller: { key: principal, rate: 1000000/s, burst: 1000000 }
  $table
routes:
$routes
policies: { directory: policies }
telemetry: { access_log: { to: { file: $directory/log/access.log } }, log: { level: warn } }
admin: { bind: 127.0.0.1:9901, probes: 127.0.0.1:9902, socket: $directory/control.sock }
YAML
exec "$portcullis" run -c "$directory/portcullis.yaml"
