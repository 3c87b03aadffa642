//! What certificates that are issued say: names, and who asks for them.

use std::net::IpAddr;

use identity::SpiffeId;

use super::network::without_credentials;
use super::pattern::SniName;
use super::{Misread, Word, words};

/// A name that a certificate shall carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) enum CertificateName {
    /// A DNS name, in lower case; may begin with `*.`.
    Dns(String),
    /// An address.
    Address(IpAddr),
    /// A URI; a SPIFFE id is one.
    Uri(String),
}

impl Word for CertificateName {
    const EXPECTED: &'static str = "a DNS name such as `api.example.com` or `*.example.com`, an IP address, or a SPIFFE id such as `spiffe://example.org/gateway`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.starts_with("spiffe:") {
            let id = SpiffeId::parse_workload(text).map_err(|error| error.to_string())?;
            return Ok(Self::Uri(id.to_string()));
        }
        if text.contains("://") {
            without_credentials(text)?;
            return if text.is_ascii() { Ok(Self::Uri(text.to_owned())) } else { Err(Misread::Other) };
        }
        let name = SniName::parse(text).map_err(|_| Misread::Other)?.to_string();
        let labels = name.strip_prefix("*.").unwrap_or(&name).split('.');
        let fits = name.len() <= 253 && labels.into_iter().all(is_label);
        if fits { Ok(Self::Dns(name)) } else { Err(Misread::Other) }
    }
}

/// The common name of a certificate's subject.
#[derive(Clone, Debug)]
pub(in crate::config) struct CommonName(pub(in crate::config) String);

impl Word for CommonName {
    const EXPECTED: &'static str = "a common name of 1 to 64 characters";

    fn parse(text: &str) -> Result<Self, Misread> {
        let fits = (1..=LONGEST_COMMON_NAME).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Misread::Other)
        }
    }
}

/// Whom an authority writes to.
#[derive(Clone, Debug)]
pub(in crate::config) struct Contact(pub(in crate::config) String);

impl Word for Contact {
    const EXPECTED: &'static str = "an address such as `mailto:tls@example.com`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let address = text.strip_prefix("mailto:").and_then(|rest| rest.split_once('@'));
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '?');
        match address {
            Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(odd) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Misread::Other),
        }
    }
}

words! {
    CertificateName: "^.+$",
    CommonName: "^.{1,64}$",
    Contact: "^mailto:[^@]+@.+$",
}

/// RFC 1035 section 2.3.1, and `_`, which some names have.
fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=63).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// RFC 5280 appendix A.1: `ub-common-name`.
pub(in crate::config) const LONGEST_COMMON_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_dns_an_address_or_a_uri() {
        let parse = |text: &str| CertificateName::parse(text).unwrap();
        assert_eq!(parse("API.example.com"), CertificateName::Dns("api.example.com".into()));
        assert_eq!(parse("*.example.com"), CertificateName::Dns("*.example.com".into()));
        assert_eq!(parse("localhost"), CertificateName::Dns("localhost".into()));
        assert_eq!(parse("::1"), CertificateName::Address("::1".parse().unwrap()));
        assert_eq!(parse("spiffe://example.org/a"), CertificateName::Uri("spiffe://example.org/a".into()));
        assert_eq!(parse("urn://a"), CertificateName::Uri("urn://a".into()));
        for text in [
            "",
            "a b",
            "a:80",
            "10.0.0.0/8",
            "-a.example.com",
            "a..b",
            "spiffe://example.org",
            "spiffe://Example.org/a",
            "https://user:secret@a",
            "*",
            "a.*",
        ] {
            assert!(CertificateName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_contact_is_one_address() {
        assert!(Contact::parse("mailto:tls@example.com").is_ok());
        for text in
            ["tls@example.com", "mailto:", "mailto:a@b,c@d", "mailto:a@b?subject=x", "mailto:@b", "tel:1"]
        {
            assert!(Contact::parse(text).is_err(), "{text}");
        }
    }
}
