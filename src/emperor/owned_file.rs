//! Tyrant mode: a vassal runs as the owner of its file, so that users may have vassals of their own.
//!
//! A user who can put a file or a link into a vassal directory chooses the file that is opened. So the file
//! is opened and read with the rights of its owner, not with the emperor's. By way of a vassal no user can
//! read a file that the user could not read otherwise. The owner is never root, nor the emperor's user: such
//! a vassal could do to all others what the emperor can.
//!
//! The new process also becomes the owner before it looks at the content of the file (`init::steps::owner`).

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, FsWord, Mode, OFlags, Stat, fstat, fstatfs, lstat, major, minor, openat, readlinkat, stat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::accounts::Accounts;
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::owner::{Owner, Owners};
use crate::error::{Cause, Context, Error, Result};
use crate::files;
use crate::mount::mountinfo::{self, Mount};
use crate::sys::{creds, exec};

/// The most directories and links in a path, which a user could make long.
const STEPS_MAX: usize = 100;
/// The type of FUSE filesystems in statfs(2).
const FUSE_SUPER_MAGIC: FsWord = 0x6573_5546;

/// Opens a vassal's file as its owner. `owners` decides whether a symbolic link of root's is followed. Any
/// other link counts as a file of the link's own owner.
///
/// # Errors
/// open(2) and the like; the owner may have no vassal; or other users may write to the file or replace it.
/// Nothing was read then.
pub fn open(path: &Path, owners: Owners) -> Result<(OwnedFd, Owner)> {
    let look = || path.display();
    let ours = geteuid().as_raw();
    // The path is walked only once: a second time it could lead elsewhere.
    let way = Way::along(path, owners == Owners::OfFiles, ours).context("look at", look())?;
    let status = fstat(&way.end).context("look at", look())?;
    let uid = way.end_owner;
    let whose = |rule: &str| {
        let whose = format!("it belongs to user {uid}, group {}, and emperor-tyrant {rule}", status.st_gid);
        Error::new("run", look(), whose)
    };
    let refused = |rule| Err(whose(rule));
    if uid == 0 {
        return refused("runs nothing as root");
    }
    if status.st_gid == 0 {
        return refused("runs nothing with root's group: set its group (chgrp)");
    }
    if uid == ours {
        return refused("runs nothing as the emperor's own user");
    }
    // In a directory with the set-group-ID bit a file gets the group of the directory, to which the owner
    // need not belong.
    let accounts = Accounts::read();
    let gid = accounts.group_of_file(uid, status.st_gid).filter(|&gid| gid != 0);
    let gid = gid.ok_or_else(|| whose("knows no group of that user: set its group (chgrp)"))?;
    let own_group = accounts.own_group(uid);
    let is_strange = |step: &Step| {
        // In a directory with the sticky bit no user can rename the file of another one.
        let shared = (Mode::WOTH | Mode::WGRP).intersection(step.mode);
        let is_safe = shared.is_empty()
            || step.mode.contains(Mode::SVTX)
            || (shared == Mode::WGRP && (step.gid == 0 || own_group == Some(step.gid)));
        ![0, ours, uid].contains(&step.uid) || !is_safe
    };
    if way.steps.iter().any(is_strange) {
        return refused("runs no file that a directory or link of another user's leads to");
    }
    let opened = creds::with_rights_of(uid, gid, || way.open());
    let file = opened.context("take on the rights of", uid)?.context("open as its owner", look())?;
    let is_link = FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
    let opened = fstat(&file).context("look at", look())?;
    if !is_link && (opened.st_uid, opened.st_gid) != (status.st_uid, status.st_gid) {
        return refused("runs no file that gets another owner just now");
    }
    let mode = Mode::from_raw_mode(opened.st_mode);
    if mode.contains(Mode::WOTH) {
        return refused("runs no file that everybody may write to");
    }
    if !is_link && mode.contains(Mode::WGRP) && own_group != Some(opened.st_gid) {
        return refused("runs no file that others in its group may write to");
    }
    Ok((file, Owner { uid, gid }))
}

/// The version of a file.
pub fn version(path: &Path, owners: Owners) -> FileVersion {
    let owner = match owners {
        Owners::Ignored => None,
        Owners::OfFiles => stat(path).ok(),
        Owners::OfLinks => lstat(path).ok(),
    };
    let owner = owner.map(|status| Owner { uid: status.st_uid, gid: status.st_gid });
    stat(path).map_or(FileVersion::default(), |status| FileVersion::of(&status, owner))
}

/// The user whose vassal it is, as in [`open`]. If another user's link leads to the file, that user. `None`
/// if owners do not matter.
pub fn owner(path: &Path, owners: Owners) -> Option<u32> {
    if owners == Owners::Ignored {
        return None;
    }
    let ours = geteuid().as_raw();
    let Way { end_owner, steps, .. } = Way::along(path, owners == Owners::OfFiles, ours).ok()?;
    let stranger = steps.iter().map(|step| step.uid).find(|uid| ![0, ours, end_owner].contains(uid));
    Some(stranger.unwrap_or(end_owner))
}

/// The path to a vassal's file, walked once.
struct Way {
    /// The directory of the file.
    directory: OwnedFd,
    name: CString,
    /// The file, or the symbolic link in its place. Not opened for reading.
    end: OwnedFd,
    /// The owner of `end`.
    end_owner: u32,
    /// The directories and links in the path. The owner of each of them could change where the path leads.
    steps: Vec<Step>,
}

/// A directory or a link in a path.
struct Step {
    uid: u32,
    gid: u32,
    /// The mode; empty for a link, which has no writers.
    mode: Mode,
}

impl Way {
    /// `path` is absolute. `follows` means that a link of root's or of the emperor's user (`ours`) is also
    /// followed at the end, if no other user can have put it there.
    fn along(path: &Path, follows: bool, ours: u32) -> rustix::io::Result<Self> {
        let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = || openat(CWD, c"/", itself, Mode::empty());
        let mut left = path.as_os_str().as_bytes().to_vec();
        let (mut directory, mut steps, mut mounts) = (root()?, Vec::new(), None);
        loop {
            if steps.len() > STEPS_MAX {
                return Err(Errno::LOOP);
            }
            let end = left.iter().position(|&byte| byte == b'/').unwrap_or(left.len());
            let rest = left.get(end + 1..).unwrap_or_default().to_vec();
            left.truncate(end);
            let word = std::mem::replace(&mut left, rest);
            if word.is_empty() && !left.is_empty() {
                continue;
            }
            let next = openat(&directory, &word[..], itself, Mode::empty())?;
            let status = fstat(&next)?;
            let uid = owner_of(&next, &status, &mut mounts)?;
            let is_link = FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
            let in_place = |step: &Step| {
                let is_shared = step.mode.intersects(Mode::WOTH | Mode::WGRP);
                [0, ours].contains(&step.uid) && (!is_shared || step.mode.contains(Mode::SVTX))
            };
            let is_followed =
                follows && is_link && [0, ours].contains(&uid) && steps.last().is_none_or(in_place);
            if left.is_empty() && !is_followed {
                let name = exec::c_string(OsStr::from_bytes(&word));
                return Ok(Self { directory, name, end: next, end_owner: uid, steps });
            }
            let mode = if is_link { Mode::empty() } else { Mode::from_raw_mode(status.st_mode) };
            steps.push(Step { uid, gid: status.st_gid, mode });
            if !is_link {
                directory = next;
                continue;
            }
            let text = text_of(&next)?.into_bytes();
            if text.starts_with(b"/") {
                directory = root()?;
            }
            left = if left.is_empty() { text } else { [&text[..], b"/", &left].concat() };
        }
    }

    /// Opens the file. A link is followed as it was during the walk; from there on the rights of its owner
    /// decide.
    fn open(&self) -> Result<OwnedFd, Cause> {
        let is_link = FileType::from_raw_mode(fstat(&self.end)?.st_mode) == FileType::Symlink;
        let (text, flags) = if is_link {
            (text_of(&self.end)?, OFlags::empty())
        } else {
            (self.name.clone(), OFlags::NOFOLLOW)
        };
        files::open_file_at(&self.directory, OsStr::from_bytes(text.as_bytes()).as_ref(), flags)
    }
}

/// The owner of a file. On a FUSE filesystem of a user's, which can make up any owner, that user. The table
/// of `mounts` is read once.
fn owner_of(file: &OwnedFd, status: &Stat, mounts: &mut Option<Vec<Mount>>) -> rustix::io::Result<u32> {
    if fstatfs(file)?.f_type != FUSE_SUPER_MAGIC {
        return Ok(status.st_uid);
    }
    let device = (major(status.st_dev), minor(status.st_dev));
    let mounts = match mounts {
        Some(mounts) => mounts,
        None => mounts.insert(mountinfo::parse(&files::read_mountinfo()?)),
    };
    let mount = mounts.iter().find(|mount| mount.device == device).ok_or(Errno::XDEV)?;
    Ok(mount.user().filter(|&user| user != 0).unwrap_or(status.st_uid))
}

/// The target of a symbolic link that was opened itself.
fn text_of(link: &OwnedFd) -> rustix::io::Result<CString> {
    readlinkat(link, c"", Vec::new())
}
