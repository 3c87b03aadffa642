//! The request that is asked about, from the command line.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Method, Uri};
use tls::CertificateDer;

use super::Explain;
use crate::cli::exit::CliError;
use crate::cli::{cert, token};
use crate::config::model::{Config, ListenerKind, Name};

/// A request as it would arrive.
pub(super) struct Question {
    pub(super) listener: Name,
    pub(super) method: Method,
    pub(super) url: String,
    /// The URL's host: what a client names in the handshake.
    pub(super) sni: String,
    /// What a client writes into the request line: path and query.
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    pub(super) address: IpAddr,
    /// The client's chain; empty without certificate.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Question {
    pub(super) fn read(explain: &Explain, config: &Config) -> Result<Self, CliError> {
        let usage = |message: String| CliError::Usage(message);
        let uri: Uri =
            explain.url.parse().map_err(|error| usage(format!("`--url`: {error}; expected {URL}")))?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(usage(format!("`--url` has no scheme or no host; expected {URL}")));
        }
        let method = Method::from_bytes(explain.method.as_bytes())
            .map_err(|_| usage(format!("`{}` is no method", explain.method)))?;
        let mut headers = HeaderMap::new();
        for line in &explain.headers {
            let (name, value) = header(line).ok_or_else(|| {
                usage("`--header` is no header field; expected a name, `:` and a value".to_owned())
            })?;
            headers.append(name, value);
        }
        if let Some(file) = &explain.token {
            let bearer = format!("Bearer {}", token::read(file)?);
            let mut value = HeaderValue::from_str(&bearer)
                .map_err(|_| CliError::read(file, &"it holds more than one line, or no text"))?;
            value.set_sensitive(true);
            headers.append(AUTHORIZATION, value);
        }
        if !headers.contains_key(HOST)
            && let Some(Ok(host)) = uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()))
        {
            headers.insert(HOST, host);
        }
        let chain = match &explain.certificate {
            Some(file) => cert::certificates(file)?,
            None => Vec::new(),
        };
        let listener = match &explain.listener {
            Some(name) => named(config, name)?,
            None => fitting(config, &uri)?,
        };
        Ok(Self {
            listener,
            method,
            url: explain.url.clone(),
            sni: uri.host().unwrap_or_default().to_owned(),
            target: uri.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
            headers,
            address: explain.address,
            chain,
        })
    }
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
}

fn named(config: &Config, name: &str) -> Result<Name, CliError> {
    config.listeners.get_key_value(name).map(|(name, _)| name.clone()).ok_or_else(|| {
        CliError::Usage(format!(
            "there is no listener `{name}`; expected one of {}",
            list(config.listeners.keys())
        ))
    })
}

/// The one listener of the URL's scheme; among several the one on its port.
fn fitting(config: &Config, uri: &Uri) -> Result<Name, CliError> {
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let sites = config.listeners.iter().filter(|(_, one)| one.validate.is_none());
    let of_scheme = sites.filter(|(_, one)| matches!(one.kind, ListenerKind::Tls(_)) == tls);
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let fitting: Vec<_> = of_scheme.collect();
    let on_port: Vec<_> = fitting.iter().filter(|(_, one)| one.bind.port() == port).collect();
    match (fitting.as_slice(), on_port.as_slice()) {
        ([(name, _)], _) => Ok((*name).clone()),
        (_, [(name, _)]) => Ok((*name).clone()),
        _ => Err(CliError::Usage(format!(
            "which listener takes this URL is not clear; choose by `--listener` one of {}",
            list(config.listeners.keys())
        ))),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

const URL: &str = "one such as `https://api.example.com/orders?limit=5`";
