//! A request as the fake reads it, and its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::server::{Body, full};

/// A request of the API.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: String,
    /// Without `/v1/`.
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) namespace: Option<String>,
    /// `X-Vault-Wrap-TTL`.
    pub(super) wrap: Option<Duration>,
    /// `null` if there is none.
    pub(super) body: Value,
    /// The SHA-256 of the client's certificate.
    pub(super) certificate: Option<String>,
}

/// An answer before it goes out.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// What a request gave.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) data: Value,
    pub(super) auth: Value,
    /// Id, seconds, whether it is renewable.
    pub(super) lease: Option<(String, u64, bool)>,
    pub(super) warnings: Vec<String>,
    /// 404 with a body: a deleted version.
    pub(super) gone: bool,
    /// 400 with a body: a batch whose items failed.
    pub(super) partly: bool,
    /// Instead of the envelope.
    pub(super) bare: Option<(u16, Value)>,
}

/// Status and text of a refusal; no text is an empty list of errors.
pub(super) struct Refused(pub(super) u16, pub(super) String);

pub(super) type Outcome = Result<Given, Refused>;

impl Call {
    /// Reads a request; the verb of `?list=true` is `LIST`.
    pub(super) async fn read(request: Request<Incoming>, certificate: Option<String>) -> Self {
        let (head, body) = request.into_parts();
        let field =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let query: BTreeMap<&str, &str> =
            head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let lists = query.get("list") == Some(&"true");
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = head.uri.path().trim_start_matches("/v1").trim_matches('/').to_owned();
        Self {
            method: if lists { "LIST".to_owned() } else { head.method.to_string() },
            path,
            token: field("x-vault-token"),
            namespace: field("x-vault-namespace"),
            wrap: field("x-vault-wrap-ttl").map(|ttl| seconds(&json!(ttl))).map(Duration::from_secs),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            certificate,
        }
    }

    /// A field of the body as text.
    pub(super) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let fields = vec![("content-type", "application/json".to_owned())];
        Self { status, fields, body: body.to_string().into_bytes() }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    pub(super) fn errors(status: u16, error: &str) -> Self {
        let errors = if error.is_empty() { json!([]) } else { json!([error]) };
        Self::json(status, &json!({ "errors": errors }))
    }

    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.fields {
            response = response.header(name, value);
        }
        response.body(full(self.body)).unwrap()
    }
}

impl Given {
    pub(super) fn data(data: Value) -> Outcome {
        Ok(Self { data, ..Self::default() })
    }

    pub(super) fn nothing() -> Outcome {
        Ok(Self::default())
    }

    /// As Vault wraps it in its envelope; nothing at all is 204.
    pub(super) fn reply(self, request: u64) -> Reply {
        if let Some((status, body)) = self.bare {
            return Reply::json(status, &body);
        }
        if self.data.is_null() && self.auth.is_null() && self.lease.is_none() && self.warnings.is_empty() {
            return Reply::empty(204);
        }
        let (id, seconds, renewable) = self.lease.unwrap_or_default();
        let warnings = if self.warnings.is_empty() { Value::Null } else { json!(self.warnings) };
        let status = match (self.gone, self.partly) {
            (true, _) => 404,
            (false, true) => 400,
            (false, false) => 200,
        };
        let body = json!({
            "request_id": format!("fake-{request}"), "lease_id": id, "renewable": renewable,
            "lease_duration": seconds, "data": self.data, "wrap_info": null, "warnings": warnings,
            "auth": self.auth, "mount_type": "",
        });
        Reply::json(status, &body)
    }
}

/// A duration as Vault takes it: seconds as a number or text, or with a unit (`90s`, `15m`, `24h`); 0 for none.
pub(super) fn seconds(value: &Value) -> u64 {
    let Some(text) = value.as_str() else { return value.as_u64().unwrap_or(0) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.trim_start_matches(|c: char| c.is_ascii_digit()) {
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or(0) * unit
}
