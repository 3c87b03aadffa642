//! What a scrape reads of upstreams and their endpoints.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;

use super::{count_with, counter, gauge, held};
use crate::metrics::{Series, lock};
use crate::upstream::{Pressure, UpstreamSeries};

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
    endpoints(&upstreams, encoder)?;
    pressure(&upstreams, encoder)?;
    names(series, encoder)
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
        for endpoint in endpoints.iter() {
            metric
                .encode_family(&[("upstream", upstream.as_str()), ("endpoint", endpoint.name.as_str())])?
                .encode_gauge(&i64::from(endpoint.is_usable))?;
        }
    }
    let mut metric = counter(encoder, "portcullis_upstream_checks", "Active checks, by result")?;
    for (upstream, series) in upstreams {
        for (result, count) in series.checks.sums() {
            count_with(&mut metric, &[("upstream", upstream.as_str()), ("result", result)], count)?;
        }
    }
    Ok(())
}

fn pressure(upstreams: &[(String, Arc<UpstreamSeries>)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut metric = counter(
        encoder,
        "portcullis_upstream_shed",
        "Requests refused before they were sent to an upstream, by reason",
    )?;
    for (upstream, series) in upstreams {
        for (reason, count) in series.sheds.sums() {
            count_with(&mut metric, &[("upstream", upstream.as_str()), ("reason", reason)], count)?;
        }
    }
    let mut metric = counter(encoder, "portcullis_upstream_circuit_openings", "Circuits that opened")?;
    for (upstream, series) in upstreams.iter().filter(|(_, series)| lock(&series.pressure).is_open.is_some())
    {
        count_with(&mut metric, &[("upstream", upstream.as_str())], series.openings.sum())?;
    }
    let held = upstreams.iter().map(|(upstream, series)| (upstream, *lock(&series.pressure)));
    let held: Vec<_> = held.collect();
    let is_open = |pressure: &Pressure| pressure.is_open.map(i64::from);
    let in_flight = |pressure: &Pressure| pressure.in_flight.and_then(|count| i64::try_from(count).ok());
    let waiting = |pressure: &Pressure| pressure.waiting.and_then(|count| i64::try_from(count).ok());
    for (name, help, value) in [
        (
            "portcullis_upstream_circuit_open",
            "1 while a circuit lets nothing or one request through",
            &is_open as &dyn Fn(&Pressure) -> Option<i64>,
        ),
        ("portcullis_upstream_requests_in_flight", "Requests of a bulkhead at once", &in_flight),
        ("portcullis_upstream_queue_length", "Requests that wait for a bulkhead", &waiting),
    ] {
        let mut metric = gauge(encoder, name, help)?;
        for (upstream, pressure) in &held {
            if let Some(value) = value(pressure) {
                metric.encode_family(&[("upstream", upstream.as_str())])?.encode_gauge(&value)?;
            }
        }
    }
    Ok(())
}

fn names(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let names = lock(&series.names);
    let mut metric = gauge(
        encoder,
        "portcullis_name_resolved",
        "1 if the last look-up of an endpoint's name found something",
    )?;
    for name in names.iter() {
        metric.encode_family(&[("name", name.name.as_str())])?.encode_gauge(&i64::from(name.is_resolved))?;
    }
    let mut metric = gauge(encoder, "portcullis_name_addresses", "Addresses of a name that are used")?;
    for name in names.iter() {
        let addresses = i64::try_from(name.addresses).unwrap_or(i64::MAX);
        metric.encode_family(&[("name", name.name.as_str())])?.encode_gauge(&addresses)?;
    }
    let mut metric = counter(encoder, "portcullis_name_resolutions", "Look-ups of names, by result")?;
    for name in names.iter() {
        for (result, count) in [("ok", name.good), ("failed", name.bad)] {
            count_with(&mut metric, &[("name", name.name.as_str()), ("result", result)], count)?;
        }
    }
    Ok(())
}
