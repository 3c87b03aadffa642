//! A key set from the network is read or refused, whatever it says.
#![no_main]

use identity::jwks::KeySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keys) = KeySet::parse(bytes) {
        let mut kids: Vec<_> = keys.kids().collect();
        assert_eq!(keys.is_empty(), keys.len() == 0);
        kids.sort_unstable();
        kids.dedup();
        assert!(kids.len() <= keys.len(), "a name means one key");
    }
});
