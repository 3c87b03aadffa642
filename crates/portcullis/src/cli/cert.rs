//! `portcullis cert`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use identity::certificate::{CertificateSummary, NameForm, inspect, vet_client};
use serde_json::{Value, json};
use tls::CertificateDer;

use super::exit::{CliError, Report};
use super::out::{self, Format, Rows, count, paint};
use super::{source, time};
use crate::gateway;

/// Look at certificates
#[derive(Args, Debug)]
pub(super) struct Cert {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(Inspect),
}

/// Show what certificates say, and whom a trust entry would take them for
///
/// Chain and signatures are not checked: that needs a trust entry (`portcullis explain --certificate`).
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis cert inspect edge.pem ca.pem")]
struct Inspect {
    /// Files with certificates, PEM or DER; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How they are shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Cert {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let Command::Inspect(inspect) = &self.command;
        inspect.run()
    }
}

impl Inspect {
    fn run(&self) -> Result<Report, CliError> {
        let now = gateway::wall_clock();
        let mut all = Vec::new();
        for file in &self.files {
            for (der, position) in certificates(file)?.iter().zip(1..) {
                all.push(Inspected::new(file, position, der, now)?);
            }
        }
        Ok(Report::ok(match self.format {
            Format::Json => format!("{:#}\n", all.iter().map(Inspected::json).collect::<Value>()),
            Format::Text => all.iter().map(|one| one.text(now)).collect::<Vec<_>>().join("\n"),
        }))
    }
}

/// All certificates of a file, PEM or DER.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CliError> {
    let bytes = source::bytes(file)?;
    if !bytes.windows(PEM.len()).any(|window| window == PEM) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let certificates = tls::certificates(&bytes).map_err(|error| CliError::read(file, &error))?;
    if certificates.is_empty() {
        return Err(CliError::read(
            file,
            &"it holds no certificate; expected PEM `CERTIFICATE` sections, or DER",
        ));
    }
    Ok(certificates)
}

struct Inspected {
    file: String,
    position: usize,
    summary: CertificateSummary,
    /// When it ends.
    ends: Option<SystemTime>,
    /// For each form of names: the principal, or why there is none. Empty for an authority, which is no peer.
    peers: Vec<(&'static str, Result<String, String>)>,
}

impl Inspected {
    fn new(
        file: &Path,
        position: usize,
        der: &CertificateDer<'_>,
        now: SystemTime,
    ) -> Result<Self, CliError> {
        let place = || format!("{} (certificate {position})", file.display());
        let summary = inspect(der).map_err(|error| CliError::read(Path::new(&place()), &error))?;
        let trust_domain =
            summary.spiffe.as_deref().and_then(|id| id.strip_prefix("spiffe://")?.split('/').next());
        let forms = [
            ("spiffe", NameForm::Spiffe { trust_domain: trust_domain.unwrap_or_default().to_owned() }),
            ("dns", NameForm::Dns),
            ("subject", NameForm::Subject),
        ];
        let peer = |form: &NameForm| match vet_client([der.as_ref()], form, TRUST, now) {
            Ok(peer) => Ok(peer.principal.id.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let peers =
            if summary.is_ca { Vec::new() } else { forms.map(|(name, form)| (name, peer(&form))).into() };
        let ends = summary.not_after.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
        Ok(Self { file: file.display().to_string(), position, summary, ends, peers })
    }

    fn json(&self) -> Value {
        let peers: serde_json::Map<String, Value> = self
            .peers
            .iter()
            .map(|(form, peer)| {
                let (principal, refused) = (peer.as_ref().ok(), peer.as_ref().err());
                ((*form).to_owned(), json!({ "principal": principal, "refused": refused }))
            })
            .collect();
        json!({ "file": self.file, "position": self.position, "certificate": self.summary, "as_peer": peers })
    }

    fn text(&self, now: SystemTime) -> String {
        let summary = &self.summary;
        let mut rows = Rows::default();
        rows.add("file", format!("{}, certificate {}", self.file, self.position));
        rows.add("subject", &summary.subject);
        rows.add("issuer", &summary.issuer);
        rows.add("serial", &summary.serial);
        rows.add("begins", &summary.not_before);
        rows.add(
            "ends",
            match self.ends {
                Some(ends) if ends < now => paint(out::ERROR, time::moment(ends, now)),
                Some(ends) => time::moment(ends, now),
                None => summary.not_after.clone(),
            },
        );
        rows.list("names", summary.names.iter().cloned());
        let kind = json!(summary.key).as_str().unwrap_or_default().to_uppercase();
        rows.add("key", format!("{kind}, {}", count(summary.key_bits, "bit", "bits")));
        rows.list("key usage", summary.key_usage.iter().map(|usages| usages.join(", ")));
        rows.list("purposes", summary.extended_key_usage.iter().map(|purposes| purposes.join(", ")));
        rows.add("sha256", &summary.fingerprint_sha256);
        if summary.is_ca {
            rows.add("as a peer", "none: it is a certificate authority's");
        }
        rows.list(
            "as a peer",
            self.peers.iter().map(|(form, peer)| {
                let said = match peer {
                    Ok(principal) => paint(out::GOOD, principal),
                    Err(reason) => format!("no: {reason}"),
                };
                format!("{:15} {said}", format!("names: {form}"))
            }),
        );
        rows.to_string()
    }
}

const PEM: &[u8] = b"-----BEGIN ";
/// Stands for the name of a trust entry.
const TRUST: &str = "TRUST";

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    fn written(names: Vec<SanType>) -> tempfile::TempDir {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.pem"), certificate.pem()).unwrap();
        std::fs::write(directory.path().join("a.der"), certificate.der()).unwrap();
        directory
    }

    fn inspected(directory: &tempfile::TempDir, name: &str, format: Format) -> String {
        Inspect { files: vec![directory.path().join(name)], format }.run().unwrap().text
    }

    #[test]
    fn pem_and_der_say_the_same_and_each_form_of_names_is_answered() {
        let uri = "spiffe://example.org/ns/shop/sa/a".try_into().unwrap();
        let directory = written(vec![SanType::URI(uri), SanType::DnsName("a.test".try_into().unwrap())]);
        let (pem, der) =
            (inspected(&directory, "a.pem", Format::Json), inspected(&directory, "a.der", Format::Json));
        assert_eq!(pem.replace("a.pem", ""), der.replace("a.der", ""));
        let value: Value = serde_json::from_str(&pem).unwrap();
        assert_eq!(value[0]["as_peer"]["spiffe"]["principal"], "spiffe://example.org/ns/shop/sa/a");
        assert_eq!(value[0]["as_peer"]["dns"]["principal"], "dns:TRUST#a.test");
        let text = inspected(&directory, "a.pem", Format::Text);
        assert!(text.contains("digitalSignature") && text.contains("clientAuth"), "{text}");
    }

    #[test]
    fn a_file_without_a_certificate_is_named_and_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("none.pem");
        std::fs::write(&file, "-----BEGIN NOTHING-----\nc2VjcmV0\n-----END NOTHING-----\n").unwrap();
        let error = certificates(&file).unwrap_err().to_string();
        assert!(
            error.contains("none.pem") && error.contains("CERTIFICATE") && !error.contains("c2VjcmV0"),
            "{error}"
        );
        std::fs::write(&file, "no certificate at all").unwrap();
        assert!(Inspect { files: vec![file], format: Format::Text }.run().is_err());
    }
}
