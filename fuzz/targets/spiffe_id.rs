//! A SPIFFE id that is accepted is exactly its trust domain and its path, within the lengths of the specification.
#![no_main]

use identity::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(id) = SpiffeId::parse(text) else {
        assert!(SpiffeId::parse_workload(text).is_err(), "a workload's id is an id: {text:?}");
        return;
    };
    assert_eq!(id.as_str(), text, "nothing is rewritten");
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    assert!(text.len() <= 2048 && id.trust_domain().len() <= 255);
    assert!(!id.path().contains("//") && !id.path().ends_with('/') && !id.path().contains('%'));
    assert_eq!(SpiffeId::parse_workload(text).is_ok(), id.is_workload());
});
