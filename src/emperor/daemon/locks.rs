//! One emperor for each directory: two would run every vassal twice.
//!
//! The lock on a directory is an abstract unix socket (unix(7)) whose name has the device and the inode of
//! the directory. A descriptor with a file lock (flock(2)) would keep the filesystem of the directory from
//! being unmounted, any user who can read the directory could take the lock, and the lock does not tell who
//! holds it. The socket needs nothing of the filesystem, is passed on in an upgrade, and vanishes with its
//! emperor; the kernel tells which process listens. It is visible in its network namespace only, so replicas
//! in containers that share a directory do not hinder each other.
//!
//! A pattern has the lock of the directory in which its wildcards begin, with a hash of the rest of the
//! pattern in the name.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, major, minor, statx};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use rustix::process::{Pid, geteuid, test_kill_process};

use crate::config::plan::{Address, Located, Source};
use crate::emperor::api::server::{Server, Service};
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::text::hash;
use crate::emperor::deputy::{Deputy, close_apart, tell};
use crate::emperor::discovery::directories::anchored;
use crate::emperor::discovery::patterns::fixed_part;
use crate::emperor::discovery::scan::directory_id;
use crate::error::{Error, Result};
use crate::log;
use crate::log::Elapsed;
use crate::place::Place;
use crate::protocol::Received;
use crate::retry;
use crate::running_time;
use crate::sys::peer;

/// How long a start waits for an emperor that may be ending, and how long for the answer of one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a start waits for an emperor that is stopping its vassals: as long as systemd would.
const PATIENCE_WITH_STOPPING: Duration = Duration::from_secs(90);
/// The pause between two tries.
pub const PAUSE: Duration = Duration::from_millis(50);

/// The locks of an emperor.
pub struct Locks(Vec<Lock>);

struct Lock {
    /// The directory.
    directory: PathBuf,
    /// The rest of a pattern; empty for a directory.
    rest: PathBuf,
    /// The directory that was found at the last look.
    id: Option<FileId>,
    /// The name of the lock that is held; empty if none is held.
    held: String,
    /// Why it is not held, as logged.
    trouble: Option<Error>,
    /// Whether another emperor holds it.
    is_others: bool,
}

/// Another emperor, which holds a lock.
struct Holder {
    /// Its pid; 0 if it is in another pid namespace.
    pid: i32,
    is_stopping: bool,
}

impl Locks {
    /// No lock is held yet. Relative paths start at `cwd`.
    pub fn new(sources: &[Located<Source>], cwd: &Path) -> Self {
        let lock = |source: &Located<Source>| {
            let path: PathBuf = cwd.join(source.value.path()).components().collect();
            let source = anchored(source, cwd).value;
            let directory = fixed_part(&source);
            let rest = path.strip_prefix(directory).unwrap_or(&path).to_owned();
            Lock {
                directory: directory.to_owned(),
                rest,
                id: None,
                held: String::new(),
                trouble: None,
                is_others: false,
            }
        };
        Self(sources.iter().map(lock).collect())
    }

    /// Takes every lock that can be taken. A directory that does not exist has none. `pause` waits for a
    /// moment each time that another emperor may be ending.
    ///
    /// # Errors
    /// Another emperor holds a lock; or the error of `pause`.
    pub fn take(&mut self, server: &mut Server, pause: impl Fn() -> Result<()>) -> Result<()> {
        for lock in &mut self.0 {
            let (began, mut patience) = (running_time::now(), PATIENCE);
            while let Some(holder) = lock.take(server, PATIENCE) {
                if holder.is_stopping && patience == PATIENCE {
                    patience = PATIENCE_WITH_STOPPING;
                    log!("{}: waiting up to {}", lock.refused(&holder), Elapsed(patience));
                }
                if running_time::since(began) >= patience {
                    return Err(lock.refused(&holder));
                }
                pause()?;
            }
        }
        Ok(())
    }

    /// Has a deputy look at the directories, because no scout runs yet. A directory that hangs is not waited
    /// for.
    pub fn look(&mut self) {
        let looks = |link| {
            for (index, lock) in self.0.iter().enumerate() {
                if let Some(FileId { device, inode }) = directory_id(&lock.directory) {
                    tell(&link, &[index as u64, device, inode].map(u64::to_le_bytes).concat(), None);
                }
            }
        };
        let deputy = match Deputy::start(c"emperor-looks", looks) {
            Ok(deputy) => deputy,
            Err(error) => return log!("{error}: there is no lock on the directories yet"),
        };
        while let Some(Ok(Received::Packet(packet, _))) = deputy.hear(PATIENCE) {
            let mut numbers =
                packet.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
            if let [Some(index), Some(device), Some(inode)] = [(); 3].map(|()| numbers.next())
                && let Some(lock) = self.0.get_mut(index as usize)
            {
                lock.id = Some(FileId { device, inode });
            }
        }
        deputy.end();
    }

    /// Takes in which directory was found at a path.
    pub fn found(&mut self, directory: &Path, id: FileId) {
        for lock in self.0.iter_mut().filter(|lock| lock.directory == directory) {
            lock.id = Some(id);
        }
    }

    /// Takes the locks of directories that did not exist before, or have been replaced. Does not wait.
    pub fn renew(&mut self, server: &mut Server) {
        for lock in &mut self.0 {
            let holder = lock.take(server, Duration::ZERO);
            lock.is_others = holder.is_some();
            if let Some(holder) = holder {
                let error = lock.refused(&holder);
                if lock.trouble.as_ref() != Some(&error) {
                    let what = if lock.is_pattern() { "may run twice" } else { "are not started until then" };
                    log!("{error}; its vassals {what}");
                    lock.trouble = Some(error);
                }
            }
        }
        // Two paths of one directory share a lock.
        server.unlock(&|name| self.0.iter().any(|lock| lock.held == name));
    }

    /// The directories whose vassals another emperor runs, each with a message that says so.
    pub fn of_others(&self) -> Vec<(PathBuf, Error)> {
        let of_others = self.0.iter().filter(|lock| lock.is_others && !lock.is_pattern());
        of_others.filter_map(|lock| Some((lock.directory.clone(), lock.trouble.clone()?))).collect()
    }
}

impl Lock {
    fn is_pattern(&self) -> bool {
        !self.rest.as_os_str().is_empty()
    }

    /// Takes the lock, unless it is held already. Returns the emperor that holds it. `patience` is the time
    /// for that emperor's answer.
    fn take(&mut self, server: &mut Server, patience: Duration) -> Option<Holder> {
        let name = self.name().filter(|name| *name != self.held)?;
        let address = Address { place: Place::Abstract(name.clone().into_bytes()), name };
        match server.add(Service::Lock, &address, PATIENCE) {
            Ok(()) => {
                (self.held, self.trouble) = (address.name, None);
                return None;
            }
            Err(error) if error.errno() == Errno::ADDRINUSE.raw_os_error() => {
                let holder = holder(&address.name, patience);
                if holder.is_some() {
                    return holder;
                }
                self.go_without(error);
            }
            Err(error) => self.go_without(error),
        }
        None
    }

    /// Logs why the lock is not held.
    fn go_without(&mut self, error: Error) {
        if self.trouble.as_ref() != Some(&error) {
            let shown = self.directory.display();
            log!("lock {shown} for this emperor alone: {error}, and that is no emperor: going on without");
            self.trouble = Some(error);
        }
    }

    /// The name of the lock, made from the directory that was found.
    fn name(&self) -> Option<String> {
        let FileId { device, inode } = self.id?;
        let (major, minor) = (major(device), minor(device));
        let mut name = format!("emperor of {major}:{minor} {inode}");
        if self.is_pattern() {
            // A name has room for some hundred bytes only.
            let hash = hash(self.rest.as_os_str().as_bytes().iter().copied());
            name.push_str(&format!(" {hash}"));
        }
        Some(name)
    }

    fn refused(&self, holder: &Holder) -> Error {
        let who = match holder.pid {
            0 => "another emperor, in another pid namespace,".to_owned(),
            pid => format!("another emperor, pid {pid},"),
        };
        let how = if holder.is_stopping {
            "is still stopping its vassals"
        } else {
            "runs its vassals: stop that one first"
        };
        let shown = if self.is_pattern() { &self.directory.join(&self.rest) } else { &self.directory };
        Error::new("watch", shown.display(), format!("{who} {how}"))
    }
}

/// The emperor that holds a lock; `None` if the process with the name is not an emperor of the same user or
/// of root. Any user can take a name, and must not keep an emperor from its work by that.
fn holder(name: &str, patience: Duration) -> Option<Holder> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    let refuses = peer::refuse_descriptors(&socket);
    let holder = ask(&socket, name, patience);
    // The process that has the name may have sent descriptors.
    if refuses.is_err() {
        close_apart(vec![socket]);
    }
    holder
}

/// Connects this socket to the lock and asks who holds it.
fn ask(socket: &OwnedFd, name: &str, patience: Duration) -> Option<Holder> {
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
    // Others may connect at the same time, more than fit into the queue.
    retry::while_passing(Errno::AGAIN, patience, || connect(socket, &address)).ok()?;
    let peer = peer::of_connection(socket).ok()?;
    // The socket may still be open in a child of an emperor that is dead.
    let is_dead = Pid::from_raw(peer.pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
    if is_dead || ![0, geteuid().as_raw()].contains(&peer.uid) {
        return None;
    }
    // An app that is root in a jail can also take any name. It has another root directory.
    // Only what the kernel knows of the root is asked for: its filesystem may hang.
    let root = |process: &str| {
        let path = format!("/proc/{process}/root/");
        let root = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
        rustix::io::Result::Ok((root.stx_dev_major, root.stx_dev_minor, root.stx_ino))
    };
    if let (Ok(ours), Ok(theirs)) = (root("self"), root(&peer.pid.to_string()))
        && ours != theirs
    {
        return None;
    }
    let limit = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit));
    let is_stopping = matches!(recv(socket, &mut [0; 1], RecvFlags::DONTWAIT), Ok((1, _)));
    Some(Holder { pid: peer.pid, is_stopping })
}
