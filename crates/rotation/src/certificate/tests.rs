use std::time::UNIX_EPOCH;

use secrets::embedded::{Embedded, Opener};
use testkit::{Authority, Issued, Leaf};

use super::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(testkit::unix_now())
}

fn wanted(store: Store) -> PkiCertificate {
    PkiCertificate {
        store,
        mount: String::new(),
        role: String::new(),
        common_name: Some("api.example.com".to_owned()),
        dns_names: vec!["api.example.com".to_owned(), "*.example.org".to_owned()],
        addresses: vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        uris: vec!["spiffe://example.com/edge".to_owned()],
        ttl: Duration::from_secs(3600),
        key: KeyKind::P256,
    }
}

fn embedded(directory: &std::path::Path) -> Store {
    let opener = Opener::Key(Opener::generate());
    let store = Embedded::open("local", directory.join("store"), opener, Arc::new(now)).unwrap();
    Store::Embedded(Arc::new(store))
}

async fn new(source: &mut PkiCertificate, held: Option<&Life>) -> (Arc<Credential>, Life) {
    match source.obtain(held, now()).await.unwrap() {
        Obtained::New(credential, life) => (credential, life),
        other => panic!("{other:?}"),
    }
}

/// What a check says of `issued`, with the authorities of `authority`, for the DNS name `edge.example.com`.
fn check(
    issued: &Issued,
    authority: &str,
    held: Option<&Life>,
    change: impl FnOnce(&mut PkiCertificate),
) -> Result<SystemTime, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut source = wanted(embedded(directory.path()));
    source.dns_names = vec!["EDGE.example.com".to_owned()];
    (source.addresses, source.uris) = (Vec::new(), Vec::new());
    change(&mut source);
    let answer = IssuedCertificate {
        chain_pem: issued.chain.clone(),
        authorities_pem: authority.to_owned(),
        expires: None,
        warnings: Vec::new(),
    };
    source
        .check(&answer, &issued.key, held, now())
        .map(|(_, ends)| ends)
        .map_err(|refusal| refusal.to_string())
}

fn leaf() -> Leaf {
    Leaf::server(&["edge.example.com"])
}

fn held(ends_in: i64) -> Life {
    let ends = testkit::unix_now().checked_add_signed(ends_in).unwrap();
    let begins = UNIX_EPOCH;
    Life { obtained: begins, begins, ends: Some(begins + Duration::from_secs(ends)), again_in: None }
}

#[tokio::test]
async fn the_embedded_authority_gives_what_was_asked_for_with_every_kind_of_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = wanted(embedded(directory.path()));
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        source.key = kind;
        let (credential, life) = new(&mut source, None).await;
        assert_eq!(credential.dns_names().collect::<Vec<_>>(), ["api.example.com", "*.example.org"]);
        assert_eq!(credential.addresses(), source.addresses);
        assert_eq!(credential.uris().collect::<Vec<_>>(), ["spiffe://example.com/edge"]);
        assert_eq!(life.ends, Some(credential.not_after()));
        // Backdated or not: the life counts from now.
        let lives = life.ends.unwrap().duration_since(life.begins).unwrap().as_secs();
        assert!((3590..=3600).contains(&lives), "{lives}");
    }
}

#[tokio::test]
async fn every_renewal_has_a_new_key_and_the_request_does_not_hold_it() {
    let directory = tempfile::tempdir().unwrap();
    let source = wanted(embedded(directory.path()));
    let (first, request) = source.request().unwrap();
    let (second, _) = source.request().unwrap();
    assert_ne!(*first, *second);
    assert!(first.contains("PRIVATE KEY"));
    let inside = first.lines().nth(1).unwrap();
    assert!(!request.csr_pem.contains("PRIVATE KEY") && !request.csr_pem.contains(inside));
}

#[tokio::test]
async fn a_renewal_never_shortens_what_serves() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = wanted(embedded(directory.path()));
    let (_, life) = new(&mut source, None).await;
    source.ttl = Duration::from_secs(60);
    let refused = source.obtain(Some(&life), now()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "what was obtained is refused: the certificate ends before the one that serves"
    );
}

#[test]
fn a_certificate_that_does_not_name_all_that_was_asked_for_is_refused() {
    let root = Authority::root("root");
    let issued = root.issue(leaf().uri("spiffe://example.com/edge"));
    assert!(check(&issued, root.pem(), None, |_| {}).is_ok());
    assert!(
        check(&issued, root.pem(), None, |it| it.uris = vec!["spiffe://example.com/edge".into()]).is_ok()
    );
    let missing = |change: fn(&mut PkiCertificate)| check(&issued, root.pem(), None, change).unwrap_err();
    let says = |name: &str| format!("the certificate does not name `{name}`");
    assert_eq!(missing(|it| it.dns_names.push("b.example.com".into())), says("b.example.com"));
    assert_eq!(missing(|it| it.addresses = vec!["10.0.0.1".parse().unwrap()]), says("10.0.0.1"));
    assert_eq!(
        missing(|it| it.uris = vec!["spiffe://example.com/Edge".into()]),
        says("spiffe://example.com/Edge")
    );
}

#[test]
fn a_dns_name_that_was_not_asked_for_is_refused_unless_it_is_the_common_name() {
    let root = Authority::root("root");
    let issued = root.issue(Leaf::server(&["edge.example.com", "bank.example.com"]));
    let refused = check(&issued, root.pem(), None, |_| {}).unwrap_err();
    assert_eq!(refused, "the certificate names `bank.example.com`, which was not asked for");
    let common_name = |it: &mut PkiCertificate| it.common_name = Some("Bank.example.com".into());
    assert!(check(&issued, root.pem(), None, common_name).is_ok());
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let root = Authority::root("root");
    let mut issued = root.issue(leaf());
    issued.key = root.issue(leaf()).key;
    assert!(check(&issued, root.pem(), None, |_| {}).unwrap_err().contains("does not belong"));
}

#[test]
fn a_certificate_that_the_named_authorities_did_not_issue_is_refused() {
    let (root, other) = (Authority::root("root"), Authority::root("root"));
    let issued = root.issue(leaf());
    assert!(check(&issued, other.pem(), None, |_| {}).unwrap_err().contains("do not vouch"));
    assert_eq!(check(&issued, "", None, |_| {}).unwrap_err(), "the store names no authority");
    assert!(check(&issued, &issued.chain, None, |_| {}).unwrap_err().contains("is not a CA"));
}

#[test]
fn a_chain_up_to_an_intermediate_or_to_its_root_is_taken() {
    let root = Authority::root("root");
    let intermediate = root.intermediate("intermediate");
    let issued = intermediate.issue(leaf());
    assert!(check(&issued, intermediate.pem(), None, |_| {}).is_ok());
    assert!(check(&issued, root.pem(), None, |_| {}).is_ok());
    assert!(check(&issued, &format!("{}{}", intermediate.pem(), root.pem()), None, |_| {}).is_ok());
}

#[test]
fn a_certificate_for_clients_only_is_taken_too() {
    let root = Authority::root("root");
    assert!(check(&root.issue(Leaf::dns("edge.example.com")), root.pem(), None, |_| {}).is_ok());
}

#[test]
fn what_has_not_begun_or_has_ended_is_refused() {
    let root = Authority::root("root");
    let early = root.issue(leaf().valid(60..3600));
    assert!(check(&early, root.pem(), None, |_| {}).unwrap_err().contains("not valid before"));
    let late = root.issue(leaf().valid(-3600..-60));
    assert!(check(&late, root.pem(), None, |_| {}).unwrap_err().contains("expired"));
}

#[test]
fn a_shorter_certificate_replaces_one_that_has_ended() {
    let root = Authority::root("root");
    let issued = root.issue(leaf().valid(-60..600));
    let refused = "the certificate ends before the one that serves";
    assert_eq!(check(&issued, root.pem(), Some(&held(601)), |_| {}).unwrap_err(), refused);
    assert!(check(&issued, root.pem(), Some(&held(600)), |_| {}).is_ok());
    assert!(check(&issued, root.pem(), Some(&held(-1)), |_| {}).is_ok());
}

#[test]
fn an_answer_that_was_cut_off_is_refused() {
    let root = Authority::root("root");
    let whole = root.intermediate("intermediate").issue(leaf());
    for end in [1, 30, whole.chain.len() / 2, whole.chain.len() - 30] {
        let mut cut = root.issue(leaf());
        (cut.chain, cut.key) = (whole.chain.chars().take(end).collect(), whole.key.clone());
        assert!(check(&cut, root.pem(), None, |_| {}).is_err(), "cut at {end}");
    }
}
