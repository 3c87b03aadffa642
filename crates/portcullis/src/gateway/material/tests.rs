//! What a look takes and what it leaves alone. The end-to-end side is promise 11.

use crate::gateway::stores::Tasks;
use std::fs;
use std::path::Path;

use super::*;
use crate::config::model::FileReference;
use crate::config::{Span, load};
use crate::gateway::generation::{Living, Surroundings};
use crate::gateway::wall_clock;

struct Bench {
    directory: tempfile::TempDir,
    living: Living,
    watch: Watch,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

impl Bench {
    /// A gateway with one certificate, as it is after its start.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_pair(directory.path(), &pair());
        let text = "version: 1
listeners: { edge: { bind: 127.0.0.1:0, tls: { certificates: [edge] } } }
certificates: { edge: { files: { certificate: edge.pem, key: edge.key } } }
routes: [{ name: all, on: [edge], path: /**, authenticate: none, respond: { status: 200 } }]
";
        fs::write(directory.path().join("portcullis.yaml"), text).unwrap();
        let checked = load(&directory.path().join("portcullis.yaml"), wall_clock()).unwrap();
        let metrics = Metrics::new(1);
        let around = Surroundings {
            generation: 1,
            metrics: &metrics,
            addresses: &BTreeMap::new(),
            stores: &BTreeMap::new(),
            names: &BTreeMap::new(),
            tasks: &Tasks::default(),
            rules: None,
        };
        let (_, living) = Living::default().next(&checked.config, checked.engine, &around).unwrap();
        living.publish(&checked.material, &metrics, wall_clock());
        Self { directory, living, watch: Watch::default(), metrics, readiness: Readiness::new() }
    }

    fn look(&mut self) -> bool {
        let tell = Tell { metrics: &self.metrics, readiness: &self.readiness, now: wall_clock() };
        self.watch.look(&self.living, &tell)
    }

    fn serial(&self) -> String {
        self.living.certificates["edge"].reader().load().unwrap().serial().to_owned()
    }

    fn degraded(&self) -> Vec<String> {
        self.readiness.report().degraded.into_values().collect()
    }
}

fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write_pair(directory: &Path, (certificate, key): &(String, String)) {
    fs::write(directory.join("edge.pem"), certificate).unwrap();
    fs::write(directory.join("edge.key"), key).unwrap();
}

#[test]
fn a_new_pair_is_taken_when_two_looks_find_the_same() {
    let mut bench = Bench::new();
    let before = bench.serial();
    assert!(!bench.look());
    write_pair(bench.directory.path(), &pair());
    assert!(bench.look(), "it may still be changing");
    assert_eq!(bench.serial(), before);
    assert!(!bench.look());
    assert_ne!(bench.serial(), before);
    assert!(bench.degraded().is_empty());
}

#[test]
fn a_certificate_without_its_key_changes_nothing_until_the_key_comes() {
    let mut bench = Bench::new();
    let before = bench.serial();
    let (certificate, key) = pair();
    fs::write(bench.directory.path().join("edge.pem"), certificate).unwrap();
    bench.look();
    bench.look();
    assert_eq!(bench.serial(), before);
    assert_eq!(bench.degraded().len(), 1);
    fs::write(bench.directory.path().join("edge.key"), key).unwrap();
    bench.look();
    bench.look();
    assert_ne!(bench.serial(), before);
    assert!(bench.degraded().is_empty());
}

#[test]
fn files_that_are_gone_or_cut_short_leave_what_was_loaded() {
    let mut bench = Bench::new();
    let before = bench.serial();
    let path = bench.directory.path().join("edge.pem");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.get(..whole.len() / 2).unwrap()).unwrap();
    bench.look();
    bench.look();
    assert_eq!((bench.serial(), bench.degraded().len()), (before.clone(), 1));
    fs::remove_file(&path).unwrap();
    bench.look();
    assert_eq!((bench.serial(), bench.degraded().len()), (before.clone(), 1));
    fs::write(&path, whole).unwrap();
    bench.look();
    assert_eq!((bench.serial(), bench.degraded().len()), (before, 0), "what lies there is what serves again");
}

#[test]
fn a_failure_quotes_nothing_of_the_files() {
    let mut bench = Bench::new();
    let canary = concat!("-----BEGIN ", "PRIVATE KEY-----\ncanary\n-----END ", "PRIVATE KEY-----\n");
    fs::write(bench.directory.path().join("edge.key"), canary).unwrap();
    bench.look();
    bench.look();
    let said = bench.degraded();
    assert!(said.len() == 1 && !said[0].contains("canary"), "{said:?}");
    let missing =
        KeyFile(FileReference { path: bench.directory.path().join("none.json"), span: Span::default() });
    let errors = Bytes::read(&missing).err().unwrap();
    assert!(errors[0].to_string().contains("none.json"));
}
