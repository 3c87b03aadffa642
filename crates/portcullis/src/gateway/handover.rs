//! A new program takes the place of the running one, and no connection is refused or broken meanwhile.
//!
//! The old program starts the new one with a socket as standard input and says so in [`VARIABLE`]. Over it go the listening
//! sockets, each message a name with its descriptors, an empty name at the end. The new one answers once: [`READY`] when
//! everything that it needs is there and it accepts, or why it will not run. Then the old one drains. Whatever else happens
//! (no answer in [`PATIENCE`], a new program that ends or was never found), the new program is ended and the old one serves on.
//!
//! Both have the same sockets, not only the same addresses: what waits in their queues is lost to nobody.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use admin::Readiness;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use tokio::time::{interval, timeout};

use super::run::RunError;

/// What goes from one program to the next: descriptors by name.
pub(super) type Belongings = Vec<(String, Vec<OwnedFd>)>;

/// Starts this program anew, as it was called, and gives it the sockets; blocks until it serves. Says its process id.
///
/// # Errors
/// Why it does not serve, in words; it has ended then.
pub(super) fn start_successor(belongings: &Belongings) -> Result<u32, Vec<String>> {
    let mut arguments = std::env::args_os();
    let program =
        arguments.next().ok_or_else(|| vec!["the program has no name to start it by".to_owned()])?;
    let (ours, mut child) =
        spawn(&program, arguments).map_err(|error| vec![format!("{}: {error}", program.display())])?;
    match give(&ours, belongings).and_then(|()| answer(&ours)) {
        Ok(answer) if answer == READY => Ok(child.id()),
        Ok(answer) if !answer.is_empty() => Err(end(child, answer.lines().map(str::to_owned).collect())),
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            let reason = format!("the new program was not ready in {} s: {error}", PATIENCE.as_secs());
            Err(end(child, vec![reason]))
        }
        // It hung up: it has ended, or is about to.
        Ok(_) | Err(_) => {
            let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
            Err(vec![format!("the new program ended before it was ready: {status}")])
        }
    }
}

fn spawn(program: &OsString, arguments: impl Iterator<Item = OsString>) -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        // Longer than the successor waits: it knows better what is missing.
        set_socket_timeout(&ours, timeout, Some(PATIENCE + Duration::from_secs(5)))?;
    }
    let child =
        Command::new(program).args(arguments).env(VARIABLE, "stdin").stdin(Stdio::from(theirs)).spawn()?;
    Ok((ours, child))
}

fn give(socket: &OwnedFd, belongings: &Belongings) -> io::Result<()> {
    for (name, descriptors) in belongings {
        for some in descriptors.chunks(MOST) {
            let descriptors: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        }
    }
    send(socket, END, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn answer(socket: &OwnedFd) -> io::Result<String> {
    let mut bytes = [0; LONGEST];
    let (_, count) = recv(socket, &mut bytes, RecvFlags::empty())?;
    Ok(String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned())
}

fn end(mut child: Child, reasons: Vec<String>) -> Vec<String> {
    // It may have ended by itself; that it is gone is what matters.
    child.kill().ok();
    child.wait().ok();
    reasons
}

/// The program whose place this one takes.
#[derive(Debug)]
pub(super) struct Predecessor(OwnedFd);

impl Predecessor {
    /// The program that started this one to take its place, and what it hands over; none if it was started in another way.
    ///
    /// # Errors
    /// When the variable is there and standard input is no such socket, or nothing comes over it.
    pub(super) fn from_environment() -> io::Result<Option<(Self, Belongings)>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        if socket_type(&stdin)? != SocketType::SEQPACKET {
            return Err(io::Error::other(format!("{VARIABLE} is set, but nobody hands anything over")));
        }
        // Nobody else reads from it.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let predecessor = Self(stdin);
        let belongings = predecessor.belongings()?;
        Ok(Some((predecessor, belongings)))
    }

    fn belongings(&self) -> io::Result<Belongings> {
        let mut all = Belongings::new();
        loop {
            let mut name = [0; LONGEST];
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(&self.0, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let name = name.get(..received.bytes).unwrap_or_default();
            if name.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if name == END {
                return Ok(all);
            }
            let descriptors = control.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
                _ => Vec::new(),
            });
            all.push((String::from_utf8_lossy(name).into_owned(), descriptors.collect()));
        }
    }

    /// Says that this program serves now.
    pub(super) fn ready(&self) {
        self.say(READY);
    }

    /// Says why this program will not run.
    pub(super) fn refuse(&self, reasons: &str) {
        let mut length = reasons.len().min(LONGEST);
        while !reasons.is_char_boundary(length) {
            length -= 1;
        }
        self.say(reasons.get(..length).unwrap_or_default());
    }

    fn say(&self, what: &str) {
        if let Err(error) = send(&self.0, what.as_bytes(), SendFlags::NOSIGNAL) {
            tracing::warn!(%error, "the program that started this one does not listen any more");
        }
    }
}

/// Waits until nothing is missing that the listeners need: a predecessor that has all of it serves meanwhile.
pub(super) async fn all_there(readiness: &Readiness) -> Result<(), RunError> {
    let missing = || {
        let pending = readiness.report().pending;
        pending.into_iter().filter(|task| task != LISTENERS).collect::<Vec<_>>()
    };
    let waiting = async {
        let mut looks = interval(Duration::from_millis(50));
        while !missing().is_empty() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .map_err(|_| RunError::Start(format!("not ready in time: {} is missing", missing().join(", "))))
}

/// In the environment of a program that takes the place of another.
const VARIABLE: &str = "PORTCULLIS_HANDOVER";

const READY: &str = "ready";

/// No name of a listener: it ends the list.
const END: &[u8] = b"\n";

/// What readiness calls the opening of the listeners.
pub(super) const LISTENERS: &str = "listeners";

/// For the new program, from its start until it serves. Material that comes from elsewhere may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a message: a name, or problems.
const LONGEST: usize = 16 * 1024;

/// Descriptors of a message; the kernel takes 253.
const MOST: usize = 64;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST));
