//! Tyrant mode: a vassal runs as the owner of its file, so that users may be given vassals of their own.
//!
//! A user who can put a file, or a link, into a vassal directory chooses what is opened there. So a file is
//! opened and read with the rights of its owner, not with the emperor's: no user can see, by way of a vassal,
//! a file that the user could not read otherwise. The owner is never root, nor the emperor's user: such a
//! vassal could do to all others what the emperor can.
//!
//! The process itself becomes the owner before it looks at the content of the file (`init::steps::owner`).

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat, stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::emperor::core::owner::{Owner, Owners};
use crate::error::{Cause, Context, Error, Result};
use crate::files;
use crate::sys::{creds, exec};

/// As many links as the kernel follows in one path.
const LINKS_MAX: u32 = 40;

/// Opens a vassal's file as its owner; `owners` says what a symbolic link means.
///
/// # Errors
/// open(2) and the like; the owner may have no vassal, or others may write to the file. Then nothing was
/// read.
pub fn open(path: &Path, owners: Owners) -> Result<(OwnedFd, Owner)> {
    let look = || path.display();
    let follows = owners != Owners::OfLinks;
    // The way is gone once only: a second time it could lead elsewhere.
    let way = if follows { None } else { Some(Way::along(path).context("look at", look())?) };
    let status = match &way {
        Some(way) => fstat(&way.end),
        None => stat(path),
    };
    let status = status.context("look at", look())?;
    let owner = Owner { uid: status.st_uid, gid: status.st_gid };
    let refused = |rule: &str| {
        let Owner { uid, gid } = owner;
        let whose = format!("it belongs to user {uid}, group {gid}, and emperor-tyrant {rule}");
        Err(Error::new("run", look(), whose))
    };
    let ours = geteuid().as_raw();
    if owner.uid == 0 || owner.gid == 0 {
        return refused("runs nothing as root");
    }
    if owner.uid == ours {
        return refused("runs nothing as the emperor's own user");
    }
    let strangers = |way: &Way| way.owners.iter().any(|uid| ![0, ours, owner.uid].contains(uid));
    if way.as_ref().is_some_and(strangers) {
        return refused("runs no file that a directory or link of another user's leads to");
    }
    let opened = creds::with_rights_of(owner.uid, owner.gid, || match &way {
        Some(way) => way.open(),
        None => files::open_file(path),
    });
    let file = opened.context("take on the rights of", owner.uid)?.context("open as its owner", look())?;
    let is_link = !follows && FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
    let status = fstat(&file).context("look at", look())?;
    if !is_link && (status.st_uid, status.st_gid) != (owner.uid, owner.gid) {
        return refused("runs no file that gets another owner just now");
    }
    if Mode::from_raw_mode(status.st_mode).contains(Mode::WOTH) {
        return refused("runs no file that everybody may write to");
    }
    Ok((file, owner))
}

/// The way to a vassal's file, gone once.
struct Way {
    /// The directory of the file.
    directory: OwnedFd,
    name: CString,
    /// The file itself, or the symbolic link in its place; not opened for reading.
    end: OwnedFd,
    /// The owners of the directories and links on the way: each of them could have it lead elsewhere.
    owners: Vec<u32>,
}

impl Way {
    /// `path` is absolute.
    fn along(path: &Path) -> rustix::io::Result<Self> {
        let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = || openat(CWD, "/", itself, Mode::empty());
        let mut left = path.parent().unwrap_or(path).as_os_str().as_bytes().to_vec();
        let (mut directory, mut owners, mut links) = (root()?, Vec::new(), 0);
        while !left.is_empty() {
            let end = left.iter().position(|&byte| byte == b'/').unwrap_or(left.len());
            let rest = left.get(end + 1..).unwrap_or_default().to_vec();
            left.truncate(end);
            let word = std::mem::replace(&mut left, rest);
            if word.is_empty() {
                continue;
            }
            let next = openat(&directory, &word[..], itself, Mode::empty())?;
            let status = fstat(&next)?;
            owners.push(status.st_uid);
            if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
                directory = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::LOOP);
            }
            let text = text_of(&next)?.into_bytes();
            if text.starts_with(b"/") {
                directory = root()?;
            }
            left = [&text[..], b"/", &left].concat();
        }
        let name = exec::c_string(path.file_name().unwrap_or_default());
        let end = openat(&directory, &name, itself, Mode::empty())?;
        Ok(Self { directory, name, end, owners })
    }

    /// Opens the file. A link is followed as it was when the way was gone; from there on the rights of its
    /// owner decide how far.
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

/// What a symbolic link that was opened itself leads to.
fn text_of(link: &OwnedFd) -> rustix::io::Result<CString> {
    readlinkat(link, "", Vec::new())
}
