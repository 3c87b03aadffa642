use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn parsed(text: &str) -> Result<Reference, ReferenceError> {
    Reference::parse(text, Path::new("/etc/portcullis"))
}

/// A file with this content, read.
fn read(content: &[u8]) -> Result<String, StoreError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let reading = read_local(&Reference::File { path: file.path().to_owned() }, None)?;
    assert_eq!(reading.fields.len(), 1);
    Ok(reading.fields[VALUE].expose_secret().to_owned())
}

#[test]
fn each_kind_is_read_into_its_parts() {
    let vault = parsed("vault:main/kv/edge/tls#certificate").unwrap();
    assert_eq!((vault.store(), vault.path().as_str(), vault.field()), ("main", "kv/edge/tls", "certificate"));
    let embedded = parsed("embedded:grafana/token").unwrap();
    assert_eq!(
        (embedded.store(), embedded.path().as_str(), embedded.field()),
        ("embedded", "grafana/token", VALUE)
    );
    assert_eq!(parsed("env:VAULT_TOKEN").unwrap(), Reference::Env { name: "VAULT_TOKEN".to_owned() });
    for (text, path) in [("file:key", "/etc/portcullis/key"), ("file:/run/key", "/run/key")] {
        assert_eq!(parsed(text).unwrap(), Reference::File { path: path.into() });
    }
}

#[test]
fn what_is_no_reference_is_refused_with_its_form_and_not_quoted() {
    for (text, error) in [
        ("hunter2", ReferenceError::Unknown),
        ("https://user:hunter2@vault", ReferenceError::Unknown),
        ("Vault:main/kv/a#b", ReferenceError::Unknown),
        ("vault:main/kv/a", ReferenceError::Vault),
        ("vault:main#a", ReferenceError::Vault),
        ("vault:/kv/a#b", ReferenceError::Vault),
        ("vault:main/kv/../sys/seal#b", ReferenceError::Vault),
        ("vault:main/kv//a#b", ReferenceError::Vault),
        ("vault:main/kv/a?version=1#b", ReferenceError::Vault),
        ("vault:main/kv/%2e%2e/a#b", ReferenceError::Vault),
        ("vault:main/kv/a#", ReferenceError::Vault),
        ("vault:main/kv/a#b c", ReferenceError::Vault),
        ("embedded:", ReferenceError::Embedded),
        ("embedded:/a", ReferenceError::Embedded),
        ("embedded:a/../b", ReferenceError::Embedded),
        ("file:", ReferenceError::File),
        ("file:a\0b", ReferenceError::File),
        ("env:", ReferenceError::Env),
        ("env:A-B", ReferenceError::Env),
        ("env:A=B", ReferenceError::Env),
    ] {
        assert_eq!(parsed(text), Err(error), "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn a_file_loses_one_line_end_and_nothing_else() {
    for (content, value) in [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("secret\n\n", "secret\n"),
        (" secret \r", " secret \r"),
        ("one\ntwo\n", "one\ntwo"),
    ] {
        assert_eq!(read(content.as_bytes()).unwrap(), value, "{content:?}");
    }
}

#[test]
fn a_file_without_a_value_is_absent() {
    for content in ["", "\n", "\r\n"] {
        let error = read(content.as_bytes()).unwrap_err();
        assert!(matches!(error.cause, Cause::Absent(_)), "{content:?}: {error}");
    }
    let error = read_local(&parsed("file:/nowhere/at/all").unwrap(), None).unwrap_err();
    assert_eq!(error.to_string(), "store `file`: there is no file `/nowhere/at/all`");
}

#[test]
fn a_file_that_is_no_secret_is_refused_and_not_quoted() {
    let error = read(b"canary \xff").unwrap_err().to_string();
    assert!(error.ends_with("is not UTF-8 text") && !error.contains("canary"), "{error}");
    assert_eq!(read(&[b'x'; LARGEST]).unwrap().len(), LARGEST);
    let error = read(&[b'x'; LARGEST + 1]).unwrap_err().to_string();
    assert!(error.ends_with("is larger than 1048576 bytes"), "{error}");
    for path in ["/", "/dev/null"] {
        let error = read_local(&Reference::File { path: path.into() }, None).unwrap_err().to_string();
        assert_eq!(error, format!("store `file`: file `{path}` is no regular file"));
    }
}

#[test]
fn a_pipe_without_a_writer_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = read_local(&Reference::File { path }, None).unwrap_err().to_string();
    assert!(error.ends_with("is no regular file"), "{error}");
}

#[test]
fn a_variable_that_is_empty_or_no_text_is_told_apart() {
    let value =
        |value: Option<&[u8]>| variable("NAME", value.map(|bytes| OsString::from_vec(bytes.to_vec())));
    assert_eq!(value(Some(b"secret\n")).unwrap().expose_secret(), "secret\n");
    assert_eq!(value(None).unwrap_err().to_string(), "there is no variable `NAME`");
    assert_eq!(
        value(Some(b"")).unwrap_err().to_string(),
        "there is no value in variable `NAME`: it is empty"
    );
    assert_eq!(value(Some(b"\xff")).unwrap_err().to_string(), "variable `NAME` is not UTF-8 text");
    assert!(
        !read_local(&parsed("env:PATH").unwrap(), None).unwrap().fields[VALUE].expose_secret().is_empty()
    );
}

#[test]
fn a_reference_into_a_store_is_neither_file_nor_variable() {
    let error = read_local(&parsed("embedded:a").unwrap(), None).unwrap_err();
    assert!(matches!(error.cause, Cause::Refused(_)), "{error}");
}

#[test]
fn only_fields_at_one_path_share_a_reading_whatever_a_store_is_called() {
    let shares = |one: &str, other: &str| parsed(one).unwrap().shares_reading(&parsed(other).unwrap());
    assert!(shares("vault:main/kv/a#user", "vault:main/kv/a#password"));
    assert!(!shares("vault:main/kv/a#user", "vault:main/kv/b#user"));
    assert!(!shares("vault:main/kv/a#user", "vault:other/kv/a#user"));
    assert!(shares("env:NAME", "env:NAME"));
    assert!(!shares("vault:env/NAME#value", "env:NAME"));
    assert!(!shares("vault:embedded/a/b#value", "embedded:a/b"));
}

proptest! {
    #[test]
    fn a_reference_reads_again_as_it_is_shown(
        text in prop_oneof![
            "vault:[a-z0-9._-]{1,8}(/[^/\u{0}-\u{20}]{1,6}){1,3}#[^#\u{0}-\u{20}]{1,8}",
            "embedded:[A-Za-z0-9._/-]{1,16}",
            "file:[^\u{0}]{1,16}",
            "env:[A-Za-z0-9_]{1,8}",
            ".{0,32}",
        ]
    ) {
        if let Ok(reference) = parsed(&text) {
            let shown = reference.to_string();
            prop_assert_eq!(Reference::parse(&shown, Path::new("/elsewhere")), Ok(reference), "{:?}", shown);
        }
    }

    #[test]
    fn every_text_is_read_or_refused(text in any::<String>()) {
        let _ = parsed(&text);
    }
}
