//! Stores of secrets, and everything that names one: what is read, and what a person reads when it is wrong.

use std::time::Duration;

use ::secrets::Reference;
use ::secrets::vault::Login;

use super::super::model::*;
use super::*;

const WHOLE: &str = r#"
version: 1
secrets:
  stores:
    main:
      vault:
        address: [https://vault-0:8200, https://vault-1:8200]
        namespace: team/a
        trust: vault-ca.pem
        login: { app_role: { role_id: env:ROLE_ID, secret_id: file:run/secret-id, wrapped: { role: gateway } } }
        timeout: 5s
    spare: { vault: { address: env:VAULT_ADDR, login: { kubernetes: { role: gateway } } } }
    local: { embedded: { directory: store, key: file:store.key } }
listeners:
  plain: { bind: "127.0.0.1:8080", redirect: https }
  edge: { bind: "127.0.0.1:8443", tls: { certificates: [edge, self, kv, pub, files], client: { mode: optional, trust: [mesh, own] } } }
certificates:
  edge: { vault_pki: { store: main, mount: pki_int, role: edge, names: [api.example.com, 10.0.0.1, "spiffe://example.org/edge"], ttl: 20s, key: ed25519 } }
  self: { embedded: { names: [localhost, 127.0.0.1] } }
  kv: { files: { certificate: "vault:main/kv/edge#certificate", key: "vault:main/kv/edge#key" } }
  files: { files: { certificate: edge.pem, key: file:edge.key } }
  pub: { acme: { directory: https://acme.example.com/directory, contact: ["mailto:tls@example.com"], names: [www.example.com], challenge: http-01, state: acme/, external_account: { key_id: kid-1, key: embedded:acme/eab } } }
trust:
  mesh: { vault_pki: { store: spare, mount: pki_mesh, crl: true }, names: dns }
  own: { embedded: {}, names: dns }
upstreams:
  grafana: { endpoints: ["https://grafana:3000"], credentials: { bearer: "vault:main/kv/grafana#token" } }
  legacy: { endpoints: ["http://127.0.0.1:1"], credentials: { basic: { username: env:LEGACY_USER, password: embedded:legacy } } }
  keyed: { endpoints: ["https://keyed"], credentials: { field: { name: X-Api-Key, value: file:key.txt } } }
  orders: { endpoints: ["https://orders"] }
identity:
  tokens:
    internal: { issuer: https://gw.internal, ttl: 30s, scopes: [orders.read, orders.write], jwks: { on: [edge] } }
    signed: { issuer: https://gw.internal/a, sign_with: { key: embedded:signer } }
    transit: { issuer: https://gw.internal/b, sign_with: { transit: { store: main, key: gateway-jwt } } }
routes:
  - { name: a, on: [edge], path: /a, authenticate: { any: [mesh, own] }, upstream: grafana }
  - { name: b, on: [edge], path: /b, authenticate: none, upstream: legacy }
  - { name: c, on: [edge], path: /c, authenticate: { any: [mesh] }, upstream: keyed, token: transit }
  - { name: d, on: [edge], path: /d, authenticate: { any: [mesh] }, upstream: orders, token: internal, headers: { set: { x-api-key: none } } }
  - { name: e, on: [edge], path: /e, authenticate: { any: [mesh] }, upstream: orders, token: signed }
policies: { directory: policies }
"#;

fn whole() -> Config {
    let (config, problems) = read("portcullis.yaml", WHOLE.to_owned(), Path::new("/etc/portcullis"));
    assert_eq!(problems.to_string(), "");
    config.unwrap()
}

/// The answer to the whole file with a change in it.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(WHOLE.matches(from).count(), 1, "{from}");
    problems(&WHOLE.replacen(from, to, 1))
}

fn vault(config: &Config, name: &str) -> VaultStore {
    match &config.stores[name] {
        SecretStore::Vault(store) => (**store).clone(),
        SecretStore::Embedded(_) => panic!("{name} is embedded"),
    }
}

fn file(path: &str) -> Reference {
    Reference::File { path: Path::new("/etc/portcullis").join(path) }
}

#[test]
fn stores_are_read_with_their_defaults_and_paths_of_references_start_at_the_directory() {
    let config = whole();
    let main = vault(&config, "main");
    let VaultAddresses::Nodes(nodes) = &main.addresses else { panic!("{main:?}") };
    assert_eq!(
        nodes.iter().map(url::Url::as_str).collect::<Vec<_>>(),
        ["https://vault-0:8200/", "https://vault-1:8200/"]
    );
    assert_eq!((main.namespace.as_deref(), main.timeout), (Some("team/a"), Duration::from_secs(5)));
    let Login::AppRole { mount, secret_id, wrapped, .. } = &main.login else { panic!("{main:?}") };
    assert_eq!((mount.as_str(), secret_id.clone()), ("approle", Some(file("run/secret-id"))));
    assert_eq!(wrapped.as_ref().unwrap().role, "gateway");
    let spare = vault(&config, "spare");
    assert!(matches!(&spare.addresses, VaultAddresses::Variable { name, .. } if name == "VAULT_ADDR"));
    assert_eq!((spare.timeout, &spare.trust), (Duration::from_secs(10), &ServerTrust::System));
    let token = Reference::File { path: "/var/run/secrets/kubernetes.io/serviceaccount/token".into() };
    assert_eq!(spare.login, Login::Kubernetes { mount: "kubernetes".into(), role: "gateway".into(), token });
    let SecretStore::Embedded(local) = &config.stores["local"] else { panic!() };
    assert_eq!(local.directory, Path::new("/etc/portcullis/store"));
    assert!(matches!(&local.opener, StoreOpener::Key(key) if key.reference == file("store.key")));
}

#[test]
fn certificates_and_trust_are_read_with_their_defaults() {
    let config = whole();
    let CertificateSource::Pki(edge) = &config.certificates["edge"] else { panic!() };
    assert_eq!((edge.store.as_str(), edge.mount.as_str(), edge.role.as_str()), ("main", "pki_int", "edge"));
    assert_eq!(edge.common_name.as_deref(), Some("api.example.com"));
    assert_eq!((edge.dns_names.len(), edge.addresses.len(), edge.uris.len()), (1, 1, 1));
    assert_eq!((edge.ttl, edge.key), (Duration::from_secs(20), KeyKind::Ed25519));
    let CertificateSource::Pki(own) = &config.certificates["self"] else { panic!() };
    assert_eq!((own.store.as_str(), own.mount.as_str()), ("local", ""));
    assert_eq!((own.ttl, own.key), (Duration::from_secs(86_400), KeyKind::P256));
    assert!(matches!(&config.certificates["kv"], CertificateSource::Held { .. }));
    let CertificateSource::Files(files) = &config.certificates["files"] else { panic!() };
    assert_eq!(files.key.path, Path::new("/etc/portcullis/edge.key"));
    let CertificateSource::Acme(public) = &config.certificates["pub"] else { panic!() };
    assert_eq!(
        (public.challenge, public.dns_names.as_slice()),
        (AcmeChallenge::Http01, ["www.example.com".to_owned()].as_slice())
    );
    assert_eq!(public.external_account.as_ref().unwrap().key_id, "kid-1");
    let source = |name: &str| match &config.trust[name].source {
        TrustSource::Pki { store, mount, crl, .. } => (store.to_string(), mount.clone(), *crl),
        TrustSource::Files { .. } => panic!("{name} is from files"),
    };
    assert_eq!(source("mesh"), ("spare".to_owned(), "pki_mesh".to_owned(), true));
    assert_eq!(source("own"), ("local".to_owned(), String::new(), false));
}

#[test]
fn upstream_credentials_and_minted_tokens_are_read_with_their_defaults() {
    let config = whole();
    let credentials = |name: &str| config.upstreams[name].credentials.clone();
    let Some(UpstreamCredentials::Bearer(bearer)) = credentials("grafana") else { panic!() };
    assert_eq!(bearer.reference.to_string(), "vault:main/kv/grafana#token");
    assert!(matches!(credentials("legacy"), Some(UpstreamCredentials::Basic { .. })));
    let Some(UpstreamCredentials::Field { name, value }) = credentials("keyed") else { panic!() };
    assert_eq!((name.as_str(), value.reference), ("x-api-key", file("key.txt")));
    let internal = &config.tokens["internal"];
    assert_eq!((&internal.signer, internal.ttl), (&TokenSigner::Local, Duration::from_secs(30)));
    assert_eq!(internal.scopes, ["orders.read", "orders.write"]);
    assert_eq!((internal.jwks_on.len(), internal.jwks_path.as_str()), (1, "/.well-known/jwks.json"));
    assert_eq!(config.tokens["signed"].ttl, Duration::from_secs(60));
    let TokenSigner::Transit { mount, key, .. } = &config.tokens["transit"].signer else { panic!() };
    assert_eq!((mount.as_str(), key.as_str()), ("transit", "gateway-jwt"));
    assert_eq!(config.routes[3].token.as_ref().unwrap().as_str(), "internal");
    assert!(config.jwt.is_empty());
}

#[test]
fn the_same_entries_further_down_the_file_are_the_same() {
    let moved = WHOLE.replacen("version: 1\n", "\n\n# moved\nversion: 1\n", 1);
    let (config, _) = read("portcullis.yaml", moved, Path::new("/etc/portcullis"));
    let (config, former) = (config.unwrap(), whole());
    assert_eq!(config.stores, former.stores);
    assert_eq!(config.certificates, former.certificates);
    assert_eq!(config.trust, former.trust);
    assert_eq!(config.upstreams, former.upstreams);
    assert_eq!(config.tokens, former.tokens);
}

#[test]
fn an_address_from_a_variable_is_read_late_and_checked_like_one_in_the_file() {
    let variable = |name: &str| VaultAddresses::Variable { name: name.to_owned(), at: At::default() };
    let reason = |name: &str| variable(name).resolve().unwrap_err().1;
    assert_eq!(reason("PORTCULLIS_NO_SUCH_VARIABLE"), "variable `PORTCULLIS_NO_SUCH_VARIABLE` is not set");
    assert!(
        reason("PATH").starts_with("variable `PATH` does not hold the address of Vault"),
        "{}",
        reason("PATH")
    );
}

#[test]
fn stores_that_cannot_work_are_refused() {
    insta::assert_snapshot!(
        [
            changed("[https://vault-0:8200, https://vault-1:8200]", "http://vault-0:8200"),
            changed(
                "[https://vault-0:8200, https://vault-1:8200]",
                "[https://vault-0:8200, https://vault-0:8200/v1, https://vault-0:8200]"
            ),
            changed("[https://vault-0:8200, https://vault-1:8200]", "[]"),
            changed("env:VAULT_ADDR", "file:address"),
            changed("namespace: team/a", "namespace: team//a"),
            changed("role_id: env:ROLE_ID", "role_id: \"vault:spare/kv/a#b\""),
            changed("secret_id: file:run/secret-id, ", ""),
            changed("{ kubernetes: { role: gateway } }", "{ kubernetes: { role: a }, token: env:A }"),
            changed("{ kubernetes: { role: gateway } }", "{ kubernetes: {} }"),
            changed("{ kubernetes: { role: gateway } }", "{ kubernets: { role: a } }"),
            changed("key: file:store.key", "key: file:store.key, passphrase: env:A"),
            changed(", key: file:store.key", ""),
            changed("key: file:store.key", "key: embedded:a"),
            changed("key: file:store.key", "passphrase: \"vault:main/kv/a#b\""),
            changed(
                "    local:",
                "    again: { embedded: { directory: b, key: credential:store-key } }\n    local:"
            ),
        ]
        .join("\n")
    );
}

#[test]
fn references_name_stores_that_are_there() {
    let without_local =
        WHOLE.replacen("    local: { embedded: { directory: store, key: file:store.key } }\n", "", 1);
    insta::assert_snapshot!(
        [
            changed("\"vault:main/kv/grafana#token\"", "\"vault:mian/kv/grafana#token\""),
            changed("\"vault:main/kv/grafana#token\"", "\"vault:local/kv/grafana#token\""),
            changed("\"vault:main/kv/grafana#token\"", "\"vault:-/kv/grafana#token\""),
            changed("store: spare", "store: sparse"),
            changed("transit: { store: main", "transit: { store: local"),
            problems(&without_local),
        ]
        .join("\n")
    );
}

#[test]
fn certificates_and_trust_that_cannot_work_are_refused() {
    insta::assert_snapshot!(
        [
            changed("key: \"vault:main/kv/edge#key\"", "key: edge.key"),
            changed("[localhost, 127.0.0.1]", "[localhost, LOCALHOST, \"10.0.0.0/8\", \"a b\"]"),
            changed(
                "\"spiffe://example.org/edge\"]",
                "\"spiffe://example.org/edge\", \"urn://a\", \"spiffe://example.org\"]"
            ),
            changed("[localhost, 127.0.0.1]", "[]"),
            changed("ttl: 20s", "ttl: 5s"),
            changed("ttl: 20s", "ttl: 1000d"),
            changed("key: ed25519", "key: rsa"),
            changed("role: edge, ", ""),
            changed("mount: pki_int", "mount: pki_int?"),
            changed("[www.example.com]", "[\"*.example.com\", 10.0.0.1]"),
            changed("\"mailto:tls@example.com\"", "tls@example.com"),
            changed("https://acme.example.com/directory", "http://acme.example.com/directory"),
            changed("  plain: { bind: \"127.0.0.1:8080\", redirect: https }\n", ""),
            changed("kv, pub, files]", "kv, files]").lines().map(|line| format!("{line}\n")).collect(),
            problems(&WHOLE.replacen("http-01", "tls-alpn-01", 1).replacen(
                "kv, pub, files]",
                "kv, files]",
                1
            )),
            changed("own: { embedded: {}, names", "own: { names"),
            changed("own: { embedded: {}", "own: { embedded: {}, files: { ca: a }"),
            changed("own: { embedded: {}", "own: { embedded: { store: local }"),
        ]
        .join("\n")
    );
}

#[test]
fn credentials_and_tokens_that_would_meet_are_refused() {
    insta::assert_snapshot!(
        [
            changed("name: X-Api-Key", "name: TE"),
            changed("upstream: keyed, token", "upstream: keyed, headers: { set: { x-api-key: a } }, token"),
            changed("upstream: keyed, token", "upstream: grafana, token"),
            changed("name: X-Api-Key", "name: authorization"),
            changed("upstream: grafana }", "upstream: grafana, credentials: forward }"),
            changed("token: signed }", "token: signed, credentials: forward }"),
            changed("upstream: orders, token: signed", "respond: { status: 200 }, token: signed"),
            changed("path: /e, authenticate: { any: [mesh] }", "path: /e, authenticate: none"),
            changed("token: signed", "token: singed"),
            changed("path: /e, ", "path: /.well-known/jwks.json, "),
            changed("sign_with: { key: embedded:signer }", "jwks: { on: [edge, plain] }"),
            changed("jwks: { on: [edge] }", "jwks: { on: [egde], path: /keys/** }"),
            changed("ttl: 30s", "ttl: 2h"),
            changed("[orders.read, orders.write]", "[orders.read, orders.read, \"a b\"]"),
            changed("issuer: https://gw.internal/a", "issuer: \"https://gw.internal/#a\""),
            changed("[\"http://127.0.0.1:1\"]", "[\"http://legacy:1\"]"),
            problems("version: 1\nlisteners: { edge: { bind: 127.0.0.1:1 } }\nidentity: {}\n"),
        ]
        .join("\n")
    );
}

#[test]
fn what_nothing_uses_is_said() {
    insta::assert_snapshot!(
        [
            changed(", token: signed", ""),
            problems("version: 1\nsecrets: { stores: { main: { vault: { address: https://a, login: { token: env:A } } } } }\nlisteners: {}\n"),
        ]
        .join("\n")
    );
}

/// A secret where a reference, or anything else, belongs: in no message, and in no line that is shown.
#[test]
fn a_secret_in_the_place_of_a_reference_is_neither_quoted_nor_shown() {
    let canary = "hvs.CAESIJcanary";
    let places = [
        ("role_id: env:ROLE_ID", format!("role_id: {canary}")),
        ("role_id: env:ROLE_ID", format!("role_id: [{canary}]")),
        ("role_id: env:ROLE_ID", format!("rolle_id: {canary}")),
        ("role_id: env:ROLE_ID", format!("role_id: env:A, role_id: {canary}")),
        ("role_id: env:ROLE_ID", format!("role_id: \"env:{canary}\"")),
        ("{ kubernetes: { role: gateway } }", format!("{{ token: {canary} }}")),
        ("{ kubernetes: { role: gateway } }", format!("{{ tokn: {canary} }}")),
        ("{ kubernetes: { role: gateway } }", format!("{{ token: {canary}, mount: a }}")),
        ("{ kubernetes: { role: gateway } }", canary.to_owned()),
        ("{ kubernetes: { role: gateway } }", format!("{{ token: \"é{canary}\", x: y")),
        ("key: file:store.key", format!("key: {canary}")),
        ("key: file:store.key", format!("passphrase: {canary}")),
        ("{ directory: store, key: file:store.key }", canary.to_owned()),
        ("\"vault:main/kv/edge#key\"", format!("\"vault:{canary}\"")),
        ("{ bearer: \"vault:main/kv/grafana#token\" }", format!("{{ bearer: {canary} }}")),
        ("{ bearer: \"vault:main/kv/grafana#token\" }", format!("{{ Bearer: {canary} }}")),
        ("{ bearer: \"vault:main/kv/grafana#token\" }", canary.to_owned()),
        ("{ bearer: \"vault:main/kv/grafana#token\" }", format!("{{ bearer: {{ token: {canary} }} }}")),
        (
            "{ endpoints: [\"https://grafana:3000\"], credentials: { bearer: \"vault:main/kv/grafana#token\" } }",
            format!("[{{ bearer: {canary} }}]"),
        ),
        (
            "credentials: { field: { name: X-Api-Key, value: file:key.txt } }",
            format!("creds: {{ field: {{ value: {canary} }} }}"),
        ),
        ("value: file:key.txt", format!("value: {canary}")),
        ("username: env:LEGACY_USER", format!("username: {canary}")),
        ("key: embedded:acme/eab", format!("key: {canary}")),
        ("{ key: embedded:signer }", format!("{{ key: {canary} }}")),
        ("{ key: embedded:signer }", canary.to_owned()),
    ];
    for (from, to) in places {
        assert_eq!(WHOLE.matches(from).count(), 1, "{from}");
        let text = WHOLE.replacen(from, &to, 1);
        let (config, found) = read("portcullis.yaml", text, Path::new("/etc/portcullis"));
        assert!(config.is_none(), "{to}");
        for shown in [found.to_string(), found.fancy(), found.json().to_string()] {
            assert!(!shown.contains(canary), "{to}:\n{shown}");
        }
    }
}

#[test]
fn what_is_concealed_keeps_the_columns_behind_it() {
    let text = "version: 1\nlisteners: { edge: { bimd: \"ää€\", bind: nowhere } }\n";
    let found = read("portcullis.yaml", text.to_owned(), Path::new("/")).1;
    let fancy = found.fancy();
    assert!(fancy.contains("bimd: *··•*, bind: nowhere"), "{fancy}");
    assert!(found.to_string().contains("portcullis.yaml:2:41: error: `listeners.edge.bind`"), "{found}");
}

#[test]
fn whatever_is_cut_out_of_the_file_is_answered_and_never_half_taken() {
    let places: Vec<usize> = WHOLE.char_indices().map(|(at, _)| at).collect();
    for (&start, &end) in places.iter().zip(places.iter().skip(7)) {
        let cut = format!("{}{}", WHOLE.get(..start).unwrap(), WHOLE.get(end..).unwrap());
        let (config, problems) = read("portcullis.yaml", cut, Path::new("/"));
        assert_eq!(config.is_some(), problems.errors() == 0, "cut at {start}: {problems}");
    }
}
