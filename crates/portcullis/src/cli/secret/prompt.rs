//! How a value comes in.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrets::SecretString;
use zeroize::Zeroizing;

use crate::cli::exit::CliError;
use crate::cli::{out, source};

/// A value from the file, or from standard input, asked for twice and without echo if that is a terminal.
pub(super) fn value(name: &str, file: Option<&Path>) -> Result<SecretString, CliError> {
    if file.is_none() && io::stdin().is_terminal() {
        let question = format!("value of `{}`: ", out::printable(name));
        let (first, again) = without_echo(|| Ok((answer(&question)?, answer("again: ")?)))?;
        if *first != *again {
            return Err(CliError::Unreadable("the two values differ: nothing is stored".to_owned()));
        }
        return Ok(one_line_end_less(&first).into());
    }
    let file = file.unwrap_or(Path::new("-"));
    let bytes = Zeroizing::new(source::bytes(file)?);
    let text = str::from_utf8(&bytes).map_err(|_| CliError::read(file, &"it is not UTF-8"))?;
    Ok(one_line_end_less(text).into())
}

/// Asks while the terminal that is standard input shows nothing of what is typed but line ends.
fn without_echo<T>(ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let answers = ask();
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    answers
}

fn answer(question: &str) -> io::Result<Zeroizing<String>> {
    out::complain(question);
    let mut line = Zeroizing::new(String::with_capacity(TERMINAL_LINE));
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

fn one_line_end_less(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// No terminal gives more at once (`N_TTY_BUF_SIZE`): the line is not copied while it grows.
const TERMINAL_LINE: usize = 4096;
