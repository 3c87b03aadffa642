//! The ground that the end-to-end tests stand on holds without a gateway in between.

use serde_json::json;

use crate::{
    Algorithm, Ask, Authority, Connection, Curl, KeyServer, KubernetesApi, Leaf, Meddling, Middle, Mood,
    Nginx, Postgres, Protocol, ServerTls, Site, TokenKey, Trust, Upstream, Vault, VaultClient, VaultCluster,
    claims, eventually, exchange, jwks, run, sha256,
};

#[test]
fn an_upstream_answers_with_what_it_saw() {
    let upstream = Upstream::start();
    let mut connection = Connection::plain(upstream.address(), Protocol::H1).unwrap();
    let ask = Ask::new("POST", "h.example", "/a?b=c").header("x-one", "1").header("x-one", "2").body("text");
    let reply = connection.send(ask).unwrap();
    assert_eq!(
        (reply.status, &reply.json()["target"], &reply.json()["body"]),
        (200, &json!("/a?b=c"), &json!("text"))
    );
    assert_eq!(reply.upstream_saw("x-one"), ["1", "2"]);
    assert_eq!(reply.json()["sha256"], sha256(b"text"));
    assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let trailed =
        Ask::new("POST", "h.example", "/").body("x").header("trailer", "x-sum").trailer("x-sum", "7");
    assert_eq!(connection.send(trailed).unwrap().json()["trailers"], json!([["x-sum", "7"]]));
    let answered = connection.send(Ask::get("h.example", "/trailers").header("te", "trailers")).unwrap();
    assert_eq!(answered.trailers.len(), 1);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.requests().len(), 3);
    assert!(
        exchange(upstream.address(), "GET /raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .contains("/raw")
    );
    assert!(
        Connection::plain(upstream.address(), Protocol::H1).unwrap().send(Ask::get("h", "/die")).is_err()
    );
}

#[test]
fn certificates_name_servers_and_clients_and_tickets_are_kept() {
    let (servers, clients) = (Authority::root("servers"), Authority::root("clients"));
    let server = servers.intermediate("issuing").issue(Leaf::server(&["one.internal", "127.0.0.1"]));
    let member = clients.issue(Leaf::spiffe("spiffe://example.org/a"));
    let upstream = Upstream::tls("mutual", ServerTls::new(&server, Some(clients.pem())));
    let trust = Trust::new(servers.pem(), Some(&member));
    let mut first = Connection::tls(upstream.address(), &trust, "one.internal", Protocol::H1).unwrap();
    let seen = first.send(Ask::get("one.internal", "/")).unwrap().json();
    assert_eq!((&seen["certificate"], &seen["sni"]), (&json!(member.fingerprint()), &json!("one.internal")));
    assert_eq!(first.server_certificate(), Some(server.fingerprint().as_str()));
    assert!(!first.resumed());
    assert!(Connection::tls(upstream.address(), &trust, "one.internal", Protocol::H1).unwrap().resumed());
    let late = clients.issue(Leaf::spiffe("spiffe://example.org/a").valid(-100..-50));
    for bad in [
        Trust::new(servers.pem(), Some(&late)),
        Trust::new(servers.pem(), None),
        Trust::new(clients.pem(), Some(&member)),
    ] {
        let connection = Connection::tls(upstream.address(), &bad, "one.internal", Protocol::H1);
        assert!(
            connection.and_then(|mut connection| connection.send(Ask::get("one.internal", "/"))).is_err()
        );
    }
    assert!(clients.crl(&[&member]).contains("X509 CRL"));
}

#[test]
fn tokens_verify_with_openssl_under_the_published_keys() {
    let site = Site::new();
    let key = TokenKey::generate(Algorithm::Rs256, "r");
    let token = key.token(&claims("i", "a", "s"));
    assert_eq!(token.split('.').count(), 3);
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let key = TokenKey::generate(algorithm, "e");
        let signature = key.token(&claims("i", "a", "s")).rsplit_once('.').unwrap().1.len();
        assert_eq!(signature, 86, "64 bytes in base64url");
    }
    assert_eq!(jwks(&[&key])["keys"][0]["e"], "AQAB");
    assert!(site.write("deep/file", "x").exists());
}

#[test]
fn a_key_server_counts_fetches_and_follows_its_mood() {
    let key = TokenKey::generate(Algorithm::Es256, "k");
    let keys = KeyServer::start(jwks(&[&key]), None);
    let address =
        keys.jwks_url().replace("http://localhost", "127.0.0.1").replace("/jwks.json", "").parse().unwrap();
    let fetch = |path: &str| {
        Connection::plain(address, Protocol::H1).unwrap().send(Ask::get(&address.to_string(), path)).unwrap()
    };
    assert_eq!(fetch("/jwks.json").json()["keys"][0]["kid"], "k");
    assert!(fetch("/.well-known/openid-configuration").text().contains("jwks_uri"));
    keys.mood(Mood::Fail);
    assert_eq!(fetch("/jwks.json").status, 500);
    assert_eq!(keys.fetches(), 2);
}

#[test]
fn curl_reaches_nginx_over_plain_and_tls() {
    let authority = Authority::root("servers");
    let site = Site::new();
    let roots = site.write("roots.pem", authority.pem());
    let plain = Nginx::start(None, None);
    plain.serve("file", b"contents");
    let address = plain.url().trim_start_matches("http://").parse().unwrap();
    assert_eq!(Curl::new("http://any.example/file", address).run().body, b"contents");
    let tls = Nginx::start(Some(&authority.issue(Leaf::server(&["any.example"]))), None);
    let address = tls.url().trim_start_matches("https://").parse().unwrap();
    let reply = Curl::new("https://any.example/who", address).trusting(&roots).run();
    assert_eq!((reply.status, reply.version.as_str(), reply.complaint.as_str()), (200, "1.1", ""));
    assert_eq!(Curl::new("https://any.example/who", address).run().status, 0, "an unknown root is refused");
    assert_eq!(run(std::process::Command::new("false").arg("x")).code, 1);
}

#[test]
fn a_development_vault_stores_signs_and_tells_what_was_asked() {
    for vault in [Vault::dev(), Vault::dev_tls()] {
        vault.put("secret/grafana", &json!({ "token": "t-1" }));
        assert_eq!(vault.read("secret/data/grafana")["data"]["data"]["token"], "t-1");
        let root = vault.set_up_pki("pki", "edge", "1h");
        assert!(root.contains("BEGIN CERTIFICATE"));
        vault.policy("nothing", r#"path "none" { capabilities = ["deny"] }"#);
        let (role, secret) = vault.set_up_app_role("gw", &["nothing"], &json!({ "token_ttl": "60s" }));
        let login = json!({ "role_id": role, "secret_id": secret });
        let token =
            vault.write("auth/approle/login", &login)["auth"]["client_token"].as_str().unwrap().to_owned();
        assert_eq!(vault.with_token(&token).call("GET", "secret/data/grafana", None).0, 403);
        assert!(vault.token_lives(&token));
        assert_eq!(vault.audited("auth/approle/login"), 1);
        vault.set_quota("t", "", true);
        eventually("the quota is felt", || {
            (vault.call("GET", "secret/data/grafana", None).0 == 429).then_some(())
        });
    }
}

#[test]
fn a_vault_cluster_survives_a_step_down_a_kill_and_a_seal() {
    let mut cluster = VaultCluster::start(3);
    cluster.root().enable("kv-v2", "kv");
    cluster.root().put("kv/a", &json!({ "b": "c" }));
    let former = cluster.step_down();
    eventually("another is active", || (cluster.active() != former).then_some(()));
    let killed = cluster.active();
    cluster.kill(killed);
    assert_ne!(cluster.active(), killed);
    assert_eq!(cluster.root().read("kv/data/a")["data"]["data"]["b"], "c");
    cluster.restart(killed);
    assert_eq!(cluster.node(killed).call("GET", "kv/data/a", None).0, 503, "sealed");
    cluster.unseal(killed);
    assert!(cluster.audited("kv/data/a") >= 2);
}

#[test]
fn one_node_alone_keeps_what_it_holds_over_a_kill() {
    let mut cluster = VaultCluster::start(1);
    cluster.root().enable("kv-v2", "kv");
    cluster.root().put("kv/a", &json!({ "b": "c" }));
    cluster.seal(0);
    assert_eq!(cluster.node(0).call("GET", "kv/data/a", None).0, 503, "sealed");
    cluster.kill(0);
    assert_eq!(cluster.node(0).call("GET", "kv/data/a", None).0, 0);
    cluster.restart(0);
    cluster.unseal(0);
    assert_eq!(cluster.root().read("kv/data/a")["data"]["data"]["b"], "c");
}

#[test]
fn vault_makes_accounts_in_postgresql_and_takes_them_back() {
    let (vault, postgres) = (Vault::dev(), Postgres::start());
    postgres.serve_credentials(&vault, "app", "60s", "300s");
    let made = vault.read("database/creds/app");
    let (user, password) =
        (made["data"]["username"].as_str().unwrap(), made["data"]["password"].as_str().unwrap());
    assert!(postgres.logs_in(user, password) && !postgres.logs_in(user, "wrong"));
    assert_eq!(postgres.leased_accounts(), [user]);
    vault.write("sys/leases/revoke", &json!({ "lease_id": made["lease_id"], "sync": true }));
    assert!(postgres.leased_accounts().is_empty());
    postgres.create_account("reporting");
    postgres.rotate(&vault, "reporting", "1h");
    assert!(!postgres.logs_in("reporting", "first"));
}

#[test]
fn vault_lets_a_real_service_account_in() {
    let (vault, kubernetes) = (Vault::dev(), KubernetesApi::start());
    kubernetes.service_account("gateway");
    kubernetes.let_in(&vault, "gw", "gateway", "vault", &["default"]);
    let login = |audience: &str| {
        let shown = json!({ "role": "gw", "jwt": kubernetes.token("gateway", audience) });
        vault.call("POST", "auth/kubernetes/login", Some(&shown)).0
    };
    assert_eq!((login("vault"), login("somebody else")), (200, 403));
}

#[test]
fn a_go_between_passes_on_lies_and_hangs() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let mut client = VaultClient::clone(&vault);
    client.address = middle.address();
    let read = |client: &VaultClient| client.call("GET", "auth/token/lookup-self", None);
    assert_eq!(read(&client).0, 200);
    middle.meddle("auth/", Meddling::Answer(503, Some(7)));
    assert_eq!(read(&client).0, 503);
    assert_eq!(client.call("GET", "sys/health", None).0, 200, "other paths are passed on");
    middle.meddle("", Meddling::Truncate);
    assert_eq!(read(&client), (200, json!(null)), "half of an answer is no JSON");
    middle.meddle("", Meddling::HangUp);
    assert_eq!(read(&client).0, 0);
    middle.meddle("", Meddling::Hang);
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| read(&client).0);
        eventually("the call arrived", || (middle.calls("auth/") == 5).then_some(()));
        middle.behave();
        assert_eq!(waiting.join().unwrap(), 200);
    });
    assert!(middle.shown().iter().all(|(token, _)| token.as_deref() == Some(vault.token())));
}
