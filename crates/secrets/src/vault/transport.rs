//! The way to one node: TLS by `tls`, HTTP/1.1 by reqwest.
//!
//! **Passes:** whole answers of at most 32 MiB, whatever their status. **Refused:** TLS that `tls` refuses, plain HTTP to
//! anything but loopback, larger or cut-off answers. Nothing is followed, no proxy is asked, no variable of the environment
//! is read. HTTP/1.1 on purpose: a connection that hangs dies with its request and takes no other along.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use reqwest::redirect::Policy;
use tls::{Alpn, ClientSpec, ClientTls, UpstreamTrust, Version, handshake_failure};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::cluster::BROKE;
use super::settings::Settings;
use crate::Cause;

/// Sends requests to nodes by their position in the settings.
#[async_trait]
pub(super) trait Wire: fmt::Debug + Send + Sync {
    /// One request, one answer, without a deadline of its own.
    async fn send(&self, node: usize, request: Request<Bytes>) -> Result<Response<Body>, Fault>;
}

/// An answer's body; wiped when dropped.
pub(super) type Body = Zeroizing<Vec<u8>>;

/// Why a node gave no answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    /// Whether the node may have done what it was asked.
    pub(super) may_be_done: bool,
}

/// The real way.
#[derive(Debug)]
pub(super) struct Https(Vec<Node>);

#[derive(Debug)]
struct Node {
    url: Url,
    tls: Option<ClientTls>,
    connect_timeout: Duration,
    /// The client of one generation of trust and certificate: what changes them changes the pool.
    client: Mutex<Option<(u64, reqwest::Client)>>,
}

impl Https {
    /// # Errors
    /// An address that cannot be used, in words.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        if settings.addresses.is_empty() {
            return Err("there is no address".to_owned());
        }
        settings.addresses.iter().map(|url| Node::new(url, settings)).collect::<Result<_, _>>().map(Self)
    }
}

#[async_trait]
impl Wire for Https {
    async fn send(&self, node: usize, request: Request<Bytes>) -> Result<Response<Body>, Fault> {
        let node =
            self.0.get(node).ok_or_else(|| Fault::before(Cause::Connect("no such node".to_owned())))?;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| Fault::before(Cause::Refused("the request cannot be written".to_owned())))?;
        let answer = node.client()?.execute(request).await.map_err(|error| node.fault(&error))?;
        read(answer).await.map_err(|cause| Fault { cause, may_be_done: true })
    }
}

impl Fault {
    /// A fault before anything was sent.
    fn before(cause: Cause) -> Self {
        Self { cause, may_be_done: false }
    }
}

impl Node {
    fn new(url: &Url, settings: &Settings) -> Result<Self, String> {
        let plain = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
        if !plain
            || !url.username().is_empty()
            || url.path_segments().is_some_and(|mut all| all.any(|one| one == "v1"))
        {
            return Err(format!("`{}`: expected https://host:port", url.host_str().unwrap_or_default()));
        }
        let host = url.host().ok_or("an address has no host")?;
        let tls = match url.scheme() {
            "https" => Some(node_tls(&host, settings)?),
            "http" if is_loopback(&host) => None,
            _ => return Err(format!("`{url}`: expected https, or http to a loopback address")),
        };
        Ok(Self {
            url: url.clone(),
            tls,
            connect_timeout: settings.timeout.min(CONNECT_TIMEOUT),
            client: Mutex::new(None),
        })
    }

    /// The client of the current generation; its pool lives as long as nothing changes.
    fn client(&self) -> Result<reqwest::Client, Fault> {
        let generation = self.tls.as_ref().map_or(0, ClientTls::generation);
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = held.as_ref()
            && *of == generation
        {
            return Ok(client.clone());
        }
        let client = self.connectable()?;
        *held = Some((generation, client.clone()));
        Ok(client)
    }

    fn connectable(&self) -> Result<reqwest::Client, Fault> {
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS);
        let builder = match &self.tls {
            // Whatever the resolver says about it: plain text stays on this machine. The library sets up TLS that is never
            // spoken, which needs a provider but no authorities.
            None => {
                tls::install_default();
                builder.resolve_to_addrs("localhost", &LOOPBACK).tls_certs_only([])
            }
            Some(tls) => {
                let config =
                    tls.client_config().map_err(|error| Fault::before(Cause::Tls(error.to_string())))?;
                builder.tls_backend_preconfigured(config).https_only(true)
            }
        };
        builder.build().map_err(|error| Fault::before(Cause::Tls(innermost(&error))))
    }

    fn fault(&self, error: &reqwest::Error) -> Fault {
        let host = self.url.host_str().unwrap_or_default();
        if let Some(failure) = handshake_failure(error) {
            // A refused certificate of ours is told by TLS 1.3 only after the request was written; it was not read.
            return Fault::before(Cause::Tls(failure.to_string()));
        }
        if error.is_dns() {
            return Fault::before(Cause::Dns(host.to_owned()));
        }
        if error.is_connect() {
            let port = self.url.port_or_known_default().unwrap_or_default();
            return Fault::before(Cause::Connect(match error.is_timeout() {
                true => format!("`{host}:{port}` does not answer"),
                false => format!("`{host}:{port}`: {}", innermost(error)),
            }));
        }
        let cause = if error.is_timeout() { Cause::Timeout } else { Cause::Answer(BROKE) };
        Fault { cause, may_be_done: true }
    }
}

/// Reads a body piece by piece, so that a length that lies costs nothing.
async fn read(mut answer: reqwest::Response) -> Result<Response<Body>, Cause> {
    let too_large = Cause::Answer("it is larger than 32 MiB");
    if answer.content_length().is_some_and(|length| length > BODY as u64) {
        return Err(too_large);
    }
    // With its room from the start a body is not copied while it grows: copies would not be wiped.
    let room = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(ROOM);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    while let Some(piece) = answer.chunk().await.map_err(|_| Cause::Answer("it is cut off"))? {
        if body.len() + piece.len() > BODY {
            return Err(too_large);
        }
        body.extend_from_slice(&piece);
    }
    let mut whole = Response::new(body);
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(whole)
}

fn node_tls(host: &Host<&str>, settings: &Settings) -> Result<ClientTls, String> {
    let server_name = match host {
        Host::Domain(name) => (*name).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let trust =
        settings.trust.clone().map_or(UpstreamTrust::System, |slot| UpstreamTrust::Trusts(vec![slot]));
    ClientTls::new(&ClientSpec {
        server_name,
        expect: None,
        trust,
        present: settings.certificate.clone(),
        min_version: Version::Tls12,
        alpn: vec![Alpn::Http1],
    })
    .map_err(|error| error.to_string())
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The last error of the chain: the ones around it only repeat the URL.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// Vault's own `max_request_size`: no answer that we ask for comes near.
const BODY: usize = 32 << 20;
/// Room for a body whose length is not told: most are smaller.
const ROOM: usize = 16 << 10;
/// A node that takes no connection is passed over before the request's own timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than what load balancers allow, so that they are not the ones who close.
const IDLE: Duration = Duration::from_secs(30);
/// Enough for a burst of renewals.
const IDLE_CONNECTIONS: usize = 4;
/// The port is that of the URL.
const LOOPBACK: [SocketAddr; 2] = [
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];
