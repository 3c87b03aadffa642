//! JSON in which a member name stands once.
