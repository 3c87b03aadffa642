//! A pebble, the two listeners that it validates on, and a state directory.

use std::cell::OnceCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rotation::acme::{AcmeCertificate, AcmeSpec, Challenge};
use rotation::{Obtained, Source as _, SourceError};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Authority, Leaf, Pebble};
use tls::{
    Alpn, ClientAuth, Credential, HostSpec, ServerSpec, ServerTls, SlotWriter, StaleCrl, Trust, TrustOptions,
    UpstreamTrust, Version, WithoutSni,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub(crate) struct Site {
    pub(crate) pebble: Pebble,
    /// Seconds by which the sources' clock is ahead.
    pub(crate) ahead: Arc<AtomicU64>,
    state: TempDir,
    /// For plain HTTP and for TLS; bound when first opened and held from then on, so that no other test takes the ports.
    sockets: OnceCell<[std::net::TcpListener; 2]>,
}

/// An ACME directory that is pebble's with renewal information (RFC 9773), which pebble 2.4 does not have.
pub(crate) struct Front {
    listener: std::net::TcpListener,
    tls: ServerTls,
    /// Pebble's own.
    directory: Value,
    window: Mutex<(String, String)>,
    asked: AtomicUsize,
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn trust(authorities: &[&str]) -> UpstreamTrust {
    let options = TrustOptions { names: identity::certificate::NameForm::Dns, when_stale: StaleCrl::Reject };
    let pem = authorities.concat();
    let trust = Trust::from_pem("acme", pem.as_bytes(), &[], options, SystemTime::now()).unwrap();
    let mut writer = SlotWriter::empty();
    writer.publish(Arc::new(trust));
    UpstreamTrust::Trusts(vec![writer.reader()])
}

impl Site {
    pub(crate) fn new(pebble: Pebble) -> Self {
        Self { pebble, ahead: Arc::default(), state: tempfile::tempdir().unwrap(), sockets: OnceCell::new() }
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    pub(crate) fn spec(&self, entry: &str, names: &[&str]) -> AcmeSpec {
        AcmeSpec {
            entry: entry.to_owned(),
            directory: self.pebble.directory_url(),
            trust: trust(&[self.pebble.ca(), &FRONT.with(|authority| authority.pem().to_owned())]),
            contact: vec!["mailto:operator@gw.test".to_owned()],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            challenge: Challenge::TlsAlpn01,
            state: self.state(),
            external_account: None,
        }
    }

    pub(crate) fn source(&self, spec: AcmeSpec) -> AcmeCertificate {
        let ahead = self.ahead.clone();
        let clock = move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed));
        AcmeCertificate::new(spec, Arc::new(clock)).unwrap()
    }

    /// What a new source obtains after its first look.
    pub(crate) async fn ordered(&self, spec: AcmeSpec) -> Result<Arc<Credential>, SourceError> {
        let mut source = self.source(spec);
        source.obtain(None, self.now()).await.unwrap_err();
        match source.obtain(None, self.now()).await? {
            Obtained::New(credential, _) => Ok(credential),
            other => panic!("a new certificate is expected: {other:?}"),
        }
    }

    /// The same with open listeners.
    pub(crate) async fn order(&self, spec: AcmeSpec) -> Result<Arc<Credential>, SourceError> {
        self.open(self.ordered(spec)).await
    }

    /// Listens where pebble validates while `work` is done.
    pub(crate) async fn open<T>(&self, work: impl Future<Output = T>) -> T {
        let sockets = self.sockets.get_or_init(|| [self.pebble.http(), self.pebble.tls()].map(bound));
        let [http, tls] =
            sockets.each_ref().map(|one| TcpListener::from_std(one.try_clone().unwrap()).unwrap());
        let bare = SlotWriter::empty();
        let listener = listener(&bare);
        let shake = async {
            loop {
                let (stream, _) = tls.accept().await.unwrap();
                // A listener that has no certificate accepts nobody.
                assert!(listener.accept(stream, SystemTime::now()).await.is_err());
            }
        };
        let answer = async {
            loop {
                let (stream, _) = http.accept().await.unwrap();
                speak(stream, |host, path| {
                    let token = path.strip_prefix("/.well-known/acme-challenge/")?;
                    let shown = tls::acme::key_authorization(host.split(':').next()?, token)?;
                    Some((String::new(), shown.to_string()))
                })
                .await;
            }
        };
        tokio::select! {
            done = work => done,
            () = shake => panic!("the TLS listener ended"),
            () = answer => panic!("the plain listener ended"),
        }
    }

    /// Gives `other` the account that is kept here, as if its server had forgotten it.
    pub(crate) fn hand_account_to(&self, other: &Self) {
        let account = std::fs::read_dir(self.state())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("account-") && name.ends_with(".json")
            })
            .unwrap();
        let (mine, theirs) = (port(&self.pebble), port(&other.pebble));
        let moved = account.file_name().unwrap().to_string_lossy().replace(&mine, &theirs);
        let text = std::fs::read_to_string(&account).unwrap().replace(&mine, &theirs);
        std::fs::create_dir_all(other.state()).unwrap();
        std::fs::write(other.state().join(moved), text).unwrap();
    }

    pub(crate) fn with_renewal_information(&self) -> Front {
        let listener = bound(([127, 0, 0, 1], 0).into());
        let issued = FRONT.with(|authority| authority.issue(Leaf::server(&["localhost"])));
        let credential =
            Credential::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), SystemTime::now()).unwrap();
        let mut writer = SlotWriter::empty();
        writer.publish(Arc::new(credential));
        let port = listener.local_addr().unwrap().port();
        let mut directory = self.pebble.directory();
        directory["renewalInfo"] = json!(format!("https://localhost:{port}/renewal"));
        Front {
            listener,
            tls: self::listener(&writer),
            directory,
            window: Mutex::default(),
            asked: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> PathBuf {
        self.state.path().join("acme")
    }
}

impl Front {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.listener.local_addr().unwrap().port())
    }

    pub(crate) fn suggest(&self, start: &str, end: &str) {
        *self.window.lock().unwrap() = (start.to_owned(), end.to_owned());
    }

    /// How often it was asked for a window.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) async fn serve<T>(&self, work: impl Future<Output = T>) -> T {
        let listener = TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap();
        let serve = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(accepted) = self.tls.accept(stream, SystemTime::now()).await else { continue };
                speak(accepted.stream, |_, path| {
                    if path == "/dir" {
                        return Some((String::new(), self.directory.to_string()));
                    }
                    // Key id and serial number of the certificate.
                    let (authority, serial) = path.strip_prefix("/renewal/")?.split_once('.')?;
                    assert!(!authority.is_empty() && !serial.is_empty());
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    let (start, end) = self.window.lock().unwrap().clone();
                    let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
                    Some(("Retry-After: 7200\r\n".to_owned(), body))
                })
                .await;
            }
        };
        tokio::select! {
            done = work => done,
            () = serve => panic!("the directory ended"),
        }
    }
}

/// Answers one request: 200 with fields and body, or 404.
async fn speak<IO>(mut io: IO, answer: impl Fn(&str, &str) -> Option<(String, String)>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
    let text = match answer(host, path) {
        Some((fields, body)) => {
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
        }
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let _ = io.write_all(text.as_bytes()).await;
    let _ = io.shutdown().await;
}

fn listener(certificate: &SlotWriter<Credential>) -> ServerTls {
    ServerTls::new(&ServerSpec {
        default: HostSpec { certificates: vec![certificate.reader()], client: ClientAuth::Off },
        hosts: Vec::new(),
        min_version: Version::Tls12,
        without_sni: WithoutSni::Default,
        alpn: vec![Alpn::Http1],
    })
    .unwrap()
}

fn bound(address: SocketAddr) -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn port(pebble: &Pebble) -> String {
    let url = pebble.directory_url();
    url.split(':').nth(2).unwrap().split('/').next().unwrap().to_owned()
}

thread_local! {
    /// Vouches for [`Front`].
    static FRONT: Authority = Authority::root("front");
}
