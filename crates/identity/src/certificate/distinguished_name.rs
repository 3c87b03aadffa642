//! Distinguished names as RFC 4514 writes them: last part first, in printable ASCII, one text for one name.

use std::fmt::Write;

use x509_parser::asn1_rs::ToDer;
use x509_parser::oid_registry::{
    OID_DOMAIN_COMPONENT, OID_PKCS9_EMAIL_ADDRESS, OID_USERID, OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME,
    OID_X509_GIVEN_NAME, OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
    OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME, OID_X509_STREET_ADDRESS, OID_X509_SURNAME,
    OID_X509_TITLE, Oid,
};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The short names of RFC 4514 section 3, and those that openssl writes.
const SHORT_NAMES: [(Oid<'static>, &str); 14] = [
    (OID_X509_COMMON_NAME, "CN"),
    (OID_X509_LOCALITY_NAME, "L"),
    (OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (OID_X509_ORGANIZATION_NAME, "O"),
    (OID_X509_ORGANIZATIONAL_UNIT, "OU"),
    (OID_X509_COUNTRY_NAME, "C"),
    (OID_X509_STREET_ADDRESS, "STREET"),
    (OID_DOMAIN_COMPONENT, "DC"),
    (OID_USERID, "UID"),
    (OID_PKCS9_EMAIL_ADDRESS, "emailAddress"),
    (OID_X509_SERIALNUMBER, "serialNumber"),
    (OID_X509_SURNAME, "SN"),
    (OID_X509_GIVEN_NAME, "GN"),
    (OID_X509_TITLE, "title"),
];

/// `name` as RFC 4514 section 2 writes it; empty for an empty name.
pub(super) fn to_text(name: &X509Name<'_>) -> String {
    let parts: Vec<&_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (position, attribute) in part.iter().enumerate() {
            match position {
                0 if text.is_empty() => {}
                0 => text.push(','),
                _ => text.push('+'),
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

/// `text` in printable ASCII: other bytes as `\XX`.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::new();
    text.bytes().for_each(|byte| write_byte(&mut out, byte));
    out
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type();
    match SHORT_NAMES.iter().find(|(oid, _)| oid == kind) {
        Some((_, name)) => text.push_str(name),
        None => text.push_str(&kind.to_id_string()),
    }
    text.push('=');
    match attribute.as_str() {
        Ok(value) => write_value(text, value),
        // Other encodings, whose letters could be read in more than one way, are shown as they are (section 2.4).
        Err(_not_text) => {
            text.push('#');
            for byte in attribute.attr_value().to_der_vec().unwrap_or_default() {
                push(text, format_args!("{byte:02X}"));
            }
        }
    }
}

/// A value with what section 2.4 has escaped, and everything that is not printable ASCII.
fn write_value(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (position, byte) in value.bytes().enumerate() {
        let is_edge_space = byte == b' ' && (position == 0 || position == last);
        let is_first_hash = byte == b'#' && position == 0;
        if is_edge_space || is_first_hash || matches!(byte, b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\') {
            text.push('\\');
        }
        write_byte(text, byte);
    }
}

fn write_byte(text: &mut String, byte: u8) {
    if matches!(byte, b' '..=b'~') {
        text.push(char::from(byte));
    } else {
        push(text, format_args!("\\{byte:02X}"));
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(arguments);
}
