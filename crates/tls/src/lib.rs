//! Credential store, accept, connect, verifiers, CRLs.
