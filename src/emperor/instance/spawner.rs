//! Creates instances: a process in its own namespaces, which runs vassal-init.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, getpid, getrlimit};

use super::cgroup_removal::Removals;
use super::cgroups::{Cgroup, Cgroups};
use super::id_shares::{Ids, Share};
use super::kept_sockets::Kept;
use super::mark::mark;
use super::on_demand;
use super::origin::Origin;
use super::process::Process;
use super::text::Reader;
use crate::cgroup;
use crate::config::plan::{Address, EmperorPlan, Located, OnDemand, Tyrant};
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::owner::{Owner, Owners};
use crate::emperor::core::vassal::Proven;
use crate::emperor::core::vassal_file::{VassalFile, as_file_name};
use crate::emperor::deputy;
use crate::emperor::owned_file;
use crate::error::{Cause, Context, Error, Result};
use crate::files;
use crate::log;
use crate::outside::{self, SetLimit};
use crate::protocol::{
    EXIT_NOT_EXECUTABLE, ExitReason, FileOwner, Hello, LINK_VARIABLE, OPTIONS_MAX, SetupFailure, ToVassal,
    send,
};
use crate::sys::clone::{self, clone3_into};
use crate::sys::exec::{Strings, exec_fd};
use crate::sys::fd;
use crate::sys::low_numbers::{self, Lent, LowNumbers};
use crate::sys::memfd::{self, Use};
use crate::user_namespace::{Gate, Maps, explain, map_trees};

/// The prefix of variables that are meant for vassals.
const FOR_VASSALS: &[u8] = b"UWSGI_VASSAL_";

/// Both ends of the link to a new process, and how it gets its IDs.
type Greeted<'a> = (OwnedFd, OwnedFd, Option<(&'a Maps, Gate)>);

/// How many of the emperor's descriptors an instance takes.
const FILES_PER_INSTANCE: u64 = 1;
/// How many descriptors the emperor itself needs: for its sockets and their clients, for directories, for an
/// instance that is being created, and to be lent.
const FILES_OF_OUR_OWN: u64 = 60;

/// The files that every instance is created with.
#[derive(Debug, Clone)]
pub struct InstanceFiles {
    /// vassal-init as a sealed memory file, so that all instances run the same program, also while its file
    /// is being replaced.
    pub vassal_init: Rc<OwnedFd>,
    /// `/dev/null`, for where a descriptor has to be and there is no file.
    pub null: Rc<OwnedFd>,
}

/// The content of a vassal's file.
#[derive(Debug, Default)]
pub struct ReadFile {
    /// Its version before the read, so that a change during the read is noticed later.
    pub version: FileVersion,
    /// Its owner.
    pub owner: Owner,
    /// A sealed copy; `None` if the file is a program that prints the configuration, or if it is a file with
    /// an address and does not exist.
    pub copy: Option<OwnedFd>,
    /// The [number of its text](super::text); `None` if each change of the file counts.
    pub text: Option<u64>,
    /// Whether the copy is no file, but what the configuration of an instance of before was made of.
    pub is_transcript: bool,
    /// The process that was to find out that number, if it hangs and does not end.
    pub hanging: Option<Pid>,
}

/// The settings and files that all instances share.
pub struct Spawner {
    files: InstanceFiles,
    namespaces: u64,
    ids: Option<Ids>,
    map_trees: Vec<Located<PathBuf>>,
    as_vassal: Vec<(String, OsString)>,
    log_dir: Option<PathBuf>,
    before: Vec<(String, OsString)>,
    behind: Vec<(String, OsString)>,
    tyrant: Option<Tyrant>,
    on_demand: Option<OnDemand>,
    magic_exec: bool,
    cgroups: Option<Cgroups>,
    /// What new processes need of the emperor's descriptors, unless they get a copy of all.
    low_numbers: Option<LowNumbers>,
    /// The removals of the cgroups of ended instances, including those that the program before an upgrade has
    /// made.
    removals: Rc<Removals>,
    environment: Vec<(OsString, OsString)>,
    heartbeat: Duration,
    stop_timeout: Duration,
    origin: Rc<Origin>,
}

/// uWSGI's own default for `emperor-required-heartbeat`.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The longest time for which a user's vassal may delay the end of the emperor.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

impl Spawner {
    /// A spawner for the instances of `plan`.
    ///
    /// # Errors
    /// The hooks for vassals are too long for one message; or there are no IDs for their user namespaces.
    pub fn new(
        plan: &EmperorPlan,
        origin: Rc<Origin>,
        files: InstanceFiles,
        cgroups: Option<Cgroups>,
    ) -> Result<Self> {
        let vassals = &plan.vassals;
        // With room for the key and for the longest name of a file.
        let log = vassals.log_dir.iter().map(|directory| (" ".repeat(300), directory.clone().into()));
        let log: Vec<_> = log.collect();
        let options = vassals.as_vassal.iter().chain(&vassals.before).chain(&vassals.behind).chain(&log);
        if !Hello::options_fit(options) {
            let reason = format!("together longer than {OPTIONS_MAX} bytes");
            return Err(Error::new("hand on", "the hooks and options for vassals", reason));
        }
        let mut environment = for_vassals(&origin.environment);
        if let Some(heartbeat) = vassals.heartbeat {
            // In the form of sd_watchdog_enabled(3).
            let micros = u64::try_from(heartbeat.as_micros()).unwrap_or(u64::MAX);
            environment.push(("WATCHDOG_USEC".into(), micros.to_string().into()));
        }
        if plan.json_log {
            environment.retain(|(name, _)| name != log::VARIABLE);
            environment.push((log::VARIABLE.into(), "json".into()));
        }
        let is_low = files.vassal_init.as_raw_fd() < low_numbers::END;
        Ok(Self {
            low_numbers: is_low.then(|| LowNumbers::reserve(&files.null)).flatten(),
            files,
            namespaces: vassals.namespaces,
            ids: Ids::of(vassals)?,
            map_trees: vassals.map_trees.clone(),
            as_vassal: vassals.as_vassal.clone(),
            log_dir: vassals.log_dir.clone(),
            before: vassals.before.clone(),
            behind: vassals.behind.clone(),
            tyrant: plan.tyrant,
            on_demand: vassals.on_demand.as_ref().map(|rule| rule.value.clone()),
            magic_exec: vassals.magic_exec,
            cgroups,
            removals: Rc::default(),
            environment,
            heartbeat: vassals.heartbeat.unwrap_or(HEARTBEAT),
            stop_timeout: stop_timeout(plan),
            origin,
        })
    }

    /// How long an app that has sent a heartbeat may go without the next one.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// The longest time that an instance gets for its stop.
    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout
    }

    /// Whether no instance can start, since its cgroup would be frozen.
    pub fn is_frozen(&self) -> bool {
        self.cgroups.as_ref().is_some_and(Cgroups::are_frozen)
    }

    /// The cgroups to be removed.
    pub fn removals(&self) -> &Rc<Removals> {
        &self.removals
    }

    /// The emperor's limit of open files, and how many instances it has room for beside so many kept sockets.
    pub fn room(sockets: u64) -> (u64, u64) {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        (limit, limit.saturating_sub(sockets + FILES_OF_OUR_OWN) / FILES_PER_INSTANCE)
    }

    /// Checks that the emperor's limit of open files has room for so many instances and kept sockets. The
    /// last descriptors are not for vassals: without any, no client could ask even for the status.
    ///
    /// # Errors
    /// There is no room.
    pub fn has_room(&self, instances: usize, sockets: u64) -> Result<()> {
        let (limit, most) = Self::room(sockets);
        if instances as u64 > most {
            let clue = format!("the limit for all vassals is {limit} (setrlimit(2), systemd's LimitNOFILE)");
            return Err(Error::os("open", "a descriptor", Errno::MFILE).with_clue(Some(clue)));
        }
        Ok(())
    }

    /// Reads a file with an address.
    ///
    /// # Errors
    /// As [`on_demand::open_file`], and as read(2).
    pub fn read_address(&self, path: &Path) -> Result<ReadFile> {
        let file = on_demand::open_file(path, self.is_tyrant())?;
        let bytes = file.map(files::read_all).transpose().context("read", path.display())?;
        let copy = bytes.map(|bytes| sealed(&bytes, path)).transpose()?;
        Ok(ReadFile { copy, ..ReadFile::default() })
    }

    /// Reads the file of a vassal, and finds out the number of its text if `with_text`.
    ///
    /// # Errors
    /// The file cannot be read or copied, or tyrant mode does not allow it.
    pub fn read(&self, path: &Path, with_text: bool) -> Result<ReadFile> {
        let owners = Owners::of(self.tyrant);
        let version = owned_file::version(path, owners);
        if self.magic_exec && access(path, Access::READ_OK | Access::EXEC_OK).is_ok() {
            let status = rustix::fs::stat(path).context("look at", path.display())?;
            let owner = Owner { uid: status.st_uid, gid: status.st_gid };
            return Ok(ReadFile { version, owner, ..ReadFile::default() });
        }
        let (text, owner) = content(path, owners)?;
        let reader = Reader {
            path,
            text: &text,
            around: [&self.before, &self.behind],
            environment: &self.environment,
            owner: self.owner_of(owner),
        };
        let (number, hanging) = match if with_text { reader.number() } else { Ok(None) } {
            Ok(number) => (number, None),
            Err(pid) => (None, Some(pid)),
        };
        let copy = Some(sealed(&text, path)?);
        Ok(ReadFile { version, owner, copy, text: number, hanging, ..ReadFile::default() })
    }

    /// What an instance was made of, in the place of its file.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn instead(&self, path: &Path, proven: &Proven) -> Result<ReadFile> {
        let copy = Some(sealed(&proven.text, path)?);
        Ok(ReadFile { owner: proven.owner, copy, is_transcript: true, ..ReadFile::default() })
    }

    /// Creates the process of an instance; `is_one_of_several` if its vassal may have others.
    ///
    /// A failure at the exec or later is reported over the link.
    ///
    /// # Errors
    /// The kernel provides no process, namespace or descriptor.
    pub fn spawn(
        &self,
        id: &InstanceId,
        is_one_of_several: bool,
        file: &ReadFile,
        kept: &mut Kept,
        lends: bool,
    ) -> Result<Process> {
        let (path, owner, mut hello) = (&id.file, file.owner, self.greeting(id, file));
        let owned = self.is_tyrant();
        kept.belong_to(if owned { owner } else { Owner::default() });
        let made = match &self.cgroups {
            Some(cgroups) => cgroups.make(id, &self.removals)?,
            None => None,
        };
        let (cgroup, into) = made.unzip();
        hello.is_one_of_several = is_one_of_several;
        hello.kept = kept.newest().count() as u64;
        hello.cgroup = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()).unwrap_or_default();
        let taken = self.ids.as_ref().map(|ids| ids.take(path.name())).transpose()?;
        let (maps, share) = taken.unzip();
        let (ours, theirs, ids) = self.greet(hello, file, maps.as_ref())?;
        kept.send(&ours, lends).context("send", "the sockets that were kept")?;
        let into = cgroup.as_ref().map(Cgroup::path).zip(into.as_ref().map(AsFd::as_fd));
        let pid = self.create(path, &theirs, self.namespaces, ids, into)?;
        Ok(Process {
            pid,
            link: Some(ours),
            owner,
            owned,
            cgroup,
            noted: Vec::new(),
            sockets: None,
            ids: share.flatten(),
            reads: Default::default(),
        })
    }

    /// Creates a process that reads the configuration of a vassal, as this instance would, and ends. Returns
    /// the emperor's end of the link, over which the process sends its result.
    ///
    /// # Errors
    /// As [`Spawner::spawn`].
    pub fn check(&self, id: &InstanceId, file: &ReadFile) -> Result<(Pid, OwnedFd)> {
        let (path, mut hello) = (&id.file, self.greeting(id, file));
        hello.is_check = true;
        let maps = self.ids.as_ref().map(|ids| ids.for_check(path.name())).transpose()?;
        let (ours, theirs, ids) = self.greet(hello, file, maps.as_ref())?;
        // In a pid namespace if at all possible, so that everything it has started ends with it.
        let pid = if self.namespaces == 0 { 0 } else { libc::CLONE_NEWPID as u64 };
        Ok((self.create(path, &theirs, self.namespaces | pid, ids, None)?, ours))
    }

    /// The share of the emperor's IDs that a running process has.
    pub fn share_of(&self, file: &VassalFile, pid: Pid) -> Option<Share> {
        self.ids.as_ref()?.of_running(file.name(), pid)
    }

    /// Whom PID 1 becomes for a file of this owner, in tyrant mode.
    fn owner_of(&self, Owner { uid, gid }: Owner) -> Option<FileOwner> {
        self.tyrant.map(|Tyrant { initgroups, .. }| FileOwner { uid, gid, initgroups })
    }

    /// The greeting for a new process.
    fn greeting(&self, InstanceId { file: path, number }: &InstanceId, file: &ReadFile) -> Hello {
        Hello {
            name: path.name().to_owned(),
            path: path.to_path_buf(),
            namespaces: self.namespaces,
            as_vassal: self.as_vassal.iter().cloned().chain(self.log_of(path)).collect(),
            is_program: file.copy.is_none(),
            is_transcript: file.is_transcript,
            replica: *number,
            is_one_of_several: false,
            is_check: false,
            kept: 0,
            owner: self.owner_of(file.owner),
            cgroup: PathBuf::new(),
            before: self.before.clone(),
            behind: self.behind.clone(),
        }
    }

    /// The file that a vassal writes to, as an option for it (`log-dir`).
    fn log_of(&self, file: &VassalFile) -> Option<(String, OsString)> {
        let directory = self.log_dir.as_ref()?.as_os_str().as_bytes();
        let place = [b"file:", directory, b"/", &as_file_name(file.name()), b".log"].concat();
        Some(("standard-output".to_owned(), OsString::from_vec(place)))
    }

    /// A link that already holds the greeting and the file, before there is a process to read them; for one
    /// in a user namespace also with a gate to its IDs. If this fails, no process has to be ended.
    fn greet<'a>(&self, hello: Hello, file: &ReadFile, maps: Option<&'a Maps>) -> Result<Greeted<'a>> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context("create", "link")?;
        let file = file.copy.as_ref().unwrap_or(&self.files.null);
        send(&ours, &ToVassal::Hello(hello).encode(), Some(file)).context("send", "the vassal's file")?;
        let Some(maps) = maps else { return Ok((ours, theirs, None)) };
        let gate = Gate::new()?;
        send(&ours, &ToVassal::Outside.encode(), Some(gate.inside())).context("send", "a socket")?;
        Ok((ours, theirs, Some((maps, gate))))
    }

    /// Creates the process, with its end of the link.
    fn create(
        &self,
        path: &VassalFile,
        link: &OwnedFd,
        namespaces: u64,
        ids: Option<(&Maps, Gate)>,
        cgroup: Option<(&Path, BorrowedFd<'_>)>,
    ) -> Result<Pid> {
        let ((maps, gate), (cgroup, into)) = (ids.unzip(), cgroup.unzip());
        let inside = gate.as_ref().map(Gate::inside);
        let lent = self.low_numbers.as_ref().and_then(|numbers| {
            let lent = numbers.lend([Some(link.as_fd()), inside.map(AsFd::as_fd)])?;
            Some((numbers, lent))
        });
        let own = [link.as_raw_fd(), inside.map_or(-1, AsRawFd::as_raw_fd)];
        let [link, inside] = lent.map_or(own, |(_, Lent(numbers))| numbers);
        let argv = Strings::new([OsStr::new("vassal-init"), path.name()]);
        let variable = (LINK_VARIABLE.into(), link.to_string().into());
        let variables = self.environment.iter().chain([&variable]);
        let envp = Strings::environment(variables);
        let process = if namespaces == 0 { "process" } else { "process in new namespaces" };
        let emperor = getpid();
        let shares = if lent.is_some() { libc::CLONE_FILES as u64 } else { 0 };
        let become_vassal_init = |is_copy| -> ! {
            // First, as what follows may wait, and whatever the emperor's end frees would be in use.
            let _ = clone::die_with(emperor);
            let left = lent.map_or(Ok(()), |(numbers, lent)| numbers.leave(lent));
            self.become_vassal_init(emperor, is_copy, left, [link, inside], &argv, &envp)
        };
        // One that waits for its IDs needs the emperor meanwhile. One in a cgroup of its own may be frozen
        // there, wait for a processor, or be killed with all whose memory it shares.
        let may_share_memory = gate.is_none() && into.is_none();
        let vforked =
            may_share_memory.then(|| clone::vfork(namespaces | shares, || become_vassal_init(false)));
        let child = match vforked {
            // Without clone3, clone(2) can still make a copy.
            None | Some(Err(Errno::NOSYS | Errno::PERM | Errno::INVAL)) => {
                clone3_into(namespaces | shares, into)
                    .map(|pid| pid.unwrap_or_else(|| become_vassal_init(true)))
            }
            Some(result) => result,
        };
        if let Some((numbers, lent)) = lent {
            numbers.give(lent, child.as_ref().ok().copied());
        }
        let pid = child
            .map_err(|errno| Error::os("create", process, errno).with_clue(explain(errno, namespaces)))?;
        if let (Some(maps), Some(gate)) = (maps, gate) {
            give(maps, &self.map_trees, gate, pid, cgroup)?;
        }
        Ok(pid)
    }

    /// Closes what was lent to new processes. Returns whether none of these may share the emperor's table of
    /// descriptors still: after an exec of the emperor's, that process would have all of the table.
    pub fn tidy(&self) -> bool {
        self.low_numbers.as_ref().is_none_or(LowNumbers::tidy)
    }

    /// The address of the on-demand socket of the vassal whose file is at `path`; `None` if the vassal is not
    /// on demand, or if another file or a command must be asked.
    pub fn demand(&self, path: &VassalFile) -> Option<Address> {
        match self.on_demand.as_ref()? {
            OnDemand::Directory(directory) => {
                Some(on_demand::in_directory(directory, path, self.is_tyrant()))
            }
            OnDemand::Extension(_) | OnDemand::Command(_) => None,
        }
    }

    /// The file with the address of the on-demand socket of the vassal whose file is at `path`.
    pub fn address_file(&self, path: &VassalFile) -> Option<PathBuf> {
        let Some(OnDemand::Extension(extension)) = &self.on_demand else { return None };
        let mut beside = path.as_os_str().to_owned();
        beside.push(extension);
        Some(beside.into())
    }

    /// Whether instances have no pid namespace of their own, so that their processes do not end with them.
    pub fn shares_pids(&self) -> bool {
        self.namespaces & libc::CLONE_NEWPID as u64 == 0
    }

    /// Whether vassals run as the owners of their files.
    pub fn is_tyrant(&self) -> bool {
        self.tyrant.is_some()
    }

    /// How many vassals a user may have.
    pub fn max_per_owner(&self) -> usize {
        self.tyrant.and_then(|tyrant| tyrant.max).map_or(usize::MAX, |max| max as usize)
    }

    /// Whether a process may continue with a file that now belongs to `owner`.
    pub fn may_run(&self, process: &Process, owner: Owner) -> bool {
        !self.is_tyrant() || (process.owned && process.owner == owner)
    }

    /// The child: never returns, and waits for nothing but its IDs, if they are given to it. It has `left`
    /// the emperor's table of descriptors, if it shared that. If it is a copy, nobody waits for its exec.
    fn become_vassal_init(
        &self,
        emperor: Pid,
        is_copy: bool,
        left: Result<(), Errno>,
        [link, inside]: [RawFd; 2],
        argv: &Strings,
        envp: &Strings,
    ) -> ! {
        let Ok(link) = fd::inherited(link) else { clone::exit(EXIT_NOT_EXECUTABLE) };
        if let Err(errno) = left {
            end(&link, "spawn", &Error::os("copy", "descriptors", errno));
        }
        if is_copy {
            // Before what may wait, as whatever the emperor has closed would stay open for so long.
            fd::close_all_but([link.as_raw_fd(), self.files.vassal_init.as_raw_fd(), inside]);
        }
        if let Ok(inside) = fd::inherited(inside) {
            if let Err(error) = Gate::wait_at(inside) {
                end(&link, "namespaces", &error);
            }
            // Anew, as new IDs clear it.
            let _ = clone::die_with(emperor);
        }
        let _ = rustix::process::chdir(c"/");
        let _ = rustix::io::fcntl_setfd(&link, FdFlags::empty());
        self.origin.begin_anew();
        if self.shares_pids() {
            mark();
        }
        let errno = exec_fd(&*self.files.vassal_init, argv, envp);
        end(&link, "spawn", &Error::os("execute", "vassal-init", errno))
    }
}

/// Ends a new process that could not become vassal-init. It may allocate: it has a copy of the emperor's
/// memory, which has one thread, or the emperor sleeps.
fn end(link: &OwnedFd, phase: &str, error: &Error) -> ! {
    let (what, errno) = (error.to_string(), error.errno());
    let failure = SetupFailure { phase: phase.into(), index: 0, what, errno };
    let _ = send(link, &ExitReason::Setup(failure).encode(), None);
    clone::exit(EXIT_NOT_EXECUTABLE)
}

/// Gives a new process its IDs, and its trees; then does for it what takes a process outside. All of that is
/// done in a process apart, as programs that give IDs and looks at files may take long.
fn give(maps: &Maps, trees: &[Located<PathBuf>], gate: Gate, pid: Pid, cgroup: Option<&Path>) -> Result<()> {
    let life = |outside| {
        let given = maps.give(pid).and_then(|()| map_trees(pid, trees));
        Gate::open(&outside, &given);
        if given.is_ok() {
            let set = cgroup.map(|cgroup| move |file: &Path, value: &[u8]| set_limit(cgroup, file, value));
            outside::serve(&outside, set.as_ref().map(|set| set as &SetLimit<'_>));
        }
    };
    deputy::start(c"emperor-ids", gate.outside(), life).map(drop)
}

/// Writes to a file of a cgroup, for its PID 1.
fn set_limit(cgroup: &Path, file: &Path, value: &[u8]) -> Result<(), Errno> {
    if file.parent() != Some(cgroup) {
        return Err(Errno::ACCESS);
    }
    cgroup::write(file, value).map_err(|cause| match cause {
        Cause::Os(errno) => errno,
        Cause::Because(_) => Errno::ACCESS,
    })
}

/// The longest time to stop that is granted to an instance by a plan.
fn stop_timeout(plan: &EmperorPlan) -> Duration {
    plan.vassals.stop_timeout.unwrap_or(match plan.tyrant {
        Some(_) => STOP_TIMEOUT,
        None => Duration::MAX,
    })
}

/// The environment of vassals, made from the emperor's as in uWSGI: `UWSGI_VASSAL_X` becomes `UWSGI_X`, and
/// variables between the emperor and its own starter are left out.
pub fn for_vassals(environment: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    const OURS: [&str; 4] = ["UWSGI_RELOADS", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    let mut result: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in environment {
        if let Some(rest) = name.as_bytes().strip_prefix(FOR_VASSALS) {
            result.push((OsString::from_vec([b"UWSGI_", rest].concat()), value.clone()));
        }
    }
    for (name, value) in environment {
        let is_meant = name.as_bytes().starts_with(FOR_VASSALS);
        let is_ours = OURS.iter().any(|ours| name == ours);
        if !is_meant && !is_ours && !result.iter().any(|(other, _)| other == name) {
            result.push((name.clone(), value.clone()));
        }
    }
    result
}

/// Reads a file. Opening does not block, whatever is at the path. Only a regular file of at most 1 MiB is
/// accepted.
fn content(path: &Path, owners: Owners) -> Result<(Vec<u8>, Owner)> {
    let (file, owner) = if owners == Owners::Ignored {
        let file = files::open_file(path).context("open", path.display())?;
        let status = rustix::fs::fstat(&file).context("look at", path.display())?;
        (file, Owner { uid: status.st_uid, gid: status.st_gid })
    } else {
        owned_file::open(path, owners)?
    };
    Ok((files::read_all(file).context("read", path.display())?, owner))
}

fn sealed(bytes: &[u8], path: &Path) -> Result<OwnedFd> {
    memfd::sealed("vassal", bytes, Use::Read).context("copy", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_tyrant_mode_a_stop_has_a_limit_that_nobody_has_written() {
        let mut plan = EmperorPlan::default();
        assert_eq!(stop_timeout(&plan), Duration::MAX);
        plan.tyrant = Some(Tyrant::default());
        assert_eq!(stop_timeout(&plan), Duration::from_secs(60));
        plan.vassals.stop_timeout = Some(Duration::from_secs(7));
        assert_eq!(stop_timeout(&plan), Duration::from_secs(7));
    }

    #[test]
    fn variables_meant_for_vassals_lose_their_mark_and_win() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let ours = pairs(&[
            ("PATH", "/bin"),
            ("UWSGI_CHEAP", "0"),
            ("NOTIFY_SOCKET", "/run/notify"),
            ("WATCHDOG_USEC", "1000"),
            ("UWSGI_RELOADS", "3"),
            ("UWSGI_VASSAL_CHEAP", "1"),
        ]);
        assert_eq!(for_vassals(&ours), pairs(&[("UWSGI_CHEAP", "1"), ("PATH", "/bin")]));
    }
}
