//! Distinguished names as RFC 4514 writes them.
