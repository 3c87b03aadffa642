# What a gateway needs of Vault or OpenBao, and nothing else. Take the parts that its configuration names; the test
# `least_privilege_policy` runs a gateway under exactly this file.

# Its own login: look at it, renew it, give it back.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Certificates: `vault_pki: { mount: pki, role: edge }`. Only `sign`, never `issue`: private keys stay in the gateway.
path "pki/sign/edge" { capabilities = ["update"] }

# Values: `vault:<store>/secret/gateway/…#…` in a KV v2 mount `secret`. (KV v1 has no `data/` in the path.)
path "secret/data/gateway/*" { capabilities = ["read"] }

# Accounts that live on a lease: `vault:<store>/database/creds/gateway#username`. Leases are known by their id only.
path "database/creds/gateway" { capabilities = ["read"] }
path "sys/leases/renew"       { capabilities = ["update"] }
path "sys/leases/revoke"      { capabilities = ["update"] }

# Minted tokens: `sign_with: { transit: { key: gateway-jwt } }`.
path "transit/keys/gateway-jwt"   { capabilities = ["read"] }
path "transit/sign/gateway-jwt"   { capabilities = ["update"] }
path "transit/sign/gateway-jwt/*" { capabilities = ["update"] }
