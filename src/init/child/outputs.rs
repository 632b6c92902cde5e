//! Where the app and the commands of hooks write to.

use std::os::fd::OwnedFd;

use rustix::io::Result;
use rustix::process::Pid;

use crate::init::child::relay::Relay;
use crate::sys::fd;

/// Where standard output and standard error of children go.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Standard output.
    pub out: Stream,
    /// Standard error; `None` for the same as standard output.
    pub err: Option<Stream>,
    /// What takes the place of PID 1's.
    pub guard: Option<Stream>,
}

/// One of them.
#[derive(Debug, Default)]
pub enum Stream {
    /// That of PID 1.
    #[default]
    Inherited,
    /// That of PID 1, for this reason in the place of another one.
    Instead(String),
    /// Nowhere.
    Null(OwnedFd),
    /// The journal, over this connection, under this identifier.
    Journal(OwnedFd, String),
    /// A file, by a relay that reads the other end of this pipe.
    File(OwnedFd, Relay),
}

impl Outputs {
    /// Whether both are those of PID 1.
    pub fn are_inherited(&self) -> bool {
        self.guard.is_none() && self.out.fd().is_none() && self.errors().fd().is_none()
    }

    /// In a child: makes them its own.
    ///
    /// # Errors
    /// As dup2(2).
    pub fn take(&self) -> Result<()> {
        // Those of PID 1 are where they are. One of them may be for the other number, too.
        let (err, guard) = (self.errors(), self.guard.as_ref().and_then(Stream::fd));
        for (stream, number) in [(&self.out, 1), (err, 2)] {
            if let Some(fd) = stream.fd().or(guard) {
                fd::place(fd, number)?;
            }
        }
        Ok(())
    }

    /// The relays, which are no processes of the app's.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        [Some(&self.out), self.err.as_ref(), self.guard.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Stream::relay)
    }

    /// The processes of the relays.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.relays().map(Relay::pid)
    }

    /// Both places, for the emperor: that of errors is in a second line if it is another one. Empty if both
    /// are those of PID 1, as they are to be.
    pub fn places(&self) -> String {
        match &self.err {
            None | Some(Stream::Inherited) if matches!(self.out, Stream::Inherited) => String::new(),
            None => self.out.place(),
            Some(err) => format!("{}\n{}", self.out.place(), err.place()),
        }
    }

    /// The stream of errors.
    pub fn errors(&self) -> &Stream {
        self.err.as_ref().unwrap_or(&self.out)
    }
}

impl Stream {
    fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Inherited | Self::Instead(_) => None,
            Self::Null(fd) | Self::Journal(fd, _) | Self::File(fd, _) => Some(fd),
        }
    }

    fn relay(&self) -> Option<&Relay> {
        match self {
            Self::File(_, relay) => Some(relay),
            _ => None,
        }
    }

    /// As the key has it, with the reason for another one.
    fn place(&self) -> String {
        match self {
            Self::Inherited => "inherit".to_owned(),
            Self::Instead(why) => format!("inherit: {why}"),
            Self::Null(_) => "null".to_owned(),
            Self::Journal(..) => "journal".to_owned(),
            Self::File(_, relay) => format!("file:{}", relay.path.display()),
        }
    }

    /// The last line, or where it is; `None` if nothing can be said of that.
    pub fn last_line(&self) -> Option<String> {
        match self {
            Self::Inherited | Self::Instead(_) | Self::Null(_) => None,
            Self::Journal(_, identifier) => Some(format!("see: journalctl -t '{identifier}'")),
            Self::File(_, relay) => Some(match relay.last_line()? {
                line if line.is_empty() => "it has written nothing".to_owned(),
                line => format!("its last line: {line}"),
            }),
        }
    }
}
