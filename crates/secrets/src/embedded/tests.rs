use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

mod signing;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn opened(directory: &Path, opener: &Opener) -> Result<Embedded, StoreError> {
    Embedded::open("local", directory.to_owned(), opener.clone(), Arc::new(now))
}

fn text(store: &Embedded, name: &str) -> String {
    let reading = store.read(name).unwrap();
    assert_eq!(reading.fields.len(), 1);
    reading.fields["value"].expose_secret().to_owned()
}

/// A directory that is not there yet, and a key.
fn fresh() -> (tempfile::TempDir, PathBuf, Opener) {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("deep/secrets");
    (above, directory, Opener::Key(Opener::generate()))
}

#[test]
fn values_come_back_in_a_new_process_and_are_not_on_the_disk() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    assert!(!directory.exists() && store.names().unwrap().is_empty());
    let value = "canary \"quoted\"\n\\ größe \u{1f511}\n";
    store.write("grafana/token", &value.into()).unwrap();
    store.write("b", &"2".into()).unwrap();
    store.write("b", &"3".into()).unwrap();
    let again = opened(&directory, &key).unwrap();
    assert_eq!((text(&again, "grafana/token"), text(&again, "b")), (value.to_owned(), "3".to_owned()));
    assert_eq!(again.names().unwrap(), ["b", "grafana/token"]);
    let file = fs::read(directory.join("store")).unwrap();
    let (line, body) = sealed::split(&file).unwrap();
    assert!(line.starts_with(b"portcullis-store/1 {"), "{}", line.escape_ascii());
    for hidden in ["grafana", "canary", "Y2FuYXJ5"] {
        assert!(!body.windows(hidden.len()).any(|part| part == hidden.as_bytes()), "{hidden} is on the disk");
    }
}

#[test]
fn another_handle_s_writes_are_seen_at_once() {
    let (_above, directory, key) = fresh();
    let (one, two) = (opened(&directory, &key).unwrap(), opened(&directory, &key).unwrap());
    one.write("a", &"1".into()).unwrap();
    assert_eq!(text(&two, "a"), "1");
    two.write("a", &"2".into()).unwrap();
    assert_eq!(text(&one, "a"), "2");
    assert!(one.remove("a").unwrap() && !one.remove("a").unwrap());
    assert_eq!(two.read("a").unwrap_err().to_string(), "store `local`: there is no value `a`");
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let (_above, directory, key) = fresh();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (directory, key) = (&directory, &key);
            scope.spawn(move || {
                let store = opened(directory, key).unwrap();
                for number in 0..10 {
                    store.write(&format!("{writer}/{number}"), &"x".into()).unwrap();
                }
            });
        }
    });
    assert_eq!(opened(&directory, &key).unwrap().names().unwrap().len(), 40);
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_nothing_else_does() {
    let (_above, directory, key) = fresh();
    let passphrase = Opener::Passphrase("correct horse".into());
    opened(&directory, &passphrase).unwrap().write("a", &"1".into()).unwrap();
    assert_eq!(text(&opened(&directory, &passphrase).unwrap(), "a"), "1");
    let said = |opener: &Opener| opened(&directory, opener).unwrap_err().to_string();
    assert!(said(&Opener::Passphrase("wrong".into())).ends_with("is sealed with another key or passphrase"));
    assert!(said(&key).ends_with("is sealed with a passphrase, not with a key"));
    assert!(said(&Opener::Passphrase("".into())).ends_with("the store's passphrase cannot be used"));
}

#[test]
fn a_wrong_key_is_told_and_changes_nothing() {
    let (_above, directory, key) = fresh();
    opened(&directory, &key).unwrap().write("a", &"1".into()).unwrap();
    let before = fs::read(directory.join("store")).unwrap();
    let file = directory.join("store").display().to_string();
    let said = |opener: Opener| opened(&directory, &opener).unwrap_err().to_string();
    assert_eq!(
        said(Opener::Key(Opener::generate())),
        format!("store `local`: `{file}` is sealed with another key or passphrase")
    );
    assert!(said(Opener::Passphrase("x".into())).ends_with("is sealed with a key, not with a passphrase"));
    for form in ["", "c2hvcnQ=", "not base64 at all"] {
        assert_eq!(
            said(Opener::Key(form.into())),
            "store `local`: the store's key is not 32 bytes in base64"
        );
    }
    assert_eq!(fs::read(directory.join("store")).unwrap(), before);
}

#[test]
fn no_flipped_bit_and_no_cut_is_read_or_written_over() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    store.write("a", &"1".into()).unwrap();
    let path = directory.join("store");
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 1;
        for damaged in [&flipped[..], &whole[..position]] {
            fs::write(&path, damaged).unwrap();
            assert!(opened(&directory, &key).is_err(), "byte {position}");
            assert!(store.write("b", &"2".into()).is_err(), "byte {position}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(text(&store, "a"), "1");
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let (_above, directory, key) = fresh();
    opened(&directory, &key).unwrap().write("a", &"1".into()).unwrap();
    let path = directory.join("store");
    let whole = fs::read(&path).unwrap();
    let said = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        opened(&directory, &key).unwrap_err().to_string()
    };
    let newer = String::from_utf8_lossy(&whole[..19]).replace("/1 ", "/2 ") + "{\"new\":true}\n";
    assert!(said(newer.as_bytes()).ends_with("has format 2; this program knows format 1"));
    assert!(said(b"-----BEGIN CERTIFICATE-----\n").ends_with("is no store of secrets"));
    assert!(said(b"portcullis-store/1 {\"unknown\":1}\n").ends_with("has a first line that cannot be used"));
    assert!(said(&whole[..whole.len() - 1]).contains("is damaged or cut off"));
}

#[test]
fn a_first_line_cannot_make_its_reader_work_for_hours() {
    let (_above, directory, _) = fresh();
    fs::create_dir_all(&directory).unwrap();
    for (iterations, kibibytes) in [(u32::MAX, 8), (3, u32::MAX), (0, 0)] {
        let line = format!(
            "portcullis-store/1 {{\"key_id\":\"\",\"argon2i\":{{\"iterations\":{iterations},\"kibibytes\":{kibibytes},\
             \"salt\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}}}}\nrest"
        );
        fs::write(directory.join("store"), line).unwrap();
        let error = opened(&directory, &Opener::Passphrase("x".into())).unwrap_err().to_string();
        assert!(error.ends_with("has a first line that cannot be used"), "{error}");
    }
}

#[test]
fn a_store_that_vanishes_is_not_made_anew() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    store.write("a", &"1".into()).unwrap();
    let authority = store.authorities().unwrap();
    fs::rename(&directory, directory.with_extension("away")).unwrap();
    for error in [
        store.read("a").unwrap_err(),
        store.authorities().unwrap_err(),
        store.write("a", &"2".into()).unwrap_err(),
    ] {
        assert!(error.to_string().ends_with("is gone"), "{error}");
    }
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(directory.with_extension("away"), &directory).unwrap();
    assert_eq!(store.authorities().unwrap(), authority);
}

#[test]
fn a_write_that_fails_half_way_leaves_the_former_values() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    store.write("a", &"1".into()).unwrap();
    fs::create_dir(directory.join("store.new")).unwrap();
    assert!(store.write("a", &"2".into()).is_err() && store.remove("a").is_err());
    assert_eq!(text(&store, "a"), "1");
    fs::remove_dir(directory.join("store.new")).unwrap();
    fs::write(
        directory.join("store.new"),
        "what a crash left, longer than the whole file will be".repeat(20),
    )
    .unwrap();
    store.write("a", &"3".into()).unwrap();
    assert_eq!(text(&opened(&directory, &key).unwrap(), "a"), "3");
}

#[test]
fn a_store_is_created_once() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    store.create().unwrap();
    store.write("a", &"1".into()).unwrap();
    assert_eq!(store.create().unwrap_err().cause, Cause::Conflict);
    let other = Opener::Key(Opener::generate());
    assert!(opened(&directory, &other).is_err());
    assert_eq!(text(&store, "a"), "1");
}

#[test]
fn only_the_owner_can_read_the_files_and_nobody_else_may_write_the_directory() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    store.write("a", &"1".into()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    for open in [0o770, 0o702] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(open)).unwrap();
        let error = opened(&directory, &key).unwrap_err().to_string();
        assert!(error.contains("can be written by others; `chmod go-w` it"), "{error}");
        assert!(store.read("a").is_err() && store.write("a", &"2".into()).is_err());
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(text(&store, "a"), "1");
}

#[test]
fn names_and_values_that_no_reference_could_mean_are_refused() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    for name in ["", "a b", "../a", "a//b", "a#b", "ä"] {
        assert!(matches!(store.write(name, &"1".into()).unwrap_err().cause, Cause::Refused(_)), "{name}");
    }
    for value in [String::new(), "x".repeat(LARGEST + 1)] {
        assert!(matches!(store.write("a", &value.into()).unwrap_err().cause, Cause::Refused(_)));
    }
    store.write("a", &"x".repeat(LARGEST).into()).unwrap();
    assert_eq!(text(&store, "a").len(), LARGEST);
    assert!(!directory.join("store.new").exists());
}

#[test]
fn nothing_of_the_store_is_shown_for_debugging() {
    let (_above, directory, _) = fresh();
    let key = Opener::generate();
    let store = opened(&directory, &Opener::Key(key.clone())).unwrap();
    store.write("a", &"canary".into()).unwrap();
    let shown = format!("{store:?} {:?} {:?}", Opener::Key(key.clone()), store.read("a"));
    assert!(!shown.contains(key.expose_secret()) && !shown.contains("canary"), "{shown}");
}

#[test]
fn a_link_in_the_place_of_its_own_files_leads_nowhere() {
    let (above, directory, key) = fresh();
    opened(&directory, &key).unwrap().write("a", &"1".into()).unwrap();
    let victim = above.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, directory.join("store.new")).unwrap();
    opened(&directory, &key).unwrap().write("a", &"2".into()).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    assert_eq!(text(&opened(&directory, &key).unwrap(), "a"), "2");
    assert!(fs::symlink_metadata(directory.join("store")).unwrap().is_file());

    fs::hard_link(&victim, directory.join("store.new")).unwrap();
    opened(&directory, &key).unwrap().write("a", &"3".into()).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");

    fs::remove_file(directory.join("lock")).unwrap();
    std::os::unix::fs::symlink(above.path().join("made"), directory.join("lock")).unwrap();
    let refused = opened(&directory, &key).unwrap().write("a", &"4".into()).unwrap_err();
    assert!(refused.to_string().contains("it is a link"), "{refused}");
    assert!(!above.path().join("made").exists());
}
