#!/usr/bin/env bash
# build.sh OUT [name…]: builds the real servers that tests talk to, from their Go modules, into OUT.
# What OUT already has for the same lock files and the same build is left alone. Prints nothing else then.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); out=${1:?usage: build.sh OUT [vault|kubernetes|etcd|h2spec|grpc|coreruleset]…}; shift
[ $# -gt 0 ] || set -- vault kubernetes etcd h2spec coreruleset
command -v go >/dev/null || { echo "no Go compiler: install Go 1.26.6 or later" >&2; exit 1; }
mkdir -p "$out"; out=$(cd "$out" && pwd)
export GOFLAGS="-mod=readonly -buildvcs=false" GOTOOLCHAIN=local
# Two builds at once would write the same files.
exec 9>"$out/.lock"; flock 9

build() { # build NAME TAGS PACKAGE…
  local name=$1 tags=$2; shift 2
  local stamp="$out/.$name.sum" new="$out/.new-$name" sum attempt
  sum=$({ cat "$here/$name/go.mod" "$here/$name/go.sum"; declare -f build; echo "$@"; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then return; fi
  echo "building $name (once; minutes)"
  rm -rf "$new"; mkdir "$new"
  for attempt in 1 2 3; do # modules are downloaded on the way, and a download may fail
    if (cd "$here/$name" && CGO_ENABLED=0 go build -trimpath -tags "$tags" -ldflags "-s -w" -o "$new/" "$@"); then break; fi
    [ "$attempt" != 3 ] || { echo "$name cannot be built" >&2; exit 1; }
  done
  # A server that runs meanwhile keeps the file that it was started from.
  rm -f "$stamp"; mv -f "$new"/* "$out/"; rmdir "$new"
  if [ "$name" = vault ]; then
    # Vault runs plugins by file name from one directory, and refuses links that lead out of it: hard links.
    mkdir -p "$out/vault-plugins"
    ln -f "$out/postgresql-database-plugin" "$out/vault-plugins/postgresql-database-plugin"
    ln -f "$out/vault-plugin-auth-kubernetes" "$out/vault-plugins/kubernetes"
  fi
  if [ "$name" = etcd ]; then mv -f "$out/server" "$out/etcd"; fi
  echo "$sum" > "$stamp"
}

rule_set() { # the OWASP core rule set, as its release lays it out, with its own test cases
  local module=github.com/corazawaf/coraza-coreruleset/v4 to="$out/coreruleset" from
  cmp -s "$here/coreruleset/go.sum" "$to/.sum" && return
  from=$(cd "$here/coreruleset" && go mod download -json $module | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  rm -rf "$to"; mkdir "$to"
  cp -r "$from/rules/@owasp_crs" "$to/rules"; cp "$from/rules/@crs-setup.conf.example" "$to/crs-setup.conf.example"
  cp -r "$from/tests" "$to/tests"; chmod -R u+w "$to"
  cp "$here/coreruleset/go.sum" "$to/.sum"
}

for name; do case $name in
  vault) build vault minimal github.com/hashicorp/vault \
      github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin \
      github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes ;;
  kubernetes) build kubernetes "" k8s.io/kubernetes/cmd/kube-apiserver ;;
  etcd) build etcd "" go.etcd.io/etcd/server/v3 ;;
  h2spec) build h2spec "" github.com/summerwind/h2spec/cmd/h2spec ;;
  grpc) build grpc "" google.golang.org/grpc/interop/client google.golang.org/grpc/interop/server
    for part in client server; do [ ! -e "$out/$part" ] || mv -f "$out/$part" "$out/grpc-interop-$part"; done ;;
  coreruleset) rule_set ;;
  *) echo "unknown server: $name" >&2; exit 2 ;;
esac; done
