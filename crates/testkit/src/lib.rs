//! Test CA, issuers, upstreams, launchers of real servers, log capture; for tests only.
