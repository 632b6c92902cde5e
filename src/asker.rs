//! The machine as a configuration sees it, looked at by a process of its own: a path may lead to a filesystem
//! that hangs. Who reads the configuration waits for each answer, but hears a signal to stop meanwhile, and
//! can say which path it waits for.
//!
//! The same questions can be answered in another way, as by a [`Transcript`](crate::transcript::Transcript).

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::config::{Host, Status, World};
use crate::error::{Cause, Context, Error, Result, received};
use crate::files::{open_file, read_to_end};
use crate::log;
use crate::log::Elapsed;
use crate::signal_names;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::fd::write_all;
use crate::sys::signal;
use crate::world::{Machine, NoCommands, variable};

/// When an answer is late.
const LATE: Duration = Duration::from_secs(2);
/// How often signals are looked for while an answer is waited for.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The signals that end a start.
const STOPS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// What becomes of a question whose answer is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLate {
    /// It has failed.
    GiveUp,
    /// It is told in the log, and waited for until a signal to stop comes.
    WaitOn,
}

/// Whether this process has been told to stop.
pub fn is_told_to_stop() -> bool {
    STOPS.into_iter().any(signal::is_pending)
}

/// The questions, by their numbers. These, and the form of the [answers](answer), are in the saved state of
/// the emperor (`emperor::core::saved`), as parts of transcripts: a change takes another `VERSION` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The content of a file.
    Read,
    /// That of a program, which may be large.
    ReadProgram,
    /// The names in a directory.
    Names,
    /// Its status.
    Status,
    /// The path without links.
    RealPath,
    /// The output of a command and the like.
    Resource,
}

const QUESTIONS: [Question; 6] = [
    Question::Read,
    Question::ReadProgram,
    Question::Names,
    Question::Status,
    Question::RealPath,
    Question::Resource,
];

/// The process that looks, and this side of it.
pub struct Asker<'a> {
    /// Who answers, if no other process is asked.
    here: Option<Here<'a>>,
    /// The process, once something was asked, and the link to it.
    child: OnceCell<(Pid, OwnedFd)>,
    when_late: WhenLate,
    is_told: Cell<bool>,
    /// Why no more is asked.
    stuck: RefCell<Option<Error>>,
}

/// What it takes to answer questions here.
struct Here<'a> {
    answer: &'a dyn Fn(Question, &Path) -> Vec<u8>,
    /// The variables that the file of an owner may see (tyrant mode); `None` without an owner.
    environment: Option<&'a [(OsString, OsString)]>,
}

/// Runs `load` with a world whose paths another process looks at.
///
/// # Errors
/// A path was not looked at: its filesystem does not answer, or a signal to stop came first. Without such a
/// process: EAGAIN, ENOMEM, EMFILE.
pub fn apart<T>(when_late: WhenLate, load: impl FnOnce(&Asker<'_>) -> T) -> Result<T> {
    let asker = Asker::new(when_late, None);
    let loaded = load(&asker);
    let Asker { child, stuck, .. } = asker;
    let stuck = stuck.into_inner();
    if let Some((child, link)) = child.into_inner() {
        drop(link);
        if stuck.is_some() {
            let _ = signal::kill(child.as_raw_pid(), libc::SIGKILL);
        } else {
            let _ = retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
        }
    }
    stuck.map_or(Ok(loaded), Err)
}

impl<'a> Asker<'a> {
    fn new(when_late: WhenLate, here: Option<Here<'a>>) -> Self {
        let (child, is_told, stuck) = (OnceCell::new(), Cell::new(false), RefCell::new(None));
        Self { here, child, when_late, is_told, stuck }
    }

    /// A world whose questions are answered by that function. An owner's file (`emperor-tyrant`) sees this
    /// environment, and runs no commands.
    pub fn here(
        answer: &'a dyn Fn(Question, &Path) -> Vec<u8>,
        environment: Option<&'a [(OsString, OsString)]>,
    ) -> Self {
        Self::new(WhenLate::WaitOn, Some(Here { answer, environment }))
    }

    /// The link to the process, which is started for the first question: many configurations have none.
    fn link(&self) -> Result<&OwnedFd> {
        if self.child.get().is_none() {
            let started = start().context("create", "a process")?;
            let _ = self.child.set(started);
        }
        let ended = || Error::new("ask", "a process", "there is none");
        self.child.get().map(|(_, link)| link).ok_or_else(ended)
    }

    /// The content of a program's file, which may be large.
    ///
    /// # Errors
    /// As open(2) and read(2); or the file is not a regular one.
    pub fn program(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        self.content(Question::ReadProgram, path)
    }

    fn content(&self, question: Question, path: &Path) -> Result<Vec<u8>, Cause> {
        let answer = self.ask(question, path);
        let not_asked = || Cause::Because("it was not looked at".into());
        let (kind, rest) = answer.split_first().ok_or_else(not_asked)?;
        match (kind, rest.split_first_chunk()) {
            (1, _) => Ok(rest.to_vec()),
            (_, Some((errno, b""))) => Err(Cause::Os(received(i32::from_le_bytes(*errno)))),
            (_, reason) => {
                let reason = reason.map_or(rest, |(_, reason)| reason);
                Err(Cause::Because(String::from_utf8_lossy(reason).into_owned().into()))
            }
        }
    }

    /// The answer to a question; empty if there is none.
    fn ask(&self, question: Question, path: &Path) -> Vec<u8> {
        if let Some(Here { answer, .. }) = self.here {
            return answer(question, path);
        }
        if self.stuck.borrow().is_some() {
            return Vec::new();
        }
        let path_bytes = path.as_os_str().as_bytes();
        let packet = [&[question as u8], &(path_bytes.len() as u64).to_le_bytes()[..], path_bytes].concat();
        let answer = self.link().map_err(Some).and_then(|link| {
            write_all(link.as_fd(), &packet).map_err(|_| None)?;
            let began = Instant::now();
            receive(link, &mut || self.wait(link, question, path, began))
        });
        answer.unwrap_or_else(|error: Option<Error>| {
            let ended = || Error::new(question.verb(), path.display(), "who was to do it has ended");
            *self.stuck.borrow_mut() = Some(error.unwrap_or_else(ended));
            Vec::new()
        })
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// It is waited for no longer.
    fn wait(
        &self,
        link: &OwnedFd,
        question: Question,
        path: &Path,
        began: Instant,
    ) -> Result<(), Option<Error>> {
        let failed = |why: &str| Error::new(question.verb(), path.display(), why);
        while !poll(&mut [PollFd::new(link, PollFlags::IN)], Some(&PAUSE)).is_ok_and(|count| count > 0) {
            if let Some(stop) = STOPS.into_iter().find(|stop| signal::is_pending(*stop)) {
                return Err(Some(failed(&format!("{} came first", signal_names::name(stop)))));
            }
            if began.elapsed() < LATE {
                continue;
            }
            let error = failed(&format!("not done after {}: does its filesystem answer?", Elapsed(LATE)));
            match self.when_late {
                WhenLate::GiveUp => return Err(Some(error)),
                WhenLate::WaitOn if self.is_told.replace(true) => {}
                WhenLate::WaitOn => log!("{error}; waiting for it"),
            }
        }
        Ok(())
    }
}

/// Starts the process; returns the link to it.
fn start() -> rustix::io::Result<(Pid, OwnedFd)> {
    let (link, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let parent = rustix::process::getpid();
    match clone3(0)? {
        Side::Parent(child) => Ok((child.pid, link)),
        Side::Child => {
            let _ = clone::die_with(parent);
            let _ = rustix::thread::set_name(c"vassal-asker");
            drop(link);
            answer_all(&theirs);
            clone::exit(0)
        }
    }
}

impl Question {
    fn verb(self) -> &'static str {
        match self {
            Self::Read | Self::ReadProgram | Self::Resource => "read",
            Self::Names | Self::Status | Self::RealPath => "look at",
        }
    }
}

/// Receives bytes after their number. `wait` is called before each read.
///
/// # Errors
/// That of `wait`; `None` if the other end is closed.
fn receive(
    link: &OwnedFd,
    wait: &mut dyn FnMut() -> Result<(), Option<Error>>,
) -> Result<Vec<u8>, Option<Error>> {
    let mut exactly = |length: usize| {
        let (mut bytes, mut done) = (vec![0; length], 0);
        while done < length {
            wait()?;
            match retry_on_intr(|| read(link, bytes.get_mut(done..).unwrap_or_default())) {
                Ok(count @ 1..) => done += count,
                _ => return Err(None),
            }
        }
        Ok(bytes)
    };
    let length = exactly(size_of::<u64>())?;
    exactly(u64::from_le_bytes(length.try_into().unwrap_or_default()) as usize)
}

/// In the child: answers until the other end is closed.
fn answer_all(link: &OwnedFd) {
    let mut question = [0];
    while retry_on_intr(|| read(link, &mut question)) == Ok(1)
        && let Some(question) = QUESTIONS.get(usize::from(question[0]))
        && let Ok(path) = receive(link, &mut || Ok(()))
    {
        let answer = answer(*question, Path::new(OsStr::from_bytes(&path)));
        let packet = [&(answer.len() as u64).to_le_bytes()[..], &answer].concat();
        if write_all(link.as_fd(), &packet).is_err() {
            return;
        }
    }
}

/// The answer of the machine to a question, as bytes, whose form must not change by itself
/// ([`Question`]).
pub fn answer(question: Question, path: &Path) -> Vec<u8> {
    let content = |content: Result<Vec<u8>, Cause>| match content {
        Ok(content) => [&[1], &*content].concat(),
        Err(Cause::Os(errno)) => [&[0], &errno.raw_os_error().to_le_bytes()[..]].concat(),
        Err(Cause::Because(reason)) => [&[0; 5], reason.as_bytes()].concat(),
    };
    match question {
        Question::Read => content(Machine.read(path)),
        Question::ReadProgram => content(open_file(path).and_then(|file| Ok(read_to_end(file)?))),
        Question::Resource => content(Machine.resource(path.as_os_str()).map(Option::unwrap_or_default)),
        Question::Names => {
            let names = Machine.names(path).into_iter().map(|name| [name.as_bytes(), b"\0"].concat());
            names.collect::<Vec<_>>().concat()
        }
        Question::Status => Machine.status(path).map_or_else(Vec::new, |status| {
            let flags = [status.is_file, status.is_directory, status.symlink].map(u8::from);
            let numbers = [status.uid, status.mode].map(u32::to_le_bytes);
            [&flags[..], &status.inode.to_le_bytes(), numbers.as_flattened()].concat()
        }),
        Question::RealPath => {
            Machine.real_path(path).map_or_else(Vec::new, |path| path.into_os_string().into_vec())
        }
    }
}

impl World for Asker<'_> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        self.content(Question::Read, path)
    }

    /// A command has a time limit of its own.
    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        match self.here {
            None => Machine.resource(name),
            Some(Here { environment: None, .. }) => {
                self.content(Question::Resource, Path::new(name)).map(Some)
            }
            Some(_) => NoCommands::Refused(&[]).resource(name),
        }
    }

    fn trusts_cwd(&self) -> bool {
        !matches!(self.here, Some(Here { environment: Some(_), .. }))
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        let names = self.ask(Question::Names, directory);
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        names.map(|name| OsStr::from_bytes(name).to_owned()).collect()
    }

    fn status(&self, path: &Path) -> Option<Status> {
        let answer = self.ask(Question::Status, path);
        let (&[is_file, is_directory, symlink], numbers) = answer.split_first_chunk()?;
        let (inode, numbers) = numbers.split_first_chunk()?;
        let (uid, mode) = numbers.split_first_chunk()?;
        Some(Status {
            is_file: is_file == 1,
            is_directory: is_directory == 1,
            symlink: symlink == 1,
            inode: u64::from_le_bytes(*inode),
            uid: u32::from_le_bytes(*uid),
            mode: u32::from_le_bytes(mode.try_into().ok()?),
        })
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        let path = self.ask(Question::RealPath, path);
        if path.is_empty() { None } else { Some(OsString::from_vec(path).into()) }
    }

    fn cwd(&self) -> PathBuf {
        Machine.cwd()
    }

    fn env(&self, name: &OsStr) -> Option<OsString> {
        match self.here {
            Some(Here { environment: Some(variables), .. }) => variable(variables, name),
            _ => Machine.env(name),
        }
    }

    fn host(&self) -> &dyn Host {
        &Machine
    }

    fn user_name(&self) -> OsString {
        Machine.user_name()
    }

    fn group_name(&self) -> OsString {
        Machine.group_name()
    }
}
