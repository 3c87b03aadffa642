//! Whatever a server answers to a request of the Vault API, it is used or refused: no panic, no memory beyond its measure.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = secrets::vault::read_as_everything(bytes);
});
