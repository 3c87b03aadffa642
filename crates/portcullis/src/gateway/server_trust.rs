//! Who vouches for a server that the gateway itself asks: a key server, an ACME directory.

use tls::{SlotWriter, UpstreamTrust};

use super::wall_clock;
use crate::config::material::{self, MaterialError};
use crate::config::model::ServerTrust;

/// The trust that connections to the server are made with; a file is read now.
///
/// # Errors
/// A file that cannot be read or holds no authority.
pub(super) fn upstream_trust(trust: &ServerTrust) -> Result<UpstreamTrust, MaterialError> {
    let ServerTrust::File(reference) = trust else { return Ok(UpstreamTrust::System) };
    let mut writer = SlotWriter::empty();
    writer.publish(material::server_trust(reference, wall_clock())?);
    Ok(UpstreamTrust::Trusts(vec![writer.reader()]))
}
