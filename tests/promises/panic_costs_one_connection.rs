//! A fault injected as a panic in one task costs one connection, and is counted.
