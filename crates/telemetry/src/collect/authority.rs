//! Leases that ended early, and the deny list.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{count_with, counter, gauge};
use crate::metrics::{Series, lock};

pub(super) fn authority(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut metric = counter(
        encoder,
        "portcullis_leases_ended",
        "Answers cut short because their authority ended, by why",
    )?;
    for (why, count) in series.leases_ended.sums() {
        count_with(&mut metric, &[("why", why)], count)?;
    }
    let mut metric = gauge(encoder, "portcullis_deny_entries", "Entries of the deny list, by source")?;
    for (source, entries) in lock(&series.deny_entries).iter() {
        metric.encode_family(&[("source", *source)])?.encode_gauge(entries)?;
    }
    let mut metric = counter(
        encoder,
        "portcullis_deny_hits",
        "Requests, handshakes and connections that the deny list refused, by what it names",
    )?;
    for (by, count) in series.deny_hits.sums() {
        count_with(&mut metric, &[("by", by)], count)?;
    }
    Ok(())
}
