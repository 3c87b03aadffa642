//! Empty: the end-to-end tests are the test binary `promises`.
