//! Answers that the real server cannot be made to give, by endpoint; those of every request are tested in crate `secrets`.

use secrets::{Cause, SigningAlgorithm};
use serde_json::json;
use testkit::Fault;

use super::rig::{Rig, cause};

#[test]
fn a_lease_that_a_new_active_node_has_not_read_yet_is_not_lost() {
    let rig = Rig::fake();
    rig.database();
    let lease = rig.wait(rig.store.read("database/creds/app")).unwrap().lease.unwrap();
    rig.fake_server().lose_leases(2);
    assert!(rig.wait(rig.store.renew(&lease)).is_ok(), "two misses are looked after");
    rig.fake_server().lose_leases(3);
    assert_eq!(cause(rig.wait(rig.store.renew(&lease))), Cause::LeaseLost);
}

#[test]
fn a_certificate_that_none_of_its_authorities_signed_is_refused() {
    let (rig, other) = (Rig::fake(), Rig::fake());
    let (mount, role) = rig.authority("1h");
    let (_, request) = rig.request(&mount, &role, &["a.example.com"]);
    let mine = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    let (elsewhere, _) = other.authority("1h");
    let foreign = other.wait(other.store.authorities(&elsewhere)).unwrap();
    let body =
        json!({ "data": { "certificate": mine.chain_pem, "issuing_ca": foreign, "ca_chain": [foreign] } });
    rig.fake_server().fail(&format!("{mount}/sign"), Fault::Body(200, body.to_string()));
    let cause = cause(rig.wait(rig.store.sign_certificate(&request)));
    assert_eq!(cause, Cause::Answer("none of its authorities signed the certificate"));
}

#[test]
fn an_answer_of_another_shape_is_never_used_and_no_fault_of_the_configuration() {
    let rig = Rig::fake();
    let (mount, role) = rig.authority("1h");
    let (_, request) = rig.request(&mount, &role, &["a.example.com"]);
    let lease = secrets::Lease {
        id: "database/creds/app/1".to_owned(),
        duration: std::time::Duration::from_secs(1),
        is_renewable: true,
        login: 1,
    };
    rig.wait(rig.store.authorities(&mount)).unwrap();
    for body in
        ["{}", r#"{"data": {"certificate": 1, "keys": 2, "signature": "vault:v0:", "lease_id": 3}}"#, "[]"]
    {
        rig.fake_server().heal();
        rig.fake_server().fail("", Fault::Body(200, body.to_owned()));
        let store = &rig.store;
        let causes = [
            cause(rig.wait(store.read("secret/x"))),
            cause(rig.wait(store.sign_certificate(&request))),
            cause(rig.wait(store.authorities(&mount))),
            cause(rig.wait(store.sign("transit", "k", SigningAlgorithm::Es256, b"x"))),
            cause(rig.wait(store.signing_keys("transit", "k"))),
            cause(rig.wait(store.renew(&lease))),
        ];
        assert!(causes.iter().all(|cause| matches!(cause, Cause::Answer(_))), "{body}: {causes:#?}");
    }
}
