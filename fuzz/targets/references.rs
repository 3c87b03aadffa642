//! A reference that is accepted reads again as it is shown, wherever it is read, and a path of Vault stays under its mount.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use secrets::Reference;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(reference) = Reference::parse(text, Path::new("/etc/portcullis")) else { return };
    let shown = reference.to_string();
    let again = Reference::parse(&shown, Path::new("/elsewhere"));
    assert_eq!(again.as_ref(), Ok(&reference), "{text:?} -> {shown:?}");
    if let Reference::Vault { store, path, field } = &reference {
        assert_eq!(text, format!("vault:{store}/{path}#{field}"));
        assert!(!store.contains(['/', '#']) && !path.contains(['?', '#', '%', '\\']), "{text:?}");
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{text:?}");
    }
});
