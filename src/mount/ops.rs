//! Mounting, unmounting and changing the root.
//!
//! Every target is opened first, by a walk that no symbolic link leads out of its tree, and then used by
//! descriptor. So the kernel mounts on the directory that was checked.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, move_mount, open_tree, unmount,
};

use super::flags::taken_away;
use super::mountinfo;
use super::request::{Mount, PivotRoot, Umount};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::path;
use crate::retry;
use crate::sys::exec::c_string;
use crate::sys::mount::{Attributes, set_attributes};

/// The flags of mount(2) that say how a mount spreads.
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;

/// How long a mount may be busy before that is an error.
const BUSY_LIMIT: Duration = Duration::from_millis(100);

/// Which parts of the tree may not be trusted with the way to a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// Where the new root is prepared, before it is entered: what lies below it is the tenant's.
    pub new_root: Option<PathBuf>,
    /// Where the old root still is, after the new one was entered.
    pub old_root: Option<PathBuf>,
}

impl Walk {
    /// Opens a target without following a link out of the tree it lies in.
    ///
    /// Below the coming root, links are followed as they will be seen from inside it. While the old root can
    /// be reached from the new one, no link is followed at all. Elsewhere the tree is the operator's.
    pub(super) fn open(&self, operation: &str, target: &Path) -> Result<OwnedFd> {
        // Otherwise another spelling of a path below the new root would be trusted.
        let target = lexical(target);
        let target = target.as_path();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root_of = |path: &Path| rustix::fs::open(c_string(path.as_os_str()), flags, Mode::empty());
        let (root, rest, resolve) = match &self.new_root {
            Some(root) if target.starts_with(root) => {
                let rest = target.strip_prefix(root).unwrap_or(target);
                let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
                (root_of(root), rest, None)
            }
            _ if self.old_root.is_some() => {
                (root_of(Path::new(".")), target, Some(ResolveFlags::NO_SYMLINKS))
            }
            _ => (root_of(Path::new(".")), target, Some(ResolveFlags::NO_MAGICLINKS)),
        };
        let root = root.context("open the way to", target.display())?;
        let opened = match resolve {
            Some(resolve) => openat2(&root, c_string(rest.as_os_str()), flags, Mode::empty(), resolve),
            None => path::open_in_root(&root, rest),
        };
        opened.map_err(|errno| match errno {
            Errno::LOOP => Error::new(
                operation,
                target.display(),
                "a symbolic link on the way: refused while the old root can be reached through it",
            ),
            errno => Error::os(&format!("{operation}: open"), target.display(), errno),
        })
    }
}

impl Walk {
    /// Refuses a path of a tree that is not the operator's if it is, or leads through, a symbolic link: root
    /// writes and changes files by it, and the link may point to a file of the host.
    ///
    /// # Errors
    /// The link; or the way does not exist.
    pub fn refuse_links(&self, operation: &str, path: &Path) -> Result<()> {
        let meant = lexical(path);
        let below_new_root = self.new_root.as_ref().is_some_and(|root| meant.starts_with(root));
        if !below_new_root && self.old_root.is_none() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // As it is written, as it will be used: a '..' behind a link leads elsewhere than its text says.
        match openat2(CWD, c_string(path.as_os_str()), flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // What does not exist cannot be a link. A link on the way gives another error.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(Errno::LOOP) => {
                let reason = "a symbolic link, or behind one: refused, since it may lead out of the jail";
                Err(Error::new(operation, meant.display(), reason))
            }
            Err(errno) => Err(Error::os(operation, meant.display(), errno)),
        }
    }
}

/// Mounts as mount(2) would, step by step.
///
/// # Errors
/// The step that failed and its object.
pub fn mount(mount: &Mount, walk: &Walk) -> Result<()> {
    let target = walk.open("mount", &mount.target)?;
    let object = mount.target.display();
    let recursive = mount.flags & libc::MS_REC != 0;
    if mount.flags & libc::MS_REMOUNT != 0 {
        if mount.flags & libc::MS_BIND != 0 {
            return unless_busy(|| set_attributes(&target, recursive, attributes(mount.flags)))
                .context("remount", object);
        }
        return legacy(&target, mount).context("remount", object);
    }
    if mount.flags & libc::MS_BIND != 0 {
        return bind(mount, &target, walk, recursive);
    }
    if mount.flags & libc::MS_MOVE != 0 {
        let tree = open_tree(CWD, c_string(&mount.source), OpenTreeFlags::OPEN_TREE_CLOEXEC)
            .context("mount: open", mount.source.display())?;
        return attach(&tree, &target).context("move a mount to", object);
    }
    if mount.flags & PROPAGATION != 0 {
        let change = Attributes { propagation: mount.flags & PROPAGATION, ..Attributes::default() };
        return set_attributes(&target, recursive, change).context("change the propagation of", object);
    }
    let operation = format!("mount {} on", mount.fs_type.display());
    legacy(&target, mount).map_err(|errno| match errno {
        Errno::NODEV => Error::new(&operation, object, "this kernel has no such filesystem (ENODEV)"),
        errno => Error::os(&operation, object, errno),
    })
}

/// Binds a copy of a tree, with its flags set before anybody can see it: a read-only bind mount is never
/// writable.
fn bind(mount: &Mount, target: &OwnedFd, walk: &Walk, recursive: bool) -> Result<()> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let source = walk.open("bind", Path::new(&mount.source))?;
    let tree = open_tree(&source, c"", flags).context("bind: copy", mount.source.display())?;
    let change = attributes(mount.flags);
    if change != Attributes::default() {
        set_attributes(&tree, recursive, change).context("bind: set the flags of", mount.source.display())?;
    }
    attach(&tree, target).context("bind to", mount.target.display())
}

pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// mount(2) on a directory held by descriptor: from inside it, as `.`.
fn legacy(target: &OwnedFd, mount: &Mount) -> rustix::io::Result<()> {
    let flags = MountFlags::from_bits_retain(mount.flags as u32);
    let (source, fs_type, data) = (c_string(&mount.source), c_string(&mount.fs_type), c_string(&mount.data));
    let data = if mount.data.is_empty() { None } else { Some(data.as_c_str()) };
    let (source, fs_type) = (source.as_c_str(), fs_type.as_c_str());
    within(target, || unless_busy(|| rustix::mount::mount(source, c".", fs_type, flags, data)))
}

/// Waits for up to [`BUSY_LIMIT`] while a mount is busy ([`retry`]).
fn unless_busy(call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    retry::while_passing(Errno::BUSY, BUSY_LIMIT, call)
}

/// Runs `work` in another working directory, and goes back.
fn within(directory: &OwnedFd, work: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let back = rustix::fs::open(c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(directory)?;
    let result = work();
    rustix::process::fchdir(back)?;
    result
}

/// The flags of a bind mount in the terms of mount_setattr(2).
///
/// Flags that are not named stay as they are, as with mount(8): a remount must not lift a restriction by
/// accident.
fn attributes(flags: u64) -> Attributes {
    const PAIRS: [(u64, u64); 6] = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (libc::MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    const ATIME: [(u64, u64); 3] = [
        (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        (libc::MS_RELATIME, libc::MOUNT_ATTR_RELATIME),
    ];
    let mut change = Attributes { propagation: flags & PROPAGATION, ..Attributes::default() };
    for (ms, attribute) in PAIRS {
        if flags & ms != 0 {
            change.set |= attribute;
        }
        if taken_away(flags) & ms != 0 {
            change.clear |= attribute;
        }
    }
    // The time flags are one field, which is cleared before it is set.
    if let Some((_, attribute)) = ATIME.iter().find(|(ms, _)| flags & ms != 0) {
        change.clear |= libc::MOUNT_ATTR__ATIME;
        change.set |= attribute;
    } else if taken_away(flags) & libc::MS_NOATIME != 0 {
        change.clear |= libc::MOUNT_ATTR__ATIME;
    }
    change
}

/// Unmounts, with everything below if asked for.
///
/// # Errors
/// The mount that could not be unmounted; EBUSY if it is in use for longer than a moment.
pub fn umount(umount: &Umount, walk: &Walk) -> Result<()> {
    let flags = UnmountFlags::from_bits_retain(umount.flags) | UnmountFlags::NOFOLLOW;
    let target = &umount.target;
    let unmount = |path: &Path| unmount_at(path, flags, walk);
    // MNT_DETACH takes the mounts below along, and works without /proc.
    if umount.recursive && !flags.contains(UnmountFlags::DETACH) {
        let mounts = mountinfo::parse(&files::read_mountinfo().context("umount: read", files::MOUNTINFO)?);
        for below in mountinfo::below(&mounts, &lexical(target)) {
            unmount(below)?;
        }
    }
    unmount(target)
}

/// umount2(2) from inside the directory that the mount point lies in, which is opened like any target: no
/// link on the way can lead to another mount. A mount that was the working directory itself would be busy.
fn unmount_at(target: &Path, flags: UnmountFlags, walk: &Walk) -> Result<()> {
    let target = lexical(target);
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return unmount(c"/", flags).context("umount", "/");
    };
    let parent = walk.open("umount", parent)?;
    let name = c_string(name);
    within(&parent, || unless_busy(|| unmount(&name, flags))).context("umount", target.display())
}

/// Makes `pivot.new_root` the root. The working directory must be the present root: the kernel takes a
/// process that is there along to the new one, which it does not even look at.
///
/// # Errors
/// A sentence for each of the kernel's many reasons to say EINVAL (pivot_root(2)).
pub fn pivot_root(pivot: &PivotRoot) -> Result<()> {
    let object = format_args!("{} {}", pivot.new_root.display(), pivot.put_old.display()).to_string();
    let (new, old) = (c_string(pivot.new_root.as_os_str()), c_string(pivot.put_old.as_os_str()));
    rustix::process::pivot_root(new, old).map_err(|errno| match explain(pivot, errno) {
        Some(reason) => Error::new("pivot_root", &object, reason),
        None => Error::os("pivot_root", &object, errno),
    })
}

/// The reason for an error of pivot_root(2), if it can be told.
fn explain(pivot: &PivotRoot, errno: Errno) -> Option<String> {
    let (new, old) = (&pivot.new_root, &pivot.put_old);
    for path in [new, old] {
        match statx(CWD, c_string(path.as_os_str()), AtFlags::empty(), StatxFlags::TYPE) {
            Ok(stat) if u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFDIR => {
                return Some(format!("{} is not a directory", path.display()));
            }
            Ok(_) => {}
            Err(errno) => return Some(Error::os("look at", path.display(), errno).to_string()),
        }
    }
    match errno {
        // Of a plain directory of the present root the kernel says EBUSY.
        Errno::INVAL | Errno::BUSY if !is_mount_root(new) => {
            Some(format!("{} is not a mount point", new.display()))
        }
        Errno::INVAL if !is_mount_root(Path::new("/")) => {
            Some("the present root is not a mount point: it was entered by chroot".into())
        }
        Errno::INVAL => Some(format!(
            "{} is not at or below {}, or one of them or its parent is a shared mount",
            old.display(),
            new.display()
        )),
        Errno::BUSY => Some(format!("{} or {} is on the present root", new.display(), old.display())),
        _ => None,
    }
}

fn is_mount_root(path: &Path) -> bool {
    statx(CWD, c_string(path.as_os_str()), AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Makes all mounts of this namespace private: it began as a copy of one where mounts may be shared.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn make_all_private() -> Result<()> {
    let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", flags).map_err(|errno| match errno {
        Errno::INVAL => {
            let reason = "the root directory is not a mount point, it was entered by chroot: \
                bind it onto itself first \
                (mount --bind DIR DIR)";
            Error::new("make private", "all mounts", reason)
        }
        errno => Error::os("make private", "all mounts", errno),
    })
}

/// A new instance of a filesystem that needs no source, mounted nowhere.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN (fsopen(2), fsmount(2)).
pub fn detached(fs_type: &str) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The absolute path without `.` and `..`, computed from its text alone.
pub fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    if path.is_relative() {
        out = std::env::current_dir().unwrap_or(out);
    }
    for part in path.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                out.pop();
            }
            part => out.push(std::ffi::OsStr::from_bytes(part)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for path in ["/ufs/x", "//ufs//x/", "/ns/../ufs/./x", "/../ufs/x"] {
            assert_eq!(lexical(Path::new(path)), Path::new("/ufs/x"), "{path}");
        }
        assert!(lexical(Path::new("x")).is_absolute());
    }
}
