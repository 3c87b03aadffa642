//! Trust from Vault PKI: clients of its authority enter, those that it revoked do not, strangers never; a new root is trusted as
//! soon as Vault has it; the revocation list is fetched before it ends; without Vault at the start nobody is let in.

use serde_json::{Value, json};
use testkit::{
    Ask, Authority, Connection, Gateway, Issued, Leaf, Middle, Protocol, Trust, Vault, VaultClient,
    eventually,
};

use crate::scene::{API, ORDERS};
use crate::vault_scene::VaultScene;

#[test]
fn clients_enter_by_vaults_authority_until_it_revokes_them_and_a_new_root_is_taken_live() {
    let vault = Vault::dev();
    let scene = VaultScene::new(&vault, &json!({}));
    mesh(&vault);
    let gateway = scene.scene.site.start(&guarded_by_mesh(&scene, &vault.url()));
    let (honest, thief) = (member(&vault), member(&vault));
    let stranger = Authority::root("stranger").issue(Leaf::spiffe(ORDERS));
    assert!(enters(&scene, &gateway, &honest) && enters(&scene, &gateway, &thief));
    assert!(!enters(&scene, &gateway, &stranger));
    vault.write("pki_mesh/revoke", &json!({ "serial_number": serial(&thief) }));
    eventually("the revoked one is refused", || (!enters(&scene, &gateway, &thief)).then_some(()));
    assert!(enters(&scene, &gateway, &honest));

    let rotated =
        json!({ "common_name": "the next mesh root", "key_type": "ec", "key_bits": 256, "ttl": "24h" });
    let former = vault.read("pki_mesh/config/issuers")["data"]["default"].clone();
    vault.write("pki_mesh/root/rotate/internal", &rotated);
    // What Vault calls the chain of an issuer is what is trusted: an operator keeps the former root in it for a while.
    let (status, answer) = vault.call(
        "POST",
        "pki_mesh/issuer/next",
        Some(&json!({ "issuer_name": "next", "manual_chain": ["next", former] })),
    );
    assert_eq!(status, 200, "{answer}");
    vault.write("pki_mesh/root/replace", &json!({ "default": "next" }));
    let _ = vault.read("pki_mesh/crl/rotate");
    let newcomer = member(&vault);
    eventually("the new root's clients enter", || enters(&scene, &gateway, &newcomer).then_some(()));
    assert!(enters(&scene, &gateway, &honest), "and the former root's still");
    assert!(!enters(&scene, &gateway, &thief), "but not whom it revoked");
    // Nobody but this test makes a new list: the gateway has fetched it before the former one ended.
    assert!(gateway.metric(r#"portcullis_material_failures_total{kind="trust""#) == 0.0);
}

#[test]
fn without_vault_at_the_start_a_listener_that_needs_its_trust_lets_nobody_in() {
    let vault = Vault::dev();
    let middle = Middle::before(vault.address());
    let scene = VaultScene::new(&vault, &json!({}));
    mesh(&vault);
    let honest = member(&vault);
    middle.meddle("", testkit::Meddling::HangUp);
    let gateway = scene.scene.site.boot(&guarded_by_mesh(&scene, &middle.url()), &[]);
    assert!(std::net::TcpStream::connect(gateway.address("secure")).is_err(), "it is closed");
    assert!(scene.status()["pending"].to_string().contains("mesh"));
    middle.behave();
    eventually("it opens", || enters(&scene, &gateway, &honest).then_some(()));
}

/// A PKI mount whose revocation list lives half a minute.
fn mesh(vault: &VaultClient) {
    let _ = vault.set_up_pki("pki_mesh", "unused", "1h");
    let role = json!({
        "allowed_uri_sans": "spiffe://example.org/*", "require_cn": false, "key_type": "ec", "max_ttl": "1h",
    });
    vault.write("pki_mesh/roles/member", &role);
    vault.write("pki_mesh/config/crl", &json!({ "expiry": "30s" }));
    let _ = vault.read("pki_mesh/crl/rotate");
}

fn member(vault: &VaultClient) -> Issued {
    vault.issue("pki_mesh", "member", ORDERS)
}

/// The listener `secure` shows a certificate of a file, and asks for one that Vault's authority issued.
fn guarded_by_mesh(scene: &VaultScene, address: &str) -> Value {
    let mut config = scene.config(&json!([address]));
    config["certificates"]["edge"] = json!({ "files": { "certificate": "edge.pem", "key": "edge.key" } });
    config["trust"] = json!({ "mesh": {
        "vault_pki": { "store": "main", "mount": "pki_mesh", "crl": true }, "names": "spiffe", "trust_domain": "example.org",
    } });
    config["listeners"]["secure"]["tls"]["client"] = json!({ "mode": "required", "trust": ["mesh"] });
    config
}

fn enters(scene: &VaultScene, gateway: &Gateway, client: &Issued) -> bool {
    let trust = Trust::new(scene.scene.authority.pem(), Some(client));
    Connection::tls(gateway.address("secure"), &trust, API, Protocol::H2)
        .and_then(|mut connection| connection.send(Ask::get(API, "/")))
        .is_ok_and(|reply| reply.status == 200)
}

/// As Vault spells it.
fn serial(issued: &Issued) -> String {
    let digits = issued.serial();
    let pairs = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
    pairs.collect::<Vec<_>>().join(":")
}
