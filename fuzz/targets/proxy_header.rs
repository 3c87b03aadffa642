//! A PROXY protocol header is bounded, is there only when all of it is, and says the same whatever follows it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::connection::proxy_protocol::{MOST, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(parsed) = parse(bytes) else { return };
    let Some((passed, length)) = parsed else {
        assert!(bytes.len() < MOST, "endless");
        return;
    };
    assert!((1..=MOST).contains(&length) && length <= bytes.len());
    assert_eq!(parse(&bytes[..length]).ok().flatten(), Some((passed, length)), "what follows counts");
    for end in 0..length {
        assert!(matches!(parse(&bytes[..end]), Ok(None)), "a piece of {end} bytes is judged otherwise");
    }
});
