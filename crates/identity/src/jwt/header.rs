//! The protected header of a token.
