//! What a scrape reads of upstreams and their endpoints.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;

use super::{count_with, counter, gauge, held};
use crate::metrics::{Series, lock};
use crate::series::UpstreamSeries;

pub(super) fn upstreams(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let upstreams = held(&series.upstreams);
    let mut metric = counter(encoder, "portcullis_upstream_connects", "Attempts to connect, by result")?;
    for (upstream, results) in &upstreams {
        for (result, count) in results.connects.sums() {
            count_with(&mut metric, &[("upstream", upstream.as_str()), ("result", result)], count)?;
        }
    }
    let mut metric = counter(encoder, "portcullis_upstream_requests", "Requests sent, by result")?;
    for (upstream, results) in &upstreams {
        for (result, count) in results.requests.sums() {
            count_with(&mut metric, &[("upstream", upstream.as_str()), ("result", result)], count)?;
        }
    }
    endpoints(&upstreams, encoder)
}

fn endpoints(
    upstreams: &[(String, Arc<UpstreamSeries>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut metric = counter(encoder, "portcullis_upstream_retries", "Requests sent again, by reason")?;
    for (upstream, series) in upstreams {
        for (reason, count) in series.retries.sums() {
            count_with(&mut metric, &[("upstream", upstream.as_str()), ("reason", reason)], count)?;
        }
    }
    let mut metric = counter(
        encoder,
        "portcullis_upstream_retries_over_budget",
        "Requests not sent again because too many were",
    )?;
    for (upstream, series) in upstreams {
        count_with(&mut metric, &[("upstream", upstream.as_str())], series.over_budget.sum())?;
    }
    let mut metric = counter(encoder, "portcullis_upstream_ejections", "Endpoints left out after failures")?;
    for (upstream, series) in upstreams {
        count_with(&mut metric, &[("upstream", upstream.as_str())], series.ejections.sum())?;
    }
    let mut metric =
        gauge(encoder, "portcullis_upstream_endpoint_healthy", "1 while an endpoint is not left out")?;
    for (upstream, series) in upstreams {
        let endpoints = lock(&series.endpoints);
        for (endpoint, is_usable) in endpoints.iter() {
            metric
                .encode_family(&[("upstream", upstream.as_str()), ("endpoint", endpoint.as_str())])?
                .encode_gauge(&i64::from(*is_usable))?;
        }
    }
    Ok(())
}
