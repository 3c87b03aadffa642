//! Requests that belong together go to the same endpoint: rendezvous hashing.
//!
//! Every endpoint is weighed against the key and the heaviest is asked. When one leaves, only what it had moves; when one comes, it
//! takes its share from all others and nothing else moves. The numbers depend on nothing but names: all cores and all gateways
//! with the same endpoints choose the same one.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use http::HeaderName;
use identity::PrincipalKind;

use super::Origin;
use crate::forward::Outgoing;

/// What keeps requests together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// Who calls; for callers without a name, their address.
    Principal,
    /// The value of a field of the request, as it is forwarded.
    Field(HeaderName),
}

impl HashKey {
    /// The key of a request; none if the field is not there, or there more than once.
    pub(super) fn of(&self, origin: Origin<'_>, request: &Outgoing) -> Option<u64> {
        match self {
            Self::Address => Some(address(origin.addresses.client.ip())),
            Self::Principal => Some(caller(origin)),
            Self::Field(name) => request.one(name).map(|value| hash(value.as_bytes())),
        }
    }
}

/// A number for who calls; for those without a name, for where from.
pub(super) fn caller(origin: Origin<'_>) -> u64 {
    if origin.principal.id.kind() == PrincipalKind::Anonymous {
        return address(origin.addresses.client.ip());
    }
    let mut hash = Fnv::default();
    // Writing to it does not fail.
    let _written = write!(hash, "{}", origin.principal.id);
    scattered(hash.0)
}

/// A number for a name.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.add(bytes);
    scattered(hash.0)
}

fn address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()),
    }
}

/// How much the endpoint of this number weighs for this key, between 0 and 1. With a `share` below 1 it wins that much
/// less often, and what it wins at a smaller share it also wins at a larger one.
pub(super) fn weight(key: u64, endpoint: u64, share: f64) -> f64 {
    let by_chance = fraction(scattered(key ^ endpoint.rotate_left(32)));
    if share >= 1.0 { by_chance } else { by_chance.powf(share.recip()) }
}

/// A number as good as by chance (the finaliser of splitmix64).
pub(super) const fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Evenly between 0 and 1.
pub(super) fn fraction(scattered: u64) -> f64 {
    (scattered >> 11) as f64 / (1_u64 << 53) as f64
}

/// FNV-1a: short names, and the same number everywhere and for ever.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::{HeaderValue, Request};
    use identity::Principal;

    use super::*;
    use crate::addresses::Addresses;
    use crate::body::RequestBody;

    #[test]
    fn keys_are_who_where_or_what_a_field_says_once() {
        let nobody = Principal::anonymous();
        let origin = |address: &str| {
            let client = SocketAddr::new(address.parse().unwrap(), 1);
            Origin { principal: &nobody, addresses: Addresses::new(client, client) }
        };
        let none = Outgoing { request: Request::new(RequestBody::empty()), own: None };
        let of = |key: &HashKey, from: &str| key.of(origin(from), &none);
        assert_eq!(of(&HashKey::Address, "10.0.0.1"), of(&HashKey::Address, "::ffff:10.0.0.1"));
        assert_ne!(of(&HashKey::Address, "10.0.0.1"), of(&HashKey::Address, "10.0.0.2"));
        assert_ne!(
            of(&HashKey::Principal, "10.0.0.1"),
            of(&HashKey::Principal, "10.0.0.2"),
            "nobody is many"
        );
        let field = HashKey::Field(HeaderName::from_static("x-tenant"));
        assert_eq!(of(&field, "10.0.0.1"), None);
        let mut fields = Outgoing { request: Request::new(RequestBody::empty()), own: None };
        fields.request.headers_mut().append("x-tenant", HeaderValue::from_static("a"));
        let one = field.of(origin("10.0.0.1"), &fields);
        assert_eq!((one, one.is_some()), (field.of(origin("10.0.0.9"), &fields), true));
        fields.request.headers_mut().append("x-tenant", HeaderValue::from_static("b"));
        assert_eq!(field.of(origin("10.0.0.1"), &fields), None);
    }

    #[test]
    fn the_numbers_are_the_same_for_ever() {
        // A gateway of another version beside this one must choose the same.
        assert_eq!(hash(b"orders-1:8443"), 0xd151_a780_8f5b_28ec);
    }
}
