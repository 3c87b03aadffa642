//! A request as rules see it: its fields, and the arguments of its query and body.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use zentinel_modsec::variables::{Collection as _, RequestData};

use super::multipart::{Part, parts};
use crate::{Form, Request, UNREADABLE_BODY, UNREADABLE_MULTIPART};

/// The head; no rule has looked at it yet.
pub(super) fn head(request: &Request) -> RequestData {
    let mut data = RequestData::new();
    data.client_ip = request.client.to_string();
    data.set_uri(&request.target);
    data.set_method(request.method.as_str());
    data.set_protocol(request.version);
    if let Some(host) = &request.host {
        data.add_header("host", host);
    }
    for (name, value) in &request.fields {
        data.add_header(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
    }
    if let Some(length) = request.length {
        data.add_header("content-length", &length.to_string());
    }
    data
}

/// Reads the body as what it says it is, or as what a rule `forced`.
///
/// # Errors
/// The number of the rule that a body breaks which cannot be read so: what is not read cannot be judged.
pub(super) fn body(data: &mut RequestData, request: &Request, forced: Option<&str>) -> Result<(), u32> {
    data.append_body(&request.body);
    let form = match forced {
        Some("JSON") => Some(Form::Json),
        Some("XML") => Some(Form::Xml),
        Some("MULTIPART") => Some(Form::Multipart),
        Some(_) => Some(Form::UrlEncoded),
        None => Form::of(&request.fields),
    };
    match form {
        Some(Form::Json) => data.parse_json_body().map_err(|_| UNREADABLE_BODY)?,
        Some(Form::Xml) => data.parse_xml_body().map_err(|_| UNREADABLE_BODY)?,
        Some(Form::Multipart) => multipart(data, &request.fields)?,
        Some(Form::UrlEncoded) => {
            data.parse_form_body();
            data.body_processor = "URLENCODED".to_owned();
            return Ok(());
        }
        None => return Ok(()),
    }
    // As in ModSecurity, what was taken apart is not looked at as a whole too.
    data.body = Vec::new();
    Ok(())
}

/// How many arguments there are, of the query and of the body.
pub(super) fn arguments(data: &RequestData) -> usize {
    data.args_get.count() + data.args_post.count()
}

/// The engine's own reader skips what it does not understand; here that is an error.
fn multipart(data: &mut RequestData, fields: &HeaderMap) -> Result<(), u32> {
    data.body_processor = "MULTIPART".to_owned();
    if data.body.is_empty() {
        return Ok(());
    }
    let kind = fields.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parts = parts(&kind.unwrap_or_default(), &data.body).ok_or(UNREADABLE_MULTIPART)?;
    for Part { name, file, fields, text } in parts {
        for field in fields {
            data.multipart_part_headers.add(name.clone(), field);
        }
        match file {
            Some(file) => data.files.add(name, file),
            None => data.args_post.add(name, text),
        }
    }
    Ok(())
}
