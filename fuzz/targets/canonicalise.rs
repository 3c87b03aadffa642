//! A path that has a canonical form has one only: it is its own canonical form, and holds nothing that a server behind
//! could read another way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::normalize::path::canonical_path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let Ok(canonical) = canonical_path(raw) else { return };
    let path = canonical.path.as_ref();
    assert!(path.starts_with('/'), "{raw:?} -> {path:?}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{raw:?} -> {path:?}");
    assert!(!path.contains("//") && !path.contains('\\'), "{raw:?} -> {path:?}");
    assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{raw:?} -> {path:?}");
    let again = canonical_path(path).unwrap_or_else(|error| panic!("{raw:?} -> {path:?} -> {error}"));
    assert_eq!(again.path, path, "from {raw:?}");
});
