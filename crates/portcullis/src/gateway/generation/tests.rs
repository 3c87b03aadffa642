//! What lives on from one generation to the next, and what a failure leaves alone.

use std::fs;

use proxy::route::{Action, Target};

use super::*;
use crate::config::load;
use crate::gateway::wall_clock;

const TEXT: &str = "version: 1
listeners:
  edge: { bind: 127.0.0.1:0, tls: { certificates: [edge] } }
  plain: { bind: 127.0.0.1:0, redirect: https }
certificates: { edge: { files: { certificate: edge.pem, key: edge.key } } }
identity: { jwt: { staff: { issuer: https://id.example.com, audience: [a], jwks: discover, algorithms: [ES256] } } }
upstreams: { app: { endpoints: [http://127.0.0.1:1] } }
limits: { often: { key: principal, rate: 5/s } }
routes:
  - { name: all, on: [edge], path: /**, authenticate: { any: [staff] }, limits: [often], concurrency: 3, upstream: app }
";

fn build(former: &Living, text: &str) -> (Snapshot, Living) {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(directory.path().join("edge.pem"), certificate.pem()).unwrap();
    fs::write(directory.path().join("edge.key"), key.serialize_pem()).unwrap();
    let file = directory.path().join("portcullis.yaml");
    fs::write(&file, text).unwrap();
    let mut checked = load(&file, wall_clock()).unwrap();
    // Each build has a directory of its own; the gateway knows one.
    for source in checked.config.certificates.values_mut() {
        let CertificateSource::Files(files) = source else { continue };
        files.certificate.path = "edge.pem".into();
        files.key.path = "edge.key".into();
    }
    let addresses = BTreeMap::from_iter(
        checked.config.listeners.keys().map(|name| (name.clone(), "127.0.0.1:8443".parse().unwrap())),
    );
    let (metrics, stores) = (Metrics::new(1), BTreeMap::new());
    let tasks = Tasks::default();
    let around = Surroundings {
        generation: 1,
        metrics: &metrics,
        addresses: &addresses,
        stores: &stores,
        names: &BTreeMap::new(),
        tasks: &tasks,
        rules: None,
    };
    former.next(&checked.config, checked.engine, &around).unwrap()
}

fn buckets(snapshot: &Snapshot) -> Arc<Buckets> {
    Arc::clone(&snapshot.routes[0].limits[0].buckets)
}

fn upstream(snapshot: &Snapshot) -> Arc<proxy::upstream::Upstream> {
    match &snapshot.routes[0].action {
        Action::Forward { to: Target::One(upstream), .. } => Arc::clone(upstream),
        other => panic!("the route forwards: {other:?}"),
    }
}

fn pool(snapshot: &Snapshot) -> u64 {
    upstream(snapshot).endpoints.now()[0].pool.number()
}

#[test]
fn what_did_not_change_is_the_very_same_thing() {
    let (one, living) = build(&Living::default(), TEXT);
    let (two, next) = build(&living, &TEXT.replace("concurrency: 3", "concurrency: 4"));
    assert!(Arc::ptr_eq(&buckets(&one), &buckets(&two)));
    assert!(Arc::ptr_eq(&upstream(&one), &upstream(&two)));
    assert_eq!(pool(&one), pool(&two));
    let tls = |snapshot: &Snapshot| Arc::clone(snapshot.listeners["edge"].tls.as_ref().unwrap());
    assert!(Arc::ptr_eq(&tls(&one), &tls(&two)), "tickets live in it");
    assert!(Arc::ptr_eq(&living.issuers["staff"], &next.issuers["staff"]));
    assert!(Arc::ptr_eq(&living.certificates["edge"], &next.certificates["edge"]));
    assert_eq!(two.routes[0].concurrency.as_ref().unwrap().max(), 4);
}

#[test]
fn what_changed_is_new_and_keys_stay_where_their_source_stays() {
    let (one, living) = build(&Living::default(), TEXT);
    let changed =
        TEXT.replace("5/s", "6/s").replace("127.0.0.1:1]", "127.0.0.1:2]").replace("[ES256]", "[EdDSA]");
    let (two, next) = build(&living, &changed);
    assert!(!Arc::ptr_eq(&buckets(&one), &buckets(&two)));
    assert_ne!(pool(&one), pool(&two), "another address, another pool");
    let (former, now) = (&living.issuers["staff"], &next.issuers["staff"]);
    assert_ne!(
        former.token_issuer.configuration, now.token_issuer.configuration,
        "cached tokens do not count"
    );
    assert!(Arc::ptr_eq(&former.keys, &now.keys), "keys need not be fetched again");
}

#[test]
fn what_a_route_names_and_is_not_there_is_an_error_and_never_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portcullis.yaml");
    let text = TEXT
        .replace(", tls: { certificates: [edge] }", "")
        .replace("  plain: { bind: 127.0.0.1:0, redirect: https }\n", "");
    fs::write(
        &file,
        text.replace("certificates: { edge: { files: { certificate: edge.pem, key: edge.key } } }\n", ""),
    )
    .unwrap();
    let broken = |change: fn(&mut Config)| {
        let mut checked = load(&file, wall_clock()).unwrap();
        change(&mut checked.config);
        rehearse(&checked.config, checked.engine, None).unwrap_err()
    };
    assert_eq!(broken(|config| config.limits.clear()), "route `all`: one of its limits is missing");
    assert_eq!(broken(|config| config.jwt.clear()), "route `all`: one of its token issuers is missing");
    assert_eq!(broken(|config| config.upstreams.clear()), "route `all`: its upstream is missing");
}

#[test]
fn a_redirect_leads_to_the_port_that_tls_really_has() {
    let (snapshot, _) = build(&Living::default(), TEXT);
    assert_eq!(snapshot.listeners["plain"].redirect, Some(8443));
    assert_eq!(snapshot.listeners["edge"].redirect, None);
}
