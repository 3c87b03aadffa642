//! Certificates over ACME from pebble, proven on a TLS listener of ours and over plain HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod site;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rotation::acme::{AcmeSpec, Challenge, ExternalAccount};
use rotation::{Obtained, Source as _, SourceError};
use secrets::SecretString;
use testkit::{Pebble, Pebbling};
use tls::Credential;

use site::{Site, run};

fn names(credential: &Credential) -> Vec<&str> {
    credential.dns_names().collect()
}

fn new(obtained: Obtained<Arc<Credential>>) -> Arc<Credential> {
    match obtained {
        Obtained::New(credential, _) => credential,
        other => panic!("a new certificate is expected: {other:?}"),
    }
}

#[test]
fn a_certificate_is_proven_on_a_tls_listener_that_has_none_yet() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    let credential = run(async {
        let mut source = site.source(site.spec("edge", &["Gw.test", "www.gw.test"]));
        let first = source.obtain(None, site.now()).await.unwrap_err();
        assert!(!first.is_configuration() && first.to_string().contains("no certificate is kept"), "{first}");
        new(site.open(source.obtain(None, site.now())).await.unwrap())
    });
    assert_eq!(names(&credential), ["gw.test", "www.gw.test"]);
    assert_eq!(site.pebble.issued(), 1, "{}", site.pebble.output());
}

#[test]
fn a_certificate_is_proven_over_plain_http() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    let spec = AcmeSpec { challenge: Challenge::Http01, ..site.spec("edge", &["http.test", "b.http.test"]) };
    let credential = run(async { site.order(spec).await.unwrap() });
    assert_eq!(names(&credential), ["http.test", "b.http.test"]);
}

#[test]
fn a_restart_orders_nothing_and_entries_share_an_account() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    run(async {
        let first = site.order(site.spec("a", &["a.test"])).await.unwrap();
        let mut restarted = site.source(site.spec("a", &["a.test"]));
        // Nothing listens, and the ACME server is not asked.
        let again = new(restarted.obtain(None, site.now()).await.unwrap());
        assert_eq!(again.fingerprint(), first.fingerprint());
        site.order(site.spec("b", &["b.test"])).await.unwrap();
        let other = site.order(site.spec("a", &["other.test"])).await.unwrap();
        assert_eq!(names(&other), ["other.test"]);
    });
    assert_eq!((site.pebble.issued(), site.pebble.posts(ACCOUNT)), (3, 1), "{}", site.pebble.output());
}

#[test]
fn two_orders_of_one_entry_are_one() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    run(async {
        let (one, two) = site
            .open(async {
                let order = || site.ordered(site.spec("edge", &["twice.test"]));
                tokio::join!(order(), order())
            })
            .await;
        assert_eq!(one.unwrap().fingerprint(), two.unwrap().fingerprint());
    });
    assert_eq!(site.pebble.issued(), 1);
}

#[test]
fn it_is_renewed_when_two_thirds_are_over_and_not_before() {
    let site = Site::new(Pebble::start(&Pebbling { validity: 3600, ..Pebbling::default() }));
    run(async {
        let mut source = site.source(site.spec("edge", &["renew.test"]));
        source.obtain(None, site.now()).await.unwrap_err();
        let Obtained::New(first, life) = site.open(source.obtain(None, site.now())).await.unwrap() else {
            panic!("a new certificate is expected")
        };
        let again_in = life.again_in.unwrap();
        assert!((2390..=2400).contains(&again_in.as_secs()), "{again_in:?}");
        site.ahead.store(2380, Ordering::Relaxed);
        let early = source.obtain(Some(&life), site.now()).await.unwrap();
        assert!(matches!(early, Obtained::Unchanged(_)), "{early:?}");
        site.ahead.store(2420, Ordering::Relaxed);
        let renewed = new(site.open(source.obtain(Some(&life), site.now())).await.unwrap());
        assert_ne!(renewed.fingerprint(), first.fingerprint());
    });
    assert_eq!((site.pebble.issued(), site.pebble.posts(ACCOUNT)), (2, 1));
}

#[test]
fn what_is_kept_serves_at_a_start_also_when_its_renewal_is_due() {
    let site = Site::new(Pebble::start(&Pebbling { validity: 3600, ..Pebbling::default() }));
    run(async {
        let first = site.order(site.spec("edge", &["due.test"])).await.unwrap();
        site.ahead.store(3000, Ordering::Relaxed);
        let mut source = site.source(site.spec("edge", &["due.test"]));
        let Obtained::New(kept, life) = source.obtain(None, site.now()).await.unwrap() else {
            panic!("a certificate is expected")
        };
        assert_eq!((kept.fingerprint(), life.again_in), (first.fingerprint(), Some(Duration::ZERO)));
        site.ahead.store(3700, Ordering::Relaxed);
        let mut late = site.source(site.spec("edge", &["due.test"]));
        late.obtain(None, site.now()).await.unwrap_err();
    });
}

#[test]
fn an_entry_with_other_names_serves_what_it_has_until_they_are_issued() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    run(async {
        let former = site.order(site.spec("edge", &["one.test"])).await.unwrap();
        let mut changed = site.source(site.spec("edge", &["one.test", "two.test"]));
        let Obtained::New(meanwhile, life) = changed.obtain(None, site.now()).await.unwrap() else {
            panic!("what is kept is expected")
        };
        assert_eq!((meanwhile.fingerprint(), life.again_in), (former.fingerprint(), Some(Duration::ZERO)));
        let issued = new(site.open(changed.obtain(Some(&life), site.now())).await.unwrap());
        assert_eq!(names(&issued), ["one.test", "two.test"]);
    });
}

#[test]
fn a_name_that_cannot_be_proven_is_told_with_what_the_server_saw_and_nothing_stays_shown() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    run(async {
        for challenge in [Challenge::TlsAlpn01, Challenge::Http01] {
            let spec = AcmeSpec { challenge, ..site.spec("edge", &["closed.test"]) };
            // No listener is open.
            let error = site.ordered(spec).await.unwrap_err();
            assert!(error.is_configuration(), "{error}");
            assert!(error.to_string().starts_with("ACME: `closed.test` is not proven: "), "{error}");
            assert!(error.to_string().to_ascii_lowercase().contains("connect"), "{error}");
            drop(tls::acme::show_certificate("closed.test", &[0; 32]).unwrap());
        }
    });
}

#[test]
fn a_refused_name_is_told_with_the_problem_type() {
    let blocked = Pebbling { blocked: vec!["blocked.test".to_owned()], ..Pebbling::default() };
    let site = Site::new(Pebble::start(&blocked));
    let error = run(async { site.order(site.spec("edge", &["blocked.test"])).await.unwrap_err() });
    assert!(error.is_configuration() && error.to_string().contains("(`rejectedIdentifier`)"), "{error}");
}

#[test]
fn refused_nonces_are_asked_for_anew() {
    let site = Site::new(Pebble::start(&Pebbling { nonces_refused: 5, ..Pebbling::default() }));
    run(async {
        for number in 1..=60 {
            let name = format!("nonce{number}.test");
            let spec = AcmeSpec { challenge: Challenge::Http01, ..site.spec(&name, &[&name]) };
            match site.order(spec).await {
                Ok(_) => {}
                // Three in a row happen once in eight thousand requests.
                Err(error) => assert!(error.to_string().contains("badNonce"), "{error}"),
            }
            // Each order posts once to each of these: what is more was posted again.
            let posts: usize = ["/order-plz", "/chalZ/", "/finalize-order/"]
                .iter()
                .map(|path| site.pebble.posts(path))
                .sum();
            if posts > 3 * number {
                return;
            }
        }
        panic!("pebble refused no nonce: {}", site.pebble.output());
    });
}

#[test]
fn an_account_is_bound_to_an_external_one_where_the_server_wants_it() {
    let mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let bound =
        Pebbling { external_account: Some(("kid-1".to_owned(), mac.to_owned())), ..Pebbling::default() };
    let site = Site::new(Pebble::start(&bound));
    let with = |key: Option<&str>| {
        let external_account =
            key.map(|key| ExternalAccount { key_id: "kid-1".to_owned(), key: SecretString::from(key) });
        AcmeSpec { external_account, ..site.spec("edge", &["bound.test"]) }
    };
    run(async {
        let unbound = site.order(with(None)).await.unwrap_err();
        assert!(unbound.to_string().contains("(`externalAccountRequired`)"), "{unbound}");
        let wrong = site.order(with(Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))).await.unwrap_err();
        assert!(wrong.is_configuration() && !wrong.to_string().contains("AAAA"), "{wrong}");
        site.order(with(Some(mac))).await.unwrap();
    });
    assert_eq!(site.pebble.issued(), 1);
}

#[test]
fn an_account_that_the_server_does_not_know_is_made_anew() {
    let (before, after) =
        (Site::new(Pebble::start(&Pebbling::default())), Site::new(Pebble::start(&Pebbling::default())));
    run(async {
        before.order(before.spec("edge", &["forgotten.test"])).await.unwrap();
        before.hand_account_to(&after);
        after.order(after.spec("edge", &["forgotten.test"])).await.unwrap();
    });
    assert_eq!(after.pebble.posts(ACCOUNT), 1, "{}", after.pebble.output());
}

#[test]
fn the_servers_window_decides_when_to_renew() {
    let site = Site::new(Pebble::start(&Pebbling::default()));
    let directory = site.with_renewal_information();
    run(async {
        let spec = || AcmeSpec { directory: directory.url(), ..site.spec("edge", &["ari.test"]) };
        let mut source = site.source(spec());
        source.obtain(None, site.now()).await.unwrap_err();
        directory.suggest("2000-01-01T00:00:00Z", "2000-01-02T00:00:00Z");
        let renewals = directory.serve(async {
            let Obtained::New(_, life) = source.obtain(None, site.now()).await.unwrap() else {
                panic!("a new certificate is expected")
            };
            // The window is over: at once.
            assert_eq!(life.again_in, Some(Duration::ZERO));
            directory.suggest("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");
            let Obtained::New(_, life) = source.obtain(Some(&life), site.now()).await.unwrap() else {
                panic!("a new certificate is expected")
            };
            // Asked again as the server says.
            assert!((7190..=7200).contains(&life.again_in.unwrap().as_secs()), "{life:?}");
            site.ahead.store(7300, Ordering::Relaxed);
            let looked = source.obtain(Some(&life), site.now()).await.unwrap();
            let Obtained::Unchanged(life) = looked else { panic!("nothing new is expected: {looked:?}") };
            assert!((7190..=7200).contains(&life.again_in.unwrap().as_secs()), "{life:?}");
        });
        site.open(Box::pin(renewals)).await;
        assert_eq!(directory.asked(), 3);
    });
    assert_eq!(site.pebble.issued(), 2);
}

#[test]
fn a_server_that_another_authority_vouches_for_is_not_spoken_to() {
    let (site, other) = (Site::new(Pebble::start(&Pebbling::default())), Pebble::start(&Pebbling::default()));
    let spec = AcmeSpec { trust: site::trust(&[other.ca()]), ..site.spec("edge", &["stranger.test"]) };
    let error = run(async { site.order(spec).await.unwrap_err() });
    assert!(matches!(error, SourceError::Acme { is_configuration: false, .. }), "{error}");
    assert!(error.to_string().starts_with("ACME: TLS with `localhost`: "), "{error}");
}

/// Where pebble makes accounts.
const ACCOUNT: &str = "/sign-me-up";
