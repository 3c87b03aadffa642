//! What an address is to a limit.

use std::net::{IpAddr, Ipv6Addr};

/// The address as a limit counts it: IPv4 whole (also when it comes mapped into IPv6), IPv6 by its /64.
///
/// One IPv6 subscriber holds at least a /64 (RFC 6177), so that counting whole addresses would give one caller
/// 2^64 buckets.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
    }
}

const NETWORK: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_one_ipv6_network_share_a_bucket() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_the_same_caller() {
        assert_eq!(
            address_key("::ffff:192.0.2.1".parse().unwrap()),
            address_key("192.0.2.1".parse().unwrap())
        );
        assert_ne!(address_key("192.0.2.2".parse().unwrap()), address_key("192.0.2.1".parse().unwrap()));
    }
}
