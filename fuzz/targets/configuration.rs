//! Any text is a configuration or a list of problems, never both and never neither; every problem has a place in it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::config::read;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.lines().count().max(1);
    let (config, problems) = read("fuzz.yaml", text.to_owned(), Path::new("/nonexistent"));
    assert_eq!(config.is_some(), problems.errors() == 0, "{problems}");
    for problem in problems.iter() {
        assert!((1..=lines + 1).contains(&problem.place.line), "{problem} of {lines} lines");
    }
    assert!(problems.json().is_object() || problems.json().is_array());
    assert_eq!(problems.fancy().is_empty(), problems.is_empty());
    assert_eq!(problems.to_string().is_empty(), problems.is_empty());
});
