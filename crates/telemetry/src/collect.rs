//! What a scrape reads: the sums over all cores, written through prometheus-client.

mod authority;
mod upstreams;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::{Material, Named, Series, lock, timestamp};

/// Hands the series to prometheus-client at each scrape.
#[derive(Debug)]
pub(crate) struct Collect(pub(crate) Arc<Series>);

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series = &self.0;
        requests(series, &mut encoder)?;
        connections(series, &mut encoder)?;
        upstreams::upstreams(series, &mut encoder)?;
        decisions(series, &mut encoder)?;
        authority::authority(series, &mut encoder)?;
        material(series, &mut encoder)?;
        stores(series, &mut encoder)?;
        process(series, &mut encoder)
    }
}

fn requests(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let routes = held(&series.routes);
    let mut metric = counter(encoder, "portcullis_requests", "Answered requests by route and status class")?;
    for (route, answers) in &routes {
        for (class, count) in answers.classes() {
            count_with(&mut metric, &[("route", route.as_str()), ("status", class)], count)?;
        }
    }
    let mut metric = encoder.encode_descriptor(
        "portcullis_request_duration_seconds",
        "From the head of a request to the end of its answer",
        None,
        MetricType::Histogram,
    )?;
    for (route, answers) in &routes {
        let (sum, buckets) = answers.durations();
        let count = buckets.iter().map(|(_, count)| count).sum();
        metric
            .encode_family(&[("route", route.as_str())])?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    let mut metric =
        gauge(encoder, "portcullis_tunnels_open", "Open tunnels (WebSockets and other upgrades), by route")?;
    for (route, series) in &routes {
        metric.encode_family(&[("route", route.as_str())])?.encode_gauge(&series.tunnels.sum())?;
    }
    gauge(encoder, "portcullis_requests_in_flight", "Requests whose answer has not ended")?
        .encode_gauge(&series.in_flight.sum())?;
    let mut metric = counter(encoder, "portcullis_refusals", "Requests that were refused, by stable code")?;
    for (code, count) in series.refusals.sums() {
        count_with(&mut metric, &[("code", code)], count)?;
    }
    Ok(())
}

fn connections(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let listeners = held(&series.listeners);
    let mut metric = counter(encoder, "portcullis_connections", "Accepted connections")?;
    for (listener, connections) in &listeners {
        count_with(&mut metric, &[("listener", listener.as_str())], connections.accepted.sum())?;
    }
    let mut metric = gauge(encoder, "portcullis_connections_open", "Open connections")?;
    for (listener, connections) in &listeners {
        metric.encode_family(&[("listener", listener.as_str())])?.encode_gauge(&connections.open.sum())?;
    }
    let mut metric = counter(
        encoder,
        "portcullis_handshake_failures",
        "TLS handshakes and PROXY protocol headers that failed, by cause",
    )?;
    for (listener, connections) in &listeners {
        for (cause, count) in connections.handshake_failures.sums() {
            count_with(&mut metric, &[("listener", listener.as_str()), ("cause", cause)], count)?;
        }
    }
    let mut metric = counter(
        encoder,
        "portcullis_frame_floods",
        "Connections closed for a flood of HTTP/2 frames, by kind",
    )?;
    for (listener, connections) in &listeners {
        for (frames, count) in connections.floods.sums() {
            count_with(&mut metric, &[("listener", listener.as_str()), ("frames", frames)], count)?;
        }
    }
    let mut metric = counter(
        encoder,
        "portcullis_validated_requests",
        "Requests that other proxies asked about, by verdict",
    )?;
    for (listener, connections) in &listeners {
        for (verdict, count) in connections.validations.sums() {
            count_with(&mut metric, &[("listener", listener.as_str()), ("verdict", verdict)], count)?;
        }
    }
    let mut metric = gauge(encoder, "portcullis_core_connections", "Open connections by core")?;
    let mut by_core: Vec<_> =
        series.connections_by_core.iter().map(|open| open.load(Ordering::Relaxed)).collect();
    by_core.pop(); // the last one is nobody's core
    for (core, open) in by_core.iter().enumerate() {
        metric.encode_family(&[("core", core)])?.encode_gauge(open)?;
    }
    Ok(())
}

fn decisions(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut metric =
        counter(encoder, "portcullis_token_cache", "Looks into the cache of verified tokens, by result")?;
    for (result, count) in series.token_cache.sums() {
        count_with(&mut metric, &[("result", result)], count)?;
    }
    let tokens = held(&series.tokens);
    let mut metric =
        counter(encoder, "portcullis_minted_tokens", "Tokens for upstreams, by how they were had")?;
    for (token, results) in &tokens {
        for (result, count) in results.0.sums() {
            count_with(&mut metric, &[("token", token.as_str()), ("result", result)], count)?;
        }
    }
    let mut metric =
        counter(encoder, "portcullis_mirrored_requests", "Copies of requests, by what became of them")?;
    for (route, results) in &held(&series.mirrors) {
        for (result, count) in results.0.sums() {
            count_with(&mut metric, &[("route", route.as_str()), ("result", result)], count)?;
        }
    }
    let mut metric = counter(
        encoder,
        "portcullis_idempotency_keys",
        "Requests with an idempotency key, by what was known of it",
    )?;
    for (route, results) in &held(&series.idempotency) {
        for (result, count) in results.0.sums() {
            count_with(&mut metric, &[("route", route.as_str()), ("result", result)], count)?;
        }
    }
    compression(series, encoder)?;
    let mut metric = counter(
        encoder,
        "portcullis_waf_requests",
        "Requests that the core rule set looked at, by what it said",
    )?;
    for (route, results) in &held(&series.inspections) {
        for (result, count) in results.0.sums() {
            count_with(&mut metric, &[("route", route.as_str()), ("result", result)], count)?;
        }
    }
    let limits = held(&series.limits);
    let mut metric =
        counter(encoder, "portcullis_limit_rejections", "Requests and connections over a limit")?;
    for (limit, state) in &limits {
        count_with(&mut metric, &[("limit", limit.as_str())], state.rejections.sum())?;
    }
    let mut metric = gauge(encoder, "portcullis_limit_keys", "Keys that a limit remembers")?;
    for (limit, state) in &limits {
        metric
            .encode_family(&[("limit", limit.as_str())])?
            .encode_gauge(&state.keys.load(Ordering::Relaxed))?;
    }
    let mut metric =
        counter(encoder, "portcullis_limit_evictions", "Buckets forgotten before they were full again")?;
    for (limit, state) in &limits {
        count_with(&mut metric, &[("limit", limit.as_str())], state.evictions.load(Ordering::Relaxed))?;
    }
    let mut metric = counter(encoder, "portcullis_policy_shadow", "What shadow policies would have done")?;
    for (policy, decision, count) in lock(&series.shadow).iter() {
        count_with(&mut metric, &[("policy", policy.as_str()), ("decision", *decision)], *count)?;
    }
    Ok(())
}

fn compression(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let routes = held(&series.compression);
    let mut metric = counter(
        encoder,
        "portcullis_compressed_answers",
        "Answers that clients asked to have compressed, by coding; busy ones passed as they are",
    )?;
    for (route, compression) in &routes {
        for (result, count) in compression.results.sums() {
            count_with(&mut metric, &[("route", route.as_str()), ("result", result)], count)?;
        }
    }
    let mut metric = counter(
        encoder,
        "portcullis_compression_bytes",
        "Bytes of answers before and after they were compressed",
    )?;
    for (route, compression) in &routes {
        let sums = [("in", compression.taken.sum()), ("out", compression.given.sum())];
        for (direction, bytes) in sums {
            count_with(&mut metric, &[("route", route.as_str()), ("direction", direction)], bytes)?;
        }
    }
    Ok(())
}

fn material(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let material = lock(&series.material);
    for (name, help, of, label) in [
        (
            "portcullis_certificate_expiry_timestamp_seconds",
            "When a certificate ends",
            Material::Certificate,
            "name",
        ),
        (
            "portcullis_trust_expiry_timestamp_seconds",
            "When the first CA of a trust entry ends",
            Material::Trust,
            "trust",
        ),
        (
            "portcullis_crl_next_update_timestamp_seconds",
            "When a revocation list becomes stale",
            Material::Crl,
            "trust",
        ),
        (
            "portcullis_jwks_usable_until_timestamp_seconds",
            "When held keys become too stale",
            Material::Jwks,
            "issuer",
        ),
    ] {
        let mut metric = gauge(encoder, name, help)?;
        for ((kind, entry), state) in material.iter() {
            if let Some(ends) = state.ends.filter(|_| *kind == of) {
                metric.encode_family(&[(label, entry.as_str())])?.encode_gauge(&timestamp(ends))?;
            }
        }
    }
    let mut metric =
        gauge(encoder, "portcullis_jwks_fetched_timestamp_seconds", "When keys were last fetched")?;
    for ((kind, issuer), state) in material.iter() {
        if let Some(loaded) = state.loaded.filter(|_| *kind == Material::Jwks) {
            metric.encode_family(&[("issuer", issuer.as_str())])?.encode_gauge(&timestamp(loaded))?;
        }
    }
    let mut metric = gauge(
        encoder,
        "portcullis_material_last_success_timestamp_seconds",
        "When material was last loaded",
    )?;
    for ((kind, name), state) in material.iter() {
        if let Some(loaded) = state.loaded {
            metric
                .encode_family(&[("kind", kind.as_str()), ("name", name.as_str())])?
                .encode_gauge(&timestamp(loaded))?;
        }
    }
    let mut metric = gauge(
        encoder,
        "portcullis_material_hard_end_timestamp_seconds",
        "When material stops to work, whatever the gateway does",
    )?;
    for ((kind, name), state) in material.iter() {
        if let Some(ends) = state.ends {
            metric
                .encode_family(&[("kind", kind.as_str()), ("name", name.as_str())])?
                .encode_gauge(&timestamp(ends))?;
        }
    }
    let mut metric = counter(encoder, "portcullis_material_failures", "Failed attempts to load material")?;
    for ((kind, name), state) in material.iter() {
        count_with(&mut metric, &[("kind", kind.as_str()), ("name", name.as_str())], state.failures)?;
    }
    Ok(())
}

fn stores(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let stores = lock(&series.stores);
    let mut metric =
        gauge(encoder, "portcullis_secret_store_up", "1 if a store of secrets answered the last request")?;
    for store in stores.iter() {
        metric.encode_family(&[("store", store.name.as_str())])?.encode_gauge(&u32::from(store.is_up))?;
    }
    let mut metric = gauge(
        encoder,
        "portcullis_secret_store_token_expiry_timestamp_seconds",
        "When the token of a login ends",
    )?;
    for store in stores.iter() {
        if let Some(ends) = store.token_ends {
            metric.encode_family(&[("store", store.name.as_str())])?.encode_gauge(&timestamp(ends))?;
        }
    }
    let mut metric = counter(encoder, "portcullis_secret_store_logins", "Logins to a store of secrets")?;
    for store in stores.iter() {
        count_with(&mut metric, &[("store", store.name.as_str())], store.logins)?;
    }
    let mut metric =
        counter(encoder, "portcullis_secret_store_token_renewals", "Renewals of a login's token")?;
    for store in stores.iter() {
        count_with(&mut metric, &[("store", store.name.as_str())], store.renewals)?;
    }
    let mut metric =
        counter(encoder, "portcullis_secret_store_requests", "Requests to a store of secrets, by outcome")?;
    for store in stores.iter() {
        for (operation, outcome, count) in &store.requests {
            let labels = [("store", store.name.as_str()), ("operation", operation), ("outcome", outcome)];
            count_with(&mut metric, &labels, *count)?;
        }
    }
    Ok(())
}

fn process(series: &Series, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let config = lock(&series.config);
    gauge(encoder, "portcullis_config_generation", "The generation that serves; 0 before the first")?
        .encode_gauge(&config.generation)?;
    if let Some(at) = config.last_reload {
        gauge(
            encoder,
            "portcullis_config_last_reload_timestamp_seconds",
            "When a configuration was last read",
        )?
        .encode_gauge(&timestamp(at))?;
        gauge(
            encoder,
            "portcullis_config_last_reload_success",
            "1 if it was published, 0 if it was refused",
        )?
        .encode_gauge(&u32::from(config.success))?;
    }
    counter(encoder, "portcullis_panics", "Panics that cost a connection or a task")?
        .encode_counter::<NoLabelSet, u64, f64>(&series.panics.sum(), None)?;
    counter(encoder, "portcullis_access_log_dropped", "Access records that the log could not take")?
        .encode_counter::<NoLabelSet, u64, f64>(&series.access_log_dropped.load(Ordering::Relaxed), None)?;
    let mut metric = gauge(encoder, "portcullis_build_info", "The version that runs")?;
    metric.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?.encode_gauge(&1_u32)
}

fn counter<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn gauge<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn count_with(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

/// The series that somebody still holds; the others are forgotten here.
fn held<T>(named: &Named<T>) -> Vec<(String, Arc<T>)> {
    let mut named = lock(named);
    named.retain(|_, series| Arc::strong_count(series) > 1);
    named.iter().map(|(name, series)| (name.clone(), Arc::clone(series))).collect()
}
