//! Which of several upstreams a request goes to: by the value of a field, else by weight.
//!
//! A weight is a share of all requests, or, where the split is sticky, of all callers: then one caller stays on one side, on
//! every core, after every restart and on every gateway with the same split. As the weight of the last upstream grows, callers
//! only move towards it.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use identity::PrincipalId;

use crate::limits::Network;
use crate::upstream::Upstream;

/// Where a route forwards to.
#[derive(Debug)]
pub enum Target {
    /// Always there.
    One(Arc<Upstream>),
    /// To one of several.
    Split(Box<Split>),
}

/// Upstreams by weight.
#[derive(Debug)]
pub struct Split {
    when: Vec<When>,
    first: Arc<Upstream>,
    others: Vec<Arc<Upstream>>,
    shares: Shares,
    sticky: Option<Sticky>,
}

/// How large the share of each side is, the first one's aside, which has the rest.
#[derive(Debug)]
struct Shares {
    /// The first point of each other share, of all points from 0 to 2^64.
    starts: Vec<u64>,
    /// Of the names alone: a caller stays where he is while weights change, and another split meets other callers.
    salt: u64,
}

/// Requests with this value of a field go to this upstream, whatever the weights.
#[derive(Debug)]
pub struct When {
    /// The field.
    pub name: HeaderName,
    /// Its only value.
    pub value: HeaderValue,
    /// Where to.
    pub upstream: Arc<Upstream>,
}

/// By what callers are told apart that stay on one side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sticky {
    /// The client's address; an IPv6 client is its /64.
    Address,
    /// The principal's id.
    Principal,
}

impl Target {
    /// The upstream of one request; `chance` is any number.
    pub(crate) fn choose(
        &self,
        headers: &HeaderMap,
        principal: &PrincipalId,
        client: IpAddr,
        chance: impl FnOnce() -> u64,
    ) -> &Arc<Upstream> {
        match self {
            Self::One(upstream) => upstream,
            Self::Split(split) => split.named(headers).unwrap_or_else(|| {
                let point = match split.sticky {
                    None => chance(),
                    Some(Sticky::Address) => split.shares.point(Network::of(client)),
                    Some(Sticky::Principal) => split.shares.point(principal),
                };
                let others = split.shares.side(point).checked_sub(1);
                others.and_then(|place| split.others.get(place)).unwrap_or(&split.first)
            }),
        }
    }
}

impl Split {
    /// Shares in proportion to the weights, in their order; `None` without any.
    #[must_use]
    pub fn new(weights: Vec<(Arc<Upstream>, u32)>, when: Vec<When>, sticky: Option<Sticky>) -> Option<Self> {
        let shares = Shares::new(weights.iter().map(|(upstream, weight)| (&*upstream.name, *weight)));
        let mut upstreams = weights.into_iter().map(|(upstream, _)| upstream);
        Some(Self { when, first: upstreams.next()?, others: upstreams.collect(), shares, sticky })
    }

    fn named(&self, headers: &HeaderMap) -> Option<&Arc<Upstream>> {
        let is_so = |when: &&When| {
            let mut values = headers.get_all(&when.name).iter();
            values.next() == Some(&when.value) && values.next().is_none()
        };
        self.when.iter().find(is_so).map(|when| &when.upstream)
    }
}

impl Shares {
    fn new<'a>(weights: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let total: u128 = weights.clone().map(|(_, weight)| u128::from(weight)).sum();
        let mut salt = Fnv::default();
        let (mut starts, mut before) = (Vec::new(), 0_u128);
        for (place, (name, weight)) in weights.enumerate() {
            let _ = write!(salt, "{name}/");
            if place > 0 {
                starts.push(u64::try_from((before << 64) / total.max(1)).unwrap_or(u64::MAX));
            }
            before += u128::from(weight);
        }
        Self { starts, salt: salt.0 }
    }

    /// Where a caller is among all.
    fn point(&self, caller: impl fmt::Display) -> u64 {
        let mut hash = Fnv(self.salt);
        // Writing into a hash does not fail.
        let _ = write!(hash, "{caller}");
        hash.mixed()
    }

    /// Whose share a point is in: 0 is the first one's.
    fn side(&self, point: u64) -> usize {
        self.starts.partition_point(|start| *start <= point)
    }
}

/// FNV-1a: unlike the hash of the standard library it is the same tomorrow and elsewhere.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

impl Fnv {
    /// Every bit of it depends on every bit of the hash (the last step of `MurmurHash3`): shares are cut by the upper ones.
    const fn mixed(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32]) -> Shares {
        Shares::new(["stable", "next", "third"].into_iter().zip(weights.iter().copied()))
    }

    /// How many of 10,000 callers are on each side.
    fn counted(shares: &Shares) -> [u32; 3] {
        let mut counts = [0; 3];
        (0..10_000).for_each(|n| counts[shares.side(shares.point(format_args!("caller-{n}")))] += 1);
        counts
    }

    #[test]
    fn callers_are_shared_out_as_the_weights_say() {
        let [stable, next, third] = counted(&shares(&[90, 5, 5]));
        assert!(stable.abs_diff(9_000) < 150 && next.abs_diff(500) < 100 && third.abs_diff(500) < 100);
        assert_eq!(counted(&shares(&[1])), [10_000, 0, 0]);
    }

    #[test]
    fn the_edges_of_all_points_belong_to_the_first_and_the_last() {
        let even = shares(&[1, 1]);
        assert_eq!([0, (1 << 63) - 1, 1 << 63, u64::MAX].map(|point| even.side(point)), [0, 0, 1, 1]);
    }

    proptest::proptest! {
        #[test]
        fn a_caller_moves_only_towards_the_upstream_whose_share_grows(
            caller in "[a-z]{1,12}", weight in 1..100_u32, more in 0..100_u32,
        ) {
            let side = |weight| {
                let shares = shares(&[100, weight]);
                shares.side(shares.point(&caller))
            };
            proptest::prop_assert!(side(weight) <= side(weight + more));
        }

        #[test]
        fn another_caller_of_the_same_name_is_on_the_same_side_tomorrow(caller in "[a-z]{1,12}") {
            let point = || shares(&[95, 5]).point(&caller);
            proptest::prop_assert_eq!(point(), point());
        }
    }
}
