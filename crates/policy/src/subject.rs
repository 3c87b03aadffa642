//! A principal as Cedar sees it, built once per verified proof.

use identity::Principal;

/// A principal's entities. Build it once, keep it beside the verified token or with the connection in an `Arc`.
#[derive(Debug)]
pub struct Subject {
    principal: Principal,
}

impl Subject {
    /// The subject of `principal`. Cheap enough for a handshake, too dear for every request.
    #[must_use]
    pub fn new(principal: &Principal) -> Self {
        Self { principal: principal.clone() }
    }

    /// The principal that this was made from.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }
}
