//! An authority that is accepted has one reading: lower case, no user, and it reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::normalize::authority::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(authority) = parse(text) else { return };
    let host = authority.host.as_ref();
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} -> {host:?}");
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()), "{text:?} -> {host:?}");
    assert!(!host.contains(['@', '/', '\\', '?', '#', '%', ',']), "{text:?} -> {host:?}");
    let again = parse(host).unwrap_or_else(|error| panic!("{text:?} -> {host:?} -> {error}"));
    assert_eq!(again.host, host, "from {text:?}");
});
