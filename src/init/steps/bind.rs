//! Binds a socket that has a file, in a child, because a look at the path may hang.

use std::fmt::Display;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags, Stat, lstat};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, listen};
use rustix::process::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use crate::config::plan::Listen;
use crate::error::{Context, Error, Result};
use crate::identity::held;
use crate::init::child::interpreter;
use crate::init::steps::action::chmod_by_name;
use crate::listen::is_left_over;
use crate::path::Walk;
use crate::protocol::FileId;
use crate::running_time;
use crate::sys::{fd, signal};
use crate::user_namespace;

/// A socket that a child binds to a file.
#[derive(Debug)]
pub struct Binding<'a> {
    /// The unbound socket.
    pub fd: BorrowedFd<'a>,
    /// The path of its file.
    pub path: &'a Path,
    /// What the plan says about the socket.
    pub listen: &'a Listen,
    /// User and group of the file; `None` leaves those of the child. Only root can choose.
    pub owner: Option<(Option<u32>, Option<u32>)>,
    /// The kept socket of an earlier instance, and its file.
    pub kept: Option<(FileId, BorrowedFd<'a>)>,
    /// Whether other instances use the kept socket, so that its file stays as it is for now.
    pub is_lent: bool,
}

impl Binding<'_> {
    /// In the child: binds the socket, unless the file at the path is that of the kept socket. Returns the
    /// file.
    ///
    /// # Errors
    /// Another file is at the path, or bind(2), chmod(2) or chown(2) fails.
    pub fn perform(&self, walk: &Walk) -> Result<FileId> {
        let mut name = self.path.display().to_string();
        SocketAddrUnix::new(self.path).context("listen on", &name)?;
        let as_user = self.owner.is_none() && !geteuid().is_root();
        let walk = Walk { as_user, ..walk.clone() };
        let explained = |error: Error| {
            let clue = refusal(self.path, error.errno());
            error.with_clue(clue)
        };
        let path = &*walk.approach(self.path).context("listen on", &name).map_err(explained)?;
        let address = SocketAddrUnix::new(path).context("listen on", &name)?;
        let mut socket = None;
        if let Ok(there) = lstat(path) {
            if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
                return Err(no_socket(&name));
            }
            if there.st_uid != geteuid().as_raw() {
                // The message says who owns the file that is in the way.
                name += &format!(" (of user {})", there.st_uid);
            }
            let kept = self.kept.filter(|(file, _)| *file == file_id(&there));
            socket = kept.map(|(_, socket)| socket);
            let fits = || self.is_lent || matches!(self.adapt(&walk, ids()), Ok(true));
            socket = socket.filter(|socket| !fd::is_shut_down(socket) && fits());
            // The file may be left over from another instance, or from another emperor.
            if socket.is_none() && (kept.is_some() || is_left_over(path)) {
                match rustix::fs::unlink(path) {
                    // The file belongs to another user, in a directory with the sticky bit. If it was the
                    // emperor's, that is about to remove it; else the address is taken.
                    Err(Errno::PERM) => name += ", left over, and not ours to remove",
                    removed => removed.context("remove the old socket", &name)?,
                }
            }
        }
        if socket.is_none() {
            if self.listen.mode.is_some() {
                // The socket has its mode already. Without a umask its file gets the same mode.
                rustix::process::umask(Mode::empty());
            }
            bind(self.fd, &address).context("listen on", &name).map_err(explained)?;
        }
        if let Some(lent) = socket.filter(|_| self.is_lent) {
            listen(lent, backlog(self.listen)).context("listen on", &name)?;
            return Ok(self.kept.map(|(file, _)| file).unwrap_or_default());
        }
        let bound = socket.unwrap_or(self.fd);
        let file = match fd::file_of(bound) {
            Ok(file) => file,
            // A lookup by path might find another file, which must not be changed then.
            Err(_) if self.owner.is_some() && can_give()? && !walk.is_steady(self.path) => {
                let why = "in a directory that others can change, 'chown-socket' takes CAP_NET_ADMIN";
                return Err(Error::new("chown", &name, why));
            }
            Err(_) => {
                // Without following a link, which could lead root to another file.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).context("look at", &name)?
            }
        };
        let there = rustix::fs::fstat(&file).context("look at", &name)?;
        if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
            return Err(no_socket(&name));
        }
        if let Some((uid, gid)) = self.owner {
            user_namespace::chown(&file, uid, gid).context("chown", &name)?;
        }
        listen(bound, backlog(self.listen)).context("listen on", &name)?;
        Ok(file_id(&there))
    }

    /// In a child that has the rights of PID 1: once the instance has taken over, gives the file of a lent
    /// socket the owner and mode that the plan asks for. `app` are the user and group of the app.
    ///
    /// # Errors
    /// The file is not found, or chown(2) or chmod(2) fails.
    pub fn take_over(
        &self,
        walk: &Walk,
        app: (Option<u32>, Option<u32>),
        taken_over: &OwnedFd,
    ) -> Result<()> {
        // The instance may be stopped before it takes over.
        signal::set_defaults();
        let mut fds = [PollFd::new(taken_over, PollFlags::IN)];
        while fds.iter().all(|fd| fd.revents().is_empty()) {
            let _ = running_time::poll(&mut fds, None);
        }
        let (user, group) = ids();
        let of_app = (app.0.or(user), app.1.or(group));
        self.adapt(walk, if self.owner.is_some() { ids() } else { of_app }).map(|_| ())
    }

    /// Gives the file of the kept socket the owner and mode that a new one would get which this user and
    /// group made. Returns whether it still is the file of that socket.
    fn adapt(&self, walk: &Walk, creator: (Option<u32>, Option<u32>)) -> Result<bool> {
        let Some((kept, socket)) = self.kept else { return Ok(false) };
        let name = self.path.display();
        let file = match fd::file_of(socket) {
            Ok(file) => file,
            Err(_) => {
                walk.open_to_change(self.path, OFlags::PATH, Mode::empty()).context("look at", &name)?
            }
        };
        let there = rustix::fs::fstat(&file).context("look at", &name)?;
        if file_id(&there) != kept {
            return Ok(false);
        }
        let (user, group) = self.owner.unwrap_or_default();
        let directory = self.path.parent().and_then(|directory| rustix::fs::stat(directory).ok());
        let of_directory = directory.filter(|directory| directory.st_mode & libc::S_ISGID != 0);
        let of_directory = of_directory.map(|directory| directory.st_gid);
        let uid = user.or(creator.0).filter(|uid| *uid != there.st_uid);
        let gid = group.or(of_directory).or(creator.1).filter(|gid| *gid != there.st_gid);
        if uid.is_some() || gid.is_some() {
            user_namespace::chown(&file, uid, gid).context("chown", &name)?;
        }
        let mode = self.mode();
        if Mode::from_raw_mode(there.st_mode) != mode {
            fd::chmod(&file, mode.as_raw_mode())
                .or_else(|_| chmod_by_name(&file, mode.as_raw_mode()))
                .context("chmod", &name)?;
        }
        Ok(true)
    }

    /// The mode that the plan asks for.
    fn mode(&self) -> Mode {
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        self.listen.mode.map_or(Mode::from_raw_mode(0o777) - umask, Mode::from_raw_mode)
    }
}

/// Why this user can make no file at `path`: a directory is not there, or not the user's to change.
fn refusal(path: &Path, errno: i32) -> Option<String> {
    let directory = path.parent()?;
    if errno == Errno::NOENT.raw_os_error() {
        let is_missing = |place: &&Path| lstat(*place).err() == Some(Errno::NOENT);
        return Some(format!("there is no {}", directory.ancestors().filter(is_missing).last()?.display()));
    }
    if errno == Errno::ACCESS.raw_os_error() { interpreter::refusal(directory) } else { None }
}

/// The user and group of this process.
fn ids() -> (Option<u32>, Option<u32>) {
    (Some(geteuid().as_raw()), Some(getegid().as_raw()))
}

/// Whether the kernel lets this process change the owner of its files.
fn can_give() -> Result<bool> {
    Ok(held()?.effective.contains(CapabilitySet::CHOWN))
}

/// In a child: the identity of the file at a path.
///
/// # Errors
/// As lstat(2).
pub fn look(path: &Path) -> Result<FileId> {
    lstat(path).map(|there| file_id(&there)).context("look at", path.display())
}

fn no_socket(name: &dyn Display) -> Error {
    Error::new("listen on", name, "something that is no socket is there")
}

fn file_id(there: &Stat) -> FileId {
    FileId { device: there.st_dev, inode: there.st_ino }
}

/// The length of the queue, for listen(2).
pub fn backlog(plan: &Listen) -> i32 {
    i32::try_from(plan.backlog).unwrap_or(i32::MAX)
}
