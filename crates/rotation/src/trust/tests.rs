use std::time::UNIX_EPOCH;

use identity::certificate::NameForm;
use secrets::embedded::{Embedded, Opener};
use testkit::Authority;

use super::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(testkit::unix_now())
}

fn source(directory: &tempfile::TempDir, crl: bool) -> PkiTrust {
    let opener = Opener::Key(Opener::generate());
    let store = Embedded::open("local", directory.path().join("store"), opener, Arc::new(now)).unwrap();
    let options = TrustOptions { names: NameForm::Dns, when_stale: StaleCrl::Reject };
    let refresh = Duration::from_secs(600);
    PkiTrust::new(Store::Embedded(Arc::new(store)), String::new(), crl, "mesh".into(), options, refresh)
}

fn pem(authorities: &str, crl: Option<String>) -> Pem {
    Pem { authorities: authorities.to_owned(), crl }
}

fn take(source: &mut PkiTrust, pem: Pem) {
    let trust = Arc::new(source.check(&pem, now()).unwrap());
    source.last = Some(Last { pem, trust });
}

fn refusal(source: &PkiTrust, pem: &Pem) -> String {
    source.check(pem, now()).unwrap_err().to_string()
}

#[tokio::test]
async fn the_embedded_authority_is_trusted_and_unchanged_when_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = source(&directory, false);
    let Obtained::New(trust, life) = source.obtain(None, now()).await.unwrap() else { panic!("nothing new") };
    assert_eq!(trust.authorities(), (1, 0));
    assert_eq!((life.ends, life.again_in), (None, Some(Duration::from_secs(600))));
    assert!(matches!(source.obtain(Some(&life), now()).await.unwrap(), Obtained::Unchanged(_)));
}

#[tokio::test]
async fn a_revocation_list_that_is_asked_for_and_missing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = source(&directory, true).obtain(None, now()).await.unwrap_err();
    assert_eq!(refused.to_string(), "what was obtained is refused: the store has no revocation list");
}

#[test]
fn an_answer_without_authority_never_replaces_trust() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = source(&directory, false);
    take(&mut source, pem(Authority::root("root").pem(), None));
    for empty in ["", "\n", "not PEM"] {
        assert_eq!(refusal(&source, &pem(empty, None)), "the store names no authority");
    }
}

#[test]
fn an_older_revocation_list_is_refused_and_a_newer_or_equal_one_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = source(&directory, true);
    let root = Authority::root("root");
    take(&mut source, pem(root.pem(), Some(root.crl_for(&[], -60..3600))));
    assert_eq!(
        refusal(&source, &pem(root.pem(), Some(root.crl_for(&[], -61..9000)))),
        "the revocation list is older than the one that serves"
    );
    assert!(source.check(&pem(root.pem(), Some(root.crl_for(&[], -60..3600))), now()).is_ok());
    assert!(source.check(&pem(root.pem(), Some(root.crl_for(&[], -59..3600))), now()).is_ok());
    // Another authority's list is no older one of this.
    let other = Authority::root("other");
    let both = format!("{}{}", root.pem(), other.pem());
    assert!(source.check(&pem(&both, Some(other.crl_for(&[], -7200..3600))), now()).is_ok());
}

#[test]
fn the_list_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory, true);
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    assert!(refusal(&source, &pem(root.pem(), Some(other.crl(&[])))).contains("not in the CA file"));
}

#[test]
fn a_list_is_read_again_sooner_the_nearer_its_end_is_and_steadily_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory, true);
    let root = Authority::root("root");
    let life = |ends: i64| {
        let trust = source.check(&pem(root.pem(), Some(root.crl_for(&[], -7200..ends))), now()).unwrap();
        source.life(&trust, now())
    };
    assert_eq!(life(86_400).again_in, Some(Duration::from_secs(600)));
    let again = life(600).again_in.unwrap().as_secs();
    assert!((390..=400).contains(&again), "{again}");
    assert_eq!(life(2).again_in, Some(Duration::from_secs(5)));
    let ended = life(-60);
    assert_eq!(ended.again_in, Some(Duration::from_secs(600)));
    assert!(ended.ends.unwrap() < now());
}
