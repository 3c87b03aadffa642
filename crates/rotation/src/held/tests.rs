use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use secrets::Store;
use secrets::embedded::{Embedded, Opener};
use testkit::{Authority, Issued, Leaf};

use super::*;

struct Fixture {
    store: Arc<Embedded>,
    source: HeldCertificate,
    _directory: tempfile::TempDir,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(testkit::unix_now())
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let opener = Opener::Key(Opener::generate());
        let store = Embedded::open("local", directory.path().join("store"), opener, Arc::new(now)).unwrap();
        store.create().unwrap();
        let store = Arc::new(store);
        let stores = BTreeMap::from([("local".to_owned(), Store::Embedded(Arc::clone(&store)))]);
        let reference = |text| Reference::parse(text, Path::new("/")).unwrap();
        let source = HeldCertificate::new(
            Arc::new(Stores(stores)),
            reference("embedded:edge/certificate"),
            reference("embedded:edge/key"),
            Duration::from_secs(60),
        );
        Self { store, source, _directory: directory }
    }

    fn put(&self, issued: &Issued) {
        self.put_certificate(issued);
        self.store.write("edge/key", &issued.key.clone().into()).unwrap();
    }

    fn put_certificate(&self, issued: &Issued) {
        self.store.write("edge/certificate", &issued.chain.clone().into()).unwrap();
    }

    async fn obtain(&mut self, held: Option<&Life>) -> Result<Obtained<Arc<Credential>>, SourceError> {
        self.source.obtain(held, now()).await
    }

    async fn first(&mut self) -> Life {
        let Obtained::New(_, life) = self.obtain(None).await.unwrap() else { panic!("nothing new") };
        life
    }
}

fn leaf() -> Leaf {
    Leaf::server(&["edge.example.com"])
}

#[tokio::test]
async fn what_somebody_else_puts_there_serves_and_is_looked_at_again() {
    let mut fixture = Fixture::new();
    let root = Authority::root("root");
    let issued = root.issue(leaf());
    fixture.put(&issued);
    let Obtained::New(credential, life) = fixture.obtain(None).await.unwrap() else { panic!("nothing new") };
    assert_eq!(credential.fingerprint(), issued.fingerprint());
    assert_eq!((life.ends, life.again_in), (Some(credential.not_after()), Some(Duration::from_secs(60))));
    assert!(matches!(fixture.obtain(Some(&life)).await.unwrap(), Obtained::Unchanged(_)));
    let second = root.issue(leaf());
    fixture.put(&second);
    let Obtained::New(credential, _) = fixture.obtain(Some(&life)).await.unwrap() else {
        panic!("unchanged")
    };
    assert_eq!(credential.fingerprint(), second.fingerprint());
}

#[tokio::test]
async fn a_certificate_whose_key_has_not_come_yet_is_not_taken() {
    let mut fixture = Fixture::new();
    let root = Authority::root("root");
    fixture.put(&root.issue(leaf()));
    let life = fixture.first().await;
    let second = root.issue(leaf());
    fixture.put_certificate(&second);
    let refused = fixture.obtain(Some(&life)).await.unwrap_err();
    assert!(refused.to_string().contains("does not belong"), "{refused}");
    fixture.put(&second);
    assert!(matches!(fixture.obtain(Some(&life)).await.unwrap(), Obtained::New(..)));
}

#[tokio::test]
async fn an_older_certificate_does_not_come_back() {
    let mut fixture = Fixture::new();
    let root = Authority::root("root");
    let older = root.issue(leaf().valid(-3600..9000));
    // A shorter life is the owner's own wish.
    fixture.put(&root.issue(leaf().valid(-60..600)));
    let life = fixture.first().await;
    fixture.put(&older);
    let refused = fixture.obtain(Some(&life)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "what was obtained is refused: the certificate was issued before the one that serves"
    );
}

#[tokio::test]
async fn a_certificate_that_nobody_replaced_in_time_is_a_failure() {
    let mut fixture = Fixture::new();
    fixture.put(&Authority::root("root").issue(leaf().valid(-60..600)));
    let life = fixture.first().await;
    let later = now() + Duration::from_secs(601);
    let refused = fixture.source.obtain(Some(&life), later).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mut fixture = Fixture::new();
    let refused = fixture.obtain(None).await.unwrap_err();
    assert!(refused.is_configuration() && refused.to_string().contains("edge/certificate"), "{refused}");
}
