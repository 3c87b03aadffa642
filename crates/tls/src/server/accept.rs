//! One handshake, from the ClientHello to a judged client.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::HandshakeKind;
use rustls::server::Acceptor;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::hosts::canonical;
use super::policy::{Clients, Current};
use super::{DEFAULT, Handshake, PolicyId, ServerTls, Verdict, WithoutSni};
use crate::failure::HandshakeError;
use crate::peer::{Peer, PeerError};
use crate::{Alpn, Version, acme};

/// A connection that passed its handshake.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// Its plain side.
    pub stream: TlsStream<IO>,
    /// What was agreed and proven.
    pub handshake: Handshake,
}

impl ServerTls {
    /// Takes one connection through its handshake. The caller puts a deadline around it.
    ///
    /// # Errors
    /// The handshake failed, its client is refused, or it was an ACME server's, which has no other purpose.
    pub async fn accept<IO>(&self, io: IO, now: SystemTime) -> Result<Accepted<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let sni: Option<Arc<str>> = start.client_hello().server_name().map(|name| canonical(name).into());
        if acme::is_validation(&start.client_hello()) {
            return Err(Box::pin(acme::validate(start, sni.as_deref())).await);
        }
        if sni.is_none() && self.without_sni == WithoutSni::Refuse {
            send_alert(&mut start.io, UNRECOGNIZED_NAME).await;
            return Err(PeerError::NoServerName.into());
        }
        let id = sni.as_deref().map_or(DEFAULT, |name| self.policy_for_host(name));
        let policy = self.policy(id).ok_or(HandshakeError::NoCredential)?;
        let current = policy.current()?;
        if !policy.has_credential() {
            send_alert(&mut start.io, INTERNAL_ERROR).await;
            return Err(HandshakeError::NoCredential);
        }
        if matches!(current.clients, Clients::Closed) {
            send_alert(&mut start.io, INTERNAL_ERROR).await;
            return Err(PeerError::NoTrust.into());
        }
        let stream = start.into_stream(Arc::clone(&current.config)).await?;
        // Once more, by the trust of now: a resumption asked no verifier, and trust may have changed meanwhile.
        let current = policy.current()?;
        let handshake = self.judge(&stream, sni, id, &current, now)?;
        Ok(Accepted { stream, handshake })
    }

    fn judge<IO>(
        &self,
        stream: &TlsStream<IO>,
        sni: Option<Arc<str>>,
        policy: PolicyId,
        current: &Current,
        now: SystemTime,
    ) -> Result<Handshake, PeerError> {
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates();
        let (mut peer, mut until) = (None, None);
        if let Some(proven) = current.clients.judge(chain, now)? {
            until = Some(proven.judged.until);
            peer = Some(Arc::new(Peer {
                certificate: Arc::new(proven.judged.certificate),
                chain: chain.unwrap_or_default().iter().cloned().map(CertificateDer::into_owned).collect(),
                trust: proven.trust,
                generation: proven.generation,
            }));
        }
        Ok(Handshake {
            sni,
            policy,
            alpn: Alpn::negotiated(connection.alpn_protocol()),
            version: Version::negotiated(connection.protocol_version()),
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default(),
            key_exchange: connection
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or_default(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            peer,
            server: self.id,
            verdict: Verdict::new(current, until),
        })
    }
}

/// A fatal alert in the clear (RFC 8446 section 6), as the answer to a ClientHello that no configuration takes on.
pub(crate) async fn send_alert<IO: AsyncWrite + Unpin>(io: &mut IO, description: u8) {
    // The connection ends here either way.
    let _ = io.write_all(&[ALERT, 3, 3, 0, 2, FATAL, description]).await;
    let _ = io.shutdown().await;
}

const ALERT: u8 = 21;
const FATAL: u8 = 2;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;
