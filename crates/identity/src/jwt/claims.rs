//! The claims of a token whose signature held.
