//! Child processes that end with the test, and what they printed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a command that ran to its end printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A Python that has the `cryptography` package, which the maker of hostile certificates imports.
#[must_use]
pub fn python() -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PYTHON.get_or_init(|| {
        ["python3", "/usr/bin/python3"]
            .into_iter()
            .find(|python| {
                let probe =
                    Command::new(python).args(["-c", "import cryptography"]).stderr(Stdio::null()).status();
                probe.is_ok_and(|status| status.success())
            })
            .expect("no Python with the package `cryptography`: run .ci/setup")
            .into()
    }))
}

/// A long-running child, ended when dropped. Its output goes to one file.
pub struct Service {
    child: Child,
    output: PathBuf,
}

impl Service {
    /// Starts it; what it prints goes to `output`.
    #[must_use]
    pub fn spawn(command: &mut Command, output: &Path) -> Self {
        let file = std::fs::File::create(output).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output: output.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal by name (`HUP`, `TERM`). The shell's builtin: this house forbids `unsafe`.
    pub fn signal(&self, name: impl AsRef<OsStr>) {
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" \"$1\""]).arg(name).arg(self.child.id().to_string());
        assert_eq!(run(&mut kill).code, 0, "the process {} takes signals", self.child.id());
    }

    /// Ends it at once (SIGKILL), as a crash or a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // Asked first, so that a server with children of its own (nginx) takes them along.
        self.signal("TERM");
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
