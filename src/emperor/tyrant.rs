//! Tyrant mode: a vassal runs as the owner of its file, so that users may be given their own.
//!
//! Whoever can put a file, or a link, into a vassal directory chooses what is opened there. So a file is opened and read
//! with its owner's rights, not ours: nobody gets to see, by way of a vassal, what he could not read himself. Its owner
//! never is root, nor ourselves, as such a vassal could do to all others what we can.
//!
//! The process itself becomes the owner before anything looks at the file's content (`init::tyrant`).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, StatxFlags, fstat, statx};
use rustix::process::geteuid;

use super::scan::Owners;
use super::spawn::Owner;
use crate::error::{Context, Error, Result};
use crate::sys::creds;
use crate::world;

/// Opens a vassal's file as its owner; `owners` says what a symbolic link means.
///
/// # Errors
/// open(2) and the like; an owner that may have no vassal, or a file that others may write to. Then nothing was read.
pub fn open(path: &Path, owners: Owners) -> Result<(OwnedFd, Owner)> {
    let flags = match owners {
        Owners::OfLinks => AtFlags::SYMLINK_NOFOLLOW,
        Owners::Ignored | Owners::OfFiles => AtFlags::empty(),
    };
    let look = || path.display();
    let wanted = StatxFlags::UID | StatxFlags::GID;
    let status = statx(CWD, path, flags, wanted).context("look at", look())?;
    let owner = Owner { uid: status.stx_uid, gid: status.stx_gid };
    let refused = |rule: &str| {
        let Owner { uid, gid } = owner;
        let whose = format!("it belongs to user {uid}, group {gid}, and emperor-tyrant {rule}");
        Err(Error::new("run", look(), whose))
    };
    if owner.uid == 0 || owner.gid == 0 {
        return refused("runs nothing as root");
    }
    if owner.uid == geteuid().as_raw() {
        return refused("runs nothing as the emperor's own user");
    }
    let opened = creds::with_rights_of(owner.uid, owner.gid, || world::open_file(path));
    let file = opened.context("take on the rights of", owner.uid)?.context("open as its owner", look())?;
    let status = fstat(&file).context("look at", look())?;
    if owners != Owners::OfLinks && (status.st_uid, status.st_gid) != (owner.uid, owner.gid) {
        return refused("runs no file that gets another owner just now");
    }
    if Mode::from_raw_mode(status.st_mode).contains(Mode::WOTH) {
        return refused("runs no file that everybody may write to");
    }
    Ok((file, owner))
}
