//! The control socket: a unix socket for the gateway's own user and root.
//!
//! It is made under another name with mode 0600 and then renamed into place, so that nobody ever meets it with
//! wider rights, and replaces what a dead process left. A socket that somebody listens on, or a file that is no
//! socket, is an error. Peers are checked again by the kernel's word for their user.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::serve::{Accept, serve};

/// A control socket that is bound and not yet served; dropping it removes it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    own_user: u32,
    /// Device and inode of our socket, so that another one under the same name is not removed.
    identity: (u64, u64),
    /// Another process serves the socket from now on.
    stays: Arc<AtomicBool>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there already.
    #[error("control socket `{0}` is in use by another process")]
    InUse(PathBuf),
    /// The path names something else.
    #[error("`{0}` exists and is no socket")]
    NoSocket(PathBuf),
    /// The path has no file name or no directory.
    #[error("`{0}` is no path for a control socket")]
    Path(PathBuf),
    /// The system refused.
    #[error("control socket `{path}` cannot be made: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Binds the socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`] if a live process has it, the path is something else, or the system refuses.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, SocketError> {
        let path = path.into();
        let failed = |source| SocketError::Io { path: path.clone(), source };
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Path(path));
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        // Two processes that start at the same moment take turns here, or one would replace the other's socket.
        let turn = File::open(directory).map_err(failed)?;
        turn.lock().map_err(failed)?;
        refuse_what_is_in_use(&path)?;
        let making = directory.join(format!(".{}.{}", name.display(), std::process::id()));
        let _ = fs::remove_file(&making);
        let listener = UnixListener::bind(&making).map_err(failed)?;
        let placed = fs::set_permissions(&making, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&making))
            .and_then(|metadata| fs::rename(&making, &path).map(|()| metadata));
        let metadata = placed.map_err(|source| {
            let _ = fs::remove_file(&making);
            failed(source)
        })?;
        Ok(Self::new(listener, path, &metadata))
    }

    /// Takes over the socket at `path` from another process of ours that listens on it. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError::Io`] if it is no listening socket, or nothing is there.
    pub fn inherited(listener: StdUnixListener, path: impl Into<PathBuf>) -> Result<Self, SocketError> {
        let path = path.into();
        let taken = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .and_then(|listener| Ok((listener, fs::symlink_metadata(&path)?)));
        match taken {
            // Until it is served here, the other process has it: should this one fail before, it stays.
            Ok((listener, metadata)) => {
                let socket = Self::new(listener, path, &metadata);
                socket.stays.store(true, Ordering::SeqCst);
                Ok(socket)
            }
            Err(source) => Err(SocketError::Io { path, source }),
        }
    }

    fn new(listener: UnixListener, path: PathBuf, metadata: &Metadata) -> Self {
        let identity = (metadata.dev(), metadata.ino());
        Self { listener, own_user: metadata.uid(), identity, path, stays: Arc::default() }
    }

    /// The same socket once more, for another process.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn shared(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// To be set when another process serves the socket: then it is not removed at the end.
    #[must_use]
    pub fn stays(&self) -> Arc<AtomicBool> {
        self.stays.clone()
    }

    /// Serves until `stop`, then removes the socket.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        self.stays.store(false, Ordering::SeqCst);
        serve(self, router, stop).await;
    }
}

impl Accept for ControlSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if may_control(peer.uid(), self.own_user) => return Ok(stream),
                Ok(peer) => {
                    tracing::warn!(user = peer.uid(), "a stranger was turned away from the control socket");
                }
                Err(error) => {
                    tracing::warn!(%error, "a nameless peer was turned away from the control socket");
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let here = fs::symlink_metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        if !self.stays.load(Ordering::SeqCst) && here.is_ok_and(|here| here == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Passes if there is nothing at `path`, or the socket of a process that is gone.
fn refuse_what_is_in_use(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::Io { path: path.to_owned(), source }),
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(SocketError::Io { path: path.to_owned(), source }),
    }
}

const fn may_control(peer: u32, own: u32) -> bool {
    peer == own || peer == ROOT
}

const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateways_user_and_root_may_control() {
        assert!(may_control(1000, 1000) && may_control(ROOT, 1000));
        assert!(!may_control(1001, 1000) && !may_control(1000, ROOT));
    }
}
