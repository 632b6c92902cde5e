//! A child process, from clone to exec: identity, working directory, signals, program.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use crate::config::cmdline::entrypoint::Unexecutable;
use crate::config::plan::{Limited, ResourcePlan};
use crate::error::{Context, Error, Result};
use crate::identity::{Confinement, DropError, Identity};
use crate::init::child::environment::{DEFAULT_PATH, Environment};
use crate::init::child::failure::{Failure, Step};
use crate::init::child::foreground::Stand;
use crate::init::child::interpreter;
use crate::init::child::listen_fds::{self, Socket};
use crate::init::child::outputs::Outputs;
use crate::init::child::resources;
use crate::protocol::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::shell;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Script, Strings, exec_in_path};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{fd, signal, spawn};

/// The longest report of a failure that a child sends.
const REPORT_MAX: usize = 1024;

/// The working directory of children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workdir {
    /// The directory in which PID 1 was started. The configuration did not ask for it, so a user who may not
    /// enter it runs in the root directory.
    Inherited(PathBuf),
    /// The directory that the configuration names.
    Chosen(PathBuf),
}

impl Workdir {
    /// In the child: enters the directory.
    fn enter(&self) -> Result<()> {
        match self {
            Self::Chosen(path) => {
                let entered = rustix::process::chdir(path);
                let why = entered.err().filter(|errno| *errno == Errno::ACCESS);
                let clue = |error: Error| error.with_clue(why.and_then(|_| interpreter::refusal(path)));
                entered.context("chdir", path.display()).map_err(clue)
            }
            Self::Inherited(path) => {
                let root = |_| rustix::process::chdir(c"/");
                rustix::process::chdir(path).or_else(root).context("chdir", "/")
            }
        }
    }

    /// Changes to `path`, which may be relative.
    pub fn change(&mut self, path: &Path) {
        let (Self::Inherited(base) | Self::Chosen(base)) = self;
        *self = Self::Chosen(base.join(path));
    }
}

/// The state that a child takes on before its work.
pub struct Launch<'a> {
    /// A function that the child calls before anything else, with the rights of PID 1.
    pub first: Option<&'a dyn Fn() -> Result<()>>,
    /// The identity to take on; `None` for no change.
    pub identity: Option<&'a Identity>,
    /// The limits of its privileges, which also hold for every program that it executes.
    pub confinement: Option<Confinement>,
    /// The working directory; `None` for no change.
    pub workdir: Option<&'a Workdir>,
    /// The environment of a program.
    pub environment: &'a Environment,
    /// Whether the variables that name a process by its pid are set, to the pid of this child. Other children
    /// do not get them.
    pub is_named: bool,
    /// File mode creation mask; `None` for no change.
    pub umask: Option<u32>,
    /// Whether the child leads a session of its own, without a terminal, so that everything that it started
    /// can be killed with it.
    pub own_session: bool,
    /// Whether the kernel kills the child when PID 1 dies. In a pid namespace the end of PID 1 kills all
    /// processes anyway.
    pub dies_with_us: bool,
    /// Whether PID 1 may wait in the exec of the program: it then hears nothing meanwhile.
    pub may_be_waited_for: bool,
    /// For the command of an entrypoint: its process group or session. Such a child inherits all descriptors
    /// that this process was started with.
    pub stand: Option<&'a Stand>,
    /// The exit statuses for a program that cannot be executed; `None` for the statuses that a shell has.
    pub unexecutable: Option<Unexecutable>,
    /// Descriptors that the child inherits under the same numbers.
    pub passed: &'a [BorrowedFd<'a>],
    /// Listening sockets, which the child gets from descriptor 3 on. In this process they and `passed` have
    /// higher numbers.
    pub sockets: &'a [Socket],
    /// The resource limits; `None` for no change.
    pub resources: Option<&'a ResourcePlan>,
    /// Where a program writes to.
    pub outputs: &'a Outputs,
    /// The signal mask and dispositions of the child.
    pub signals: &'a signal::Inherited,
    /// The filter of system calls.
    pub filter: Option<&'a [Instruction]>,
    /// A signal that is set to its default action, even if this process was started with that signal ignored.
    pub heard: Option<i32>,
}

/// A child that was created.
#[derive(Debug)]
pub struct Launched {
    /// Its process.
    pub pid: Pid,
    report: Report,
}

/// How a child reports its progress.
#[derive(Debug)]
enum Report {
    /// Over this pipe, which the exec of the program closes.
    Pipe(OwnedFd),
    /// Its progress is known: the exec, or the failure, happened before the child's creation returned.
    Known(Result<(), Failure>),
}

/// The result of a child's work, or its failure.
type Outcome = Result<String, Failure>;

/// Turns an error into the failure of a step.
fn of_step(step: Step) -> impl Fn(Error) -> Failure {
    move |error| Failure::of_setup(step, error)
}

impl Launch<'_> {
    /// Creates a child that executes a program, which is searched for in PATH.
    ///
    /// # Errors
    /// No process or pipe can be created. A later failure, in the child, is told by [`Launched::progress`].
    pub fn program(&self, argv: &[OsString]) -> Result<Launched> {
        self.start(&[(argv.first().map(OsString::as_os_str).unwrap_or_default(), Strings::new(argv))])
    }

    /// Creates a child that runs a command of a shell's. The shell is left out if it would only start the one
    /// program.
    ///
    /// # Errors
    /// As [`Launch::program`].
    pub fn command(&self, command: &OsStr) -> Result<Launched> {
        let (words, plain) = (shell::words(command), shell::plain_words(command));
        let by_shell = (words[0], Strings::new(words));
        match plain.first() {
            // The shell tells what is wrong with what cannot be executed, or runs a script without `#!`.
            Some(first) => self.start(&[(first, Strings::new(&plain)), by_shell]),
            None => self.start(&[by_shell]),
        }
    }

    /// Creates a child that executes the first of these programs that can be executed.
    fn start(&self, programs: &[(&OsStr, Strings)]) -> Result<Launched> {
        let envp = self.environment.strings();
        if self.needs_nothing() {
            return self.spawn(programs, &envp);
        }
        let last = programs.last().map(|(program, _)| *program).unwrap_or_default();
        self.create(last, true, &|| Err(self.become_one_of(programs, &envp)))
    }

    /// Whether the child does nothing before the exec that could fail or wait.
    fn needs_nothing(&self) -> bool {
        self.may_be_waited_for
            && self.identity.is_none_or(Identity::is_unchanged)
            && self.confinement.is_none_or(|confinement| confinement.is_none())
            && self.workdir.is_none()
            && self.passed.is_empty()
            && self.sockets.is_empty()
            && self.resources.is_none_or(|plan| *plan == ResourcePlan::default())
            && !self.own_session
            && !self.dies_with_us
            && self.filter.is_none()
            && self.outputs.are_inherited()
            && self.first.is_none()
    }

    /// Creates a child that shares the memory of this process until the exec. To copy the memory would be
    /// most of the cost of a start.
    fn spawn(&self, programs: &[(&OsStr, Strings)], envp: &Strings) -> Result<Launched> {
        let mut known = Ok(());
        let pid = spawn::spawn(true, || {
            self.take_stand();
            self.signals.restore_beside_parent();
            let failure = self.become_one_of(programs, envp);
            let status = failure.status;
            known = Err(failure);
            status
        });
        let last = programs.last().map(|(program, _)| *program).unwrap_or_default();
        let pid = pid.context("start", last.display())?;
        Ok(Launched { pid, report: Report::Known(known) })
    }

    fn unexecuted(&self, program: &OsStr, errno: Errno) -> Failure {
        let of_another = [Errno::NOENT, Errno::ACCESS].contains(&errno);
        let (mut object, mut blamed) = (program.to_owned(), interpreter::found(program, &self.path()));
        if let Some((what, name)) = of_another.then(|| interpreter::culprit(program, &self.path())).flatten()
        {
            let is_from_dos = name.as_bytes().ends_with(b"\r");
            for text in [", its ", what, " "] {
                object.push(text);
            }
            object.push(&name);
            object.push(if is_from_dos { " (a carriage return at its end)" } else { "" });
            blamed = Some(name);
        }
        let blamed = blamed.filter(|_| errno == Errno::ACCESS);
        let clue = blamed.and_then(|file| interpreter::refusal(Path::new(&file)));
        let error = Error::os("execute", object.display(), errno).with_clue(clue);
        // The kernel does not refuse the change of the user, but the program, with this error (execve(2)).
        let limit = Limited::Processes;
        let is_its = |plan: &ResourcePlan| plan.limits.iter().any(|other| other.value.resource == limit);
        if errno == Errno::AGAIN && self.resources.is_some_and(is_its) {
            return Failure::of_setup(Step::Limit(limit), error);
        }
        Failure { step: Step::Work, error, status: self.status_for(errno) }
    }

    /// The exit status of a child that could not execute its program.
    fn status_for(&self, errno: Errno) -> i32 {
        match (errno, &self.unexecutable) {
            (Errno::NOENT | Errno::NOTDIR, None) => EXIT_NOT_FOUND,
            (_, None) => EXIT_NOT_EXECUTABLE,
            (Errno::NOENT, Some(statuses)) => statuses.missing,
            (Errno::NOTDIR, Some(statuses)) => statuses.astray,
            (Errno::ACCESS, Some(statuses)) => statuses.denied,
            (_, Some(statuses)) => statuses.other,
        }
    }

    /// Creates a child that does `work` and ends. [`Launched::progress`] returns the text that `work`
    /// returned.
    ///
    /// # Errors
    /// As [`Launch::program`].
    pub fn work(&self, work: impl Fn() -> Result<String>) -> Result<Launched> {
        self.create(OsStr::new("a child process"), false, &|| work().map_err(of_step(Step::Work)))
    }

    fn create(&self, name: &OsStr, has_program: bool, life: &dyn Fn() -> Outcome) -> Result<Launched> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (report, mut child_report) =
            rustix::pipe::pipe_with(flags).context("create a pipe for", name.display())?;
        if !self.sockets.is_empty() {
            child_report = rustix::io::fcntl_dupfd_cloexec(&child_report, listen_fds::above(self.sockets))
                .context("keep free for the app", "its descriptors")?;
        }
        let parent = rustix::process::getpid();
        match clone3(0).context("start", name.display())? {
            Side::Parent(child) => Ok(Launched { pid: child.pid, report: Report::Pipe(report) }),
            Side::Child => {
                let (status, message) = match self.prepare(parent, has_program).and_then(|()| life()) {
                    Ok(said) if said.is_empty() => (0, Vec::new()),
                    Ok(said) => (0, [b"\0", said.as_bytes()].concat()),
                    Err(failure) => (failure.status, failure.to_bytes()),
                };
                if !message.is_empty() {
                    let _ = rustix::io::write(&child_report, message.get(..REPORT_MAX).unwrap_or(&message));
                }
                clone::exit(status)
            }
        }
    }

    /// In the child: takes on its state.
    fn prepare(&self, parent: Pid, has_program: bool) -> Result<(), Failure> {
        if self.own_session {
            // setsid(2) cannot fail in a process that has just been created.
            let _ = rustix::process::setsid();
        }
        self.take_stand();
        self.first.map_or(Ok(()), |first| first()).map_err(of_step(Step::Work))?;
        if let Some(plan) = self.resources {
            resources::take_on(plan)?;
        }
        if let Some(identity) = self.identity {
            let dropped = identity.assume_by_parts(self.confinement);
            dropped.map_err(|DropError { part, error }| Failure::of_setup(Step::Drop(part), error))?;
        }
        if self.dies_with_us {
            // After the last change of identity, because such a change clears the signal (prctl(2)).
            let set = clone::die_with(parent).context("set", "the parent death signal");
            set.map_err(of_step(Step::ParentDeath))?;
        }
        if has_program {
            // Before the first step that may wait for a filesystem, so that who waits can be ended; after
            // the stand, as who takes a terminal may be stopped for it.
            self.signals.restore();
        }
        // As the user. Root could be led to a directory that the user may not enter, and root cannot enter a
        // FUSE mount of the user.
        if let Some(workdir) = self.workdir {
            workdir.enter().map_err(of_step(Step::Workdir))?;
        }
        if has_program {
            self.outputs.take().context("redirect", "the output").map_err(of_step(Step::Descriptors))?;
        }
        self.pass_descriptors().map_err(of_step(Step::Descriptors))?;
        // Last, because the filter may refuse the system calls of the other steps.
        let set = self.filter.map_or(Ok(()), seccomp::install).context("install", "the filter of seccomp");
        set.map_err(of_step(Step::Seccomp))
    }

    fn pass_descriptors(&self) -> Result<()> {
        if self.stand.is_none() {
            (0..3).for_each(|number| fd::set_cloexec(number, false));
            fd::cloexec_from(3);
        }
        for fd in self.passed {
            rustix::io::fcntl_setfd(fd, FdFlags::empty()).context("pass on", "a descriptor")?;
        }
        listen_fds::place(self.sockets)
    }

    /// In the child: moves to its process group or session, and sets its umask.
    fn take_stand(&self) {
        if let Some(stand) = self.stand {
            stand.take();
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
    }

    /// The directories in which programs are searched for.
    fn path(&self) -> OsString {
        self.environment.path().unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// Executes the first of these programs that can be executed; returns only on failure, with that of the
    /// last one.
    fn become_one_of(&self, programs: &[(&OsStr, Strings)], envp: &Strings) -> Failure {
        let path = self.path();
        self.heard.into_iter().for_each(signal::set_default);
        let script = if self.stand.is_some() { Script::ForShell } else { Script::Refused };
        let of_child = if self.is_named { self.environment.strings_of_child() } else { None };
        let mut failure = (OsStr::new(""), Errno::NOENT);
        for (program, argv) in programs {
            let errno = exec_in_path(program, &path, script, argv, of_child.as_ref().unwrap_or(envp));
            failure = (program, errno);
        }
        self.unexecuted(failure.0, failure.1)
    }
}

impl Launched {
    /// The descriptor that is readable when [`Launched::progress`] may have changed.
    pub fn report(&self) -> Option<BorrowedFd<'_>> {
        match &self.report {
            Report::Pipe(pipe) => Some(pipe.as_fd()),
            Report::Known(_) => None,
        }
    }

    /// How far the child has come. The exec of the program closes the child's end of the pipe without a
    /// report.
    pub fn progress(&self) -> Progress {
        let pipe = match &self.report {
            Report::Known(Ok(())) => return Progress::AtWork,
            Report::Known(Err(failure)) => return Progress::Failed(failure.clone()),
            Report::Pipe(pipe) => pipe,
        };
        let mut message = [0; REPORT_MAX];
        match rustix::io::read(pipe, &mut message) {
            Ok(0) => Progress::AtWork,
            Ok(length) => match message.get(..length).unwrap_or_default() {
                [0, said @ ..] => Progress::Said(String::from_utf8_lossy(said).into_owned()),
                failure => Failure::from_bytes(failure).map_or(Progress::AtWork, Progress::Failed),
            },
            Err(_) => Progress::Preparing,
        }
    }
}

/// How far a child has come.
#[derive(Debug)]
pub enum Progress {
    /// It has not executed its program yet.
    Preparing,
    /// Its program runs, or its work is done and has no result.
    AtWork,
    /// Its work is done, with this result.
    Said(String),
    /// It failed before the exec, or in its work.
    Failed(Failure),
}
