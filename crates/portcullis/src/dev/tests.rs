//! What `portcullis dev` makes: it works with the real gateway, and only its owner can read it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use super::*;
use crate::config;

#[expect(clippy::disallowed_methods, reason = "certificates that servers of today take")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn prepared(path: &std::path::Path, port: Option<u16>) -> Result<(Directory, Sample), DevError> {
    prepare(path, port, now())
}

#[test]
fn what_is_made_passes_the_check_of_the_real_gateway_without_a_warning() {
    let place = tempfile::tempdir().unwrap();
    let (directory, _) = prepared(place.path(), None).unwrap();
    let checked =
        config::load(&directory.path(sample::CONFIG), now()).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(checked.warnings.to_string(), "");
}

#[test]
fn keys_and_tokens_are_for_their_owner_only_and_git_ignores_them() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("dev");
    prepared(&path, None).unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let secret = name.ends_with(".key") || name.ends_with(".token");
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert!(!secret || mode == 0o600, "{name} has mode {mode:o}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
}

#[test]
fn a_second_start_keeps_the_authority_the_issuer_and_what_was_edited() {
    let place = tempfile::tempdir().unwrap();
    let (directory, _) = prepared(place.path(), None).unwrap();
    let kept = ["ca.pem", "ca.key", "issuer.key", "jwks.json", sample::CONFIG, "policies/example.cedar"];
    let read = || kept.map(|name| directory.read(name).unwrap());
    let edited = format!("{}# edited\n", directory.read(sample::CONFIG).unwrap().unwrap());
    directory.write(sample::CONFIG, &edited, directory::Readers::All).unwrap();
    let (before, leaf) = (read(), directory.read("localhost.pem").unwrap());
    prepared(place.path(), None).unwrap();
    assert_eq!(read(), before);
    assert_ne!(directory.read("localhost.pem").unwrap(), leaf, "leaves are issued anew");
}

#[test]
fn another_port_moves_everything_and_is_refused_where_a_configuration_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let (directory, sample) = prepared(place.path(), Some(LAST_PORT)).unwrap();
    let ports = [sample.edge.port(), sample.orders.port(), sample.reports.port()];
    assert_eq!(ports, [65531, 65532, 65533]);
    assert_eq!(sample.metrics.unwrap().port(), 65534);
    assert_eq!(sample.probes.unwrap().port(), 65535);
    let refused = prepared(place.path(), Some(9000)).unwrap_err();
    assert!(refused.to_string().contains("says port 65531, not 9000"), "{refused}");
    drop(directory);
}

#[test]
fn services_leave_this_machine_under_no_configuration() {
    let place = tempfile::tempdir().unwrap();
    let (directory, _) = prepared(place.path(), None).unwrap();
    let text = directory.read(sample::CONFIG).unwrap().unwrap().replace("127.0.0.1:8444", "192.0.2.1:8444");
    directory.write(sample::CONFIG, &text, directory::Readers::All).unwrap();
    let refused = prepared(place.path(), None).unwrap_err();
    assert!(refused.to_string().contains("no upstream `orders` on 127.0.0.1"), "{refused}");
}

#[test]
fn a_taken_port_is_named_with_what_wanted_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = Services::start(&[("orders", address)]).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("the service `orders` cannot listen on {address}: ")), "{refused}");
}
