//! What a command in a vassal reads and writes: copied between the caller's descriptors and a terminal or
//! pipes of the command's own, so that no process in a vassal has a descriptor of the caller's, or can type
//! at the caller's terminal.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{isatty, tcgetwinsize, tcsetwinsize};

use crate::protocol::WaitStatus;
use crate::running_time;
use crate::sys::signal::{self, SignalFd};
use crate::sys::terminal::Settings;

/// How much is copied at a time. A pipe that polls as writable takes as much without blocking.
const PIECE: usize = 4096;

/// The ends of a command's descriptors, and the caller's.
pub(super) struct Relay {
    streams: Vec<Stream>,
    /// The descriptors 0 to 2 of the command.
    pub(super) of_command: [OwnedFd; 3],
    /// The command's terminal, and how the caller's was set, if there is one.
    terminal: Option<(OwnedFd, Settings)>,
}

/// One direction. An end that has hung up is closed.
struct Stream {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    held: Vec<u8>,
}

impl Relay {
    /// A terminal, if the caller has one, or else pipes.
    ///
    /// # Errors
    /// EMFILE, ENFILE; there is no `/dev/ptmx` (openpt(3)).
    pub(super) fn new() -> Result<Self, Errno> {
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let copy = |fd| fcntl_dupfd_cloexec(fd, 3);
        let stream = |from, to| Stream { from: Some(from), to: Some(to), held: Vec::with_capacity(PIECE) };
        if isatty(stdin) && isatty(stdout) {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let (terminal, settings) = (openpt(flags)?, Settings::of(stdin)?);
            unlockpt(&terminal)?;
            let peer = ioctl_tiocgptpeer(&terminal, flags)?;
            let _ = settings.set(&peer);
            rustix::io::ioctl_fionbio(&terminal, true)?;
            let streams = vec![
                stream(copy(stdin)?, copy(terminal.as_fd())?),
                stream(copy(terminal.as_fd())?, copy(stdout)?),
            ];
            let of_command = [copy(peer.as_fd())?, copy(peer.as_fd())?, peer];
            return Ok(Self { streams, of_command, terminal: Some((terminal, settings)) });
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((input, to), (from, output), (errors, error)) = (pipe()?, pipe()?, pipe()?);
        for end in [&to, &from, &errors] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let streams = vec![
            stream(copy(stdin)?, to),
            stream(from, copy(stdout)?),
            stream(errors, copy(rustix::stdio::stderr())?),
        ];
        Ok(Self { streams, of_command: [input, output, error], terminal: None })
    }

    /// Whether the command has a terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Copies until the command has ended and all that it has written is copied. Signals go to the command.
    /// Every signal must be blocked.
    ///
    /// # Errors
    /// signalfd(2), waitpid(2).
    pub(super) fn run(self, command: Pid) -> Result<WaitStatus, Errno> {
        let Self { mut streams, of_command, terminal } = self;
        drop(of_command);
        let signals = SignalFd::new()?;
        let stdin = rustix::stdio::stdin();
        if let Some((terminal, settings)) = &terminal {
            fit(terminal);
            settings.raw().set(stdin)?;
        }
        let result = copy_all(&mut streams, &signals, command, terminal.as_ref().map(|(fd, _)| fd));
        if let Some((_, settings)) = &terminal {
            let _ = settings.set(stdin);
        }
        result
    }
}

/// Gives the command's terminal the size of the caller's.
fn fit(terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(terminal, size);
    }
}

fn copy_all(
    streams: &mut [Stream],
    signals: &SignalFd,
    command: Pid,
    terminal: Option<&OwnedFd>,
) -> Result<WaitStatus, Errno> {
    let mut status = None;
    loop {
        while let Some(signal) = signals.next() {
            match (signal.number, terminal) {
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(terminal)) => fit(terminal),
                // Its own group, as of a shell's job.
                (number, _) => _ = signal::kill(-command.as_raw_pid(), number),
            }
        }
        if status.is_none()
            && let Some((_, ended)) = waitpid(Some(command), WaitOptions::NOHANG)?
        {
            status = WaitStatus::of(ended);
        }
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        let waits_for = |stream: &Stream| stream.held.is_empty();
        for stream in streams.iter() {
            let (end, flags) = match waits_for(stream) {
                true => (&stream.from, PollFlags::IN),
                false => (&stream.to, PollFlags::OUT),
            };
            // What has hung up is asked for nothing.
            fds.push(
                end.as_ref().map_or(PollFd::new(signals, PollFlags::empty()), |end| PollFd::new(end, flags)),
            );
        }
        // Who it has left behind may write for ever; what it has written itself is there already.
        let holds = streams.iter().skip(1).any(|stream| stream.to.is_some() && !stream.held.is_empty());
        let until = status.filter(|_| !holds).map(|_| running_time::now());
        let _ = running_time::poll(&mut fds, until);
        let ready: Vec<_> = fds.iter().skip(1).map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut has_moved = false;
        // The first one is the command's input.
        for (index, (stream, is_ready)) in streams.iter_mut().zip(ready).enumerate() {
            if is_ready {
                has_moved |= index > 0;
                stream.go_on();
            }
        }
        if let Some(status) = status.filter(|_| !has_moved && !holds) {
            return Ok(status);
        }
    }
}

impl Stream {
    /// Reads or writes a piece. Both ends are closed once one of them has hung up.
    fn go_on(&mut self) {
        let (Some(from), Some(to)) = (&self.from, &self.to) else { return };
        let result = if self.held.is_empty() {
            let mut piece = [0; PIECE];
            let read = rustix::io::read(from, &mut piece);
            self.held.extend(piece.iter().take(read.unwrap_or_default()));
            read
        } else {
            let written = rustix::io::write(to, &self.held);
            self.held.drain(..written.unwrap_or_default().min(self.held.len()));
            written
        };
        match result {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => (self.from, self.to) = (None, None),
        }
    }
}
