//! `emperor enter`: a command in the namespaces, root directory and control group of a vassal.
//!
//! The process has a terminal or pipes of its own ([`Relay`]), no descriptor of the caller's, and no more
//! capabilities than the vassal's app may have. It runs as root of the vassal, with the environment of
//! PID 1, which no app can write; or as the app's user, with the app's environment.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, chroot, fchdir, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, move_into_link_name_space};

use super::processes::{Instance, Status, app_of, instances};
use super::relay::Relay;
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::identity::{Confinement, Identity};
use crate::log;
use crate::protocol::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Script, Strings, exec_in_path};
use crate::sys::{environment, fd, signal, terminal};

/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The shells, the better one first. Files of the vassal that a shell would run at its start could be
/// anybody's, and take longer than all the rest.
const SHELLS: [&[&str]; 2] = [&["/bin/bash", "--norc"], &["/bin/sh"]];
/// The namespaces besides those of users and of pids.
const NAMESPACES: [&str; 5] = ["cgroup", "ipc", "mnt", "net", "uts"];

/// How the names of variables begin that are for one process only.
const OF_ONE: [&str; 5] = ["NOTIFY_SOCKET", "UWSGI_EMPEROR_FD", "VASSAL_LINK", "LISTEN_", "WATCHDOG_"];

/// What to run.
pub(super) struct Task<'a> {
    /// The command and its arguments; empty for a shell.
    pub(super) command: &'a [OsString],
    /// Whether to run it as the app's user.
    pub(super) as_user: bool,
}

/// Where to run it.
struct Place {
    /// The directory of procfs of the app, or of PID 1 if there is no app to be found.
    process: OwnedFd,
    /// That of the process whose environment counts.
    environment: OwnedFd,
    root: OwnedFd,
    cwd: Option<OwnedFd>,
    user: Option<OwnedFd>,
    pids: Option<OwnedFd>,
    others: Vec<OwnedFd>,
}

/// Runs a task in the vassal of an answer of the emperor's, to its exit status. `is_still` asks whether the
/// answer is still right.
///
/// # Errors
/// The vassal is not up, or has been started anew meanwhile; or a step has failed that this process does.
pub(super) fn enter(answer: &str, task: &Task<'_>, is_still: &dyn Fn() -> bool) -> Result<i32> {
    let is_up = |instance: &Instance<'_>| matches!(instance.state, "running" | "reloading");
    let names: Vec<_> = instances(answer).map(|one| one.name).collect();
    let of_number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    let vassal = |name: &str| match name.rsplit_once('/') {
        Some((vassal, number)) if of_number(number) => vassal.to_owned(),
        _ => name.to_owned(),
    };
    if names.windows(2).any(|two| matches!(two, [one, other] if one != other && vassal(one) != vassal(other)))
    {
        return Err(Error::new("enter", names.join(", "), "these are several vassals: name one"));
    }
    let Some(Instance { pid, app, name, .. }) = instances(answer).find(is_up) else {
        let (name, state) = instances(answer).next().map_or(("", "gone"), |one| (one.name, one.state));
        return Err(Error::new("enter", name, format_args!("it is not up: {state}")));
    };
    let place = Place::of(pid, app, task.as_user).map_err(|errno| Error::os("enter", name, errno))?;
    if !is_still() {
        return Err(Error::new("enter", name, "it has been started anew: try again"));
    }
    let relay = Relay::new().context("make", "a terminal for the command")?;
    let group = files::read_file_at(&place.process, "cgroup").unwrap_or_default();
    let variables = place.variables(relay.has_terminal());
    signal::block_all();
    // An ordinary user has rights in the other namespaces through that of users only. Root has all rights,
    // until it enters that one.
    let is_root = rustix::process::geteuid().is_root();
    let (first, last) = if is_root { (None, &place.user) } else { (place.user.as_ref(), &None) };
    // The pid namespace takes effect for children only.
    first.into_iter().chain(&place.pids).try_for_each(join).context("enter the namespaces of", name)?;
    match clone3(0).context("create", "a process")? {
        Side::Parent(child) => relay.run(child.pid).context("run", "the command").map(|status| status.code()),
        Side::Child => {
            let _ = rustix::process::setsid();
            for (number, end) in relay.of_command.iter().enumerate() {
                let _ = fd::place(end, number as i32);
            }
            if relay.has_terminal() {
                let _ = terminal::adopt(&relay.of_command[0]);
            }
            let error = match place.take(&group, last.as_ref(), task.as_user) {
                Ok(()) => run(task, name, &variables),
                Err(error) => (EXIT_NOT_EXECUTABLE, error),
            };
            log::print_error(&format!("emperor: {}\n", error.1));
            clone::exit(error.0)
        }
    }
}

/// Executes the command, or the first shell that there is. Returns the exit status and the reason if none can
/// be executed.
fn run(task: &Task<'_>, name: &str, variables: &[(OsString, OsString)]) -> (i32, Error) {
    let path = variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let environment = Strings::environment(variables);
    fd::cloexec_from(3);
    signal::set_defaults();
    let execute =
        |program: &OsStr, argv: &Strings| exec_in_path(program, path, Script::ForShell, argv, &environment);
    let (program, errno) = match task.command.first() {
        Some(program) => (program.as_os_str(), execute(program, &Strings::new(task.command))),
        None => {
            let mut errno = Errno::NOENT;
            for shell in SHELLS {
                errno = execute(OsStr::new(shell.first().unwrap_or(&"sh")), &Strings::new(shell));
            }
            if errno == Errno::NOENT {
                let reason = "it has no shell: give a command behind '--'";
                return (EXIT_NOT_FOUND, Error::new("enter", name, reason));
            }
            (OsStr::new("a shell"), errno)
        }
    };
    let status = if errno == Errno::NOENT { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE };
    (status, Error::os("execute", program.display(), errno))
}

/// Enters a namespace.
fn join(namespace: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(rustix::fd::AsFd::as_fd(namespace), None)
}

impl Place {
    /// Opens all that belongs to the vassal with this PID 1.
    fn of(pid: i32, app: i32, as_user: bool) -> Result<Self, Errno> {
        let directory = |pid: i32| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
        };
        let init = directory(pid)?;
        let process = match app_of(pid, app) {
            Some(app) => directory(app)?,
            None => directory(pid)?,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = directory(rustix::process::getpid().as_raw_pid())?;
        // A namespace that this process is in already cannot be entered, or need not be.
        let foreign = |name: &str| {
            let name = "ns/".to_owned() + name;
            let open = |at: &OwnedFd| {
                let fd = openat(at, &name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                let stat = fstat(&fd)?;
                Ok::<_, Errno>((fd, (stat.st_dev, stat.st_ino)))
            };
            match open(&process) {
                Ok((_, id)) if id == open(&own)?.1 => Ok(None),
                Ok((theirs, _)) => Ok(Some(theirs)),
                // The kernel has no such namespaces.
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(errno),
            }
        };
        let mut others = Vec::new();
        for name in NAMESPACES {
            others.extend(foreign(name)?);
        }
        Ok(Self {
            root: openat(&process, "root", flags, Mode::empty())?,
            cwd: openat(&process, "cwd", flags, Mode::empty()).ok(),
            user: foreign("user")?,
            pids: foreign("pid")?,
            others,
            environment: if as_user { rustix::io::dup(&process)? } else { init },
            process,
        })
    }

    /// The variables for the command: those of the vassal, without what names one process.
    fn variables(&self, has_terminal: bool) -> Vec<(OsString, OsString)> {
        let text = files::read_file_at(&self.environment, "environ").unwrap_or_default();
        let mut all = Vec::new();
        for entry in text.split(|&byte| byte == 0) {
            let mut parts =
                entry.splitn(2, |&byte| byte == b'=').map(|part| OsStr::from_bytes(part).to_owned());
            if let (Some(name), Some(value)) = (parts.next(), parts.next())
                && !OF_ONE.iter().any(|start| name.as_bytes().starts_with(start.as_bytes()))
                && !(has_terminal && name == "TERM")
            {
                all.push((name, value));
            }
        }
        if let Some(terminal) = environment::variable("TERM").filter(|_| has_terminal) {
            all.push(("TERM".into(), terminal));
        }
        all
    }

    /// In the new process: goes there. `users` is a namespace of users that was not entered before.
    fn take(&self, group: &[u8], users: Option<&OwnedFd>, as_user: bool) -> Result<()> {
        // From here on no process of the vassal's may look into this one.
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        hidden.context("hide", "the process")?;
        if let Err(error) = join_cgroup(group) {
            log::print_error(&format!("emperor: not in the cgroup of the vassal: {error}\n"));
        }
        self.others.iter().chain(users).try_for_each(join).context("enter", "its namespaces")?;
        fchdir(&self.root).and_then(|()| chroot(".")).context("change to", "its root directory")?;
        let may_stay = self.cwd.as_ref().is_some_and(|cwd| fchdir(cwd).is_ok());
        if !may_stay {
            rustix::process::chdir("/").context("change to", "its root directory")?;
        }
        // In the namespace of users, so that the numbers are those in it.
        let status = Status::from(files::read_file_at(&self.process, "status").unwrap_or_default());
        let set = |name| {
            let bits = status.words(name).next().and_then(|bits| u64::from_str_radix(bits, 16).ok());
            CapabilitySet::from_bits_retain(bits.unwrap_or_default())
        };
        let id = |name| {
            let word = status.words(name).nth(1).and_then(|id| id.parse::<u32>().ok());
            word.ok_or_else(|| Error::new("read", "the user of its app", "it has ended"))
        };
        let (uid, gid) = (id("Uid:")?, id("Gid:")?);
        let groups = status.words("Groups:").filter_map(|group| group.parse().ok());
        let identity = match as_user {
            true => Identity { uid: Some(uid), gid: Some(gid), groups: Some(groups.collect()) },
            false => Identity { uid: Some(0), gid: Some(0), groups: Some(Vec::new()) },
        };
        identity.assume(Some(Confinement {
            capabilities: if as_user { set("CapPrm:") } else { CapabilitySet::empty() },
            dropped_of_root: CapabilitySet::empty(),
            dropped: set("CapBnd:").complement(),
            no_new_privs: status.words("NoNewPrivs:").next() == Some("1"),
        }))
    }
}

/// Moves this process into the control group of a process, by the text of its file `cgroup`.
fn join_cgroup(of_process: &[u8]) -> Result<()> {
    let own = files::read_file("/proc/self/cgroup").unwrap_or_default();
    let path = of_process.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"));
    let Some(path) = path.filter(|_| own != of_process) else { return Ok(()) };
    let usual = Path::new("/sys/fs/cgroup");
    let beside = usual.join("unified");
    let is_beside = cgroup::is_version_2(&beside).unwrap_or(false);
    let procs = (if is_beside { &beside } else { usual }).join(OsStr::from_bytes(path)).join("cgroup.procs");
    cgroup::write(&procs, b"0").map_err(|cause| Error::new("write to", procs.display(), cause))
}
