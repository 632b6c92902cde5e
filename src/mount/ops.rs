//! Mounting, unmounting and changing the root.
//!
//! Sources, targets and roots are first opened by the [walk](crate::path), which links cannot lead astray,
//! and then used by descriptor. So the kernel mounts on the directory that was checked.

use std::cell::Cell;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::fchdir;

use super::flags::taken_away;
use super::mountinfo::{self, Mount};
use super::request::{MountRequest, PivotRoot, Umount};
use crate::error::{Cause, Context, Error, Result};
use crate::files;
use crate::path::{self, Walk, absolute, lexical};
use crate::retry;
use crate::sys::exec::c_string;
use crate::sys::mount::{Attributes, set_attributes};

/// The flags of mount(2) for the propagation of mounts.
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;

/// The error on a kernel without mount_setattr(2).
const NEEDS_5_12: &str = "it needs Linux 5.12, whose mount_setattr(2) this kernel has not";

/// How long a mount may be busy before that counts as an error.
const BUSY_LIMIT: Duration = Duration::from_millis(100);

/// Adds the operation to the error of a walk: `mount: open` if the kernel refused, `mount` if the walk did.
///
/// # Errors
/// The error of the walk, if it failed.
pub fn walked(opened: Result<OwnedFd, Cause>, operation: &str, path: &Path) -> Result<OwnedFd> {
    opened.map_err(|cause| match cause {
        Cause::Os(errno) => Error::os(&format!("{operation}: open"), path.display(), errno),
        Cause::Because(why) => Error::new(operation, path.display(), why),
    })
}

/// Mounts as mount(2) would, step by step.
///
/// # Errors
/// The step that failed, and its object.
pub fn mount(mount: &MountRequest, walk: &Walk) -> Result<()> {
    let target = walked(walk.open_mount(&mount.target), "mount", &mount.target)?;
    let object = mount.target.display();
    let recursive = mount.flags & libc::MS_REC != 0;
    if mount.flags & libc::MS_REMOUNT != 0 {
        if mount.flags & libc::MS_BIND != 0 {
            return change(&target, recursive, attributes(mount.flags)).context("remount", object);
        }
        return within(&target, &|| call(mount, &mount.source, c".", &mount.data)).context("remount", object);
    }
    if mount.flags & libc::MS_BIND != 0 {
        return bind(mount, &target, walk, recursive);
    }
    if mount.flags & libc::MS_MOVE != 0 {
        let source = Path::new(&mount.source);
        let tree = walked(walk.open_mount(source), "mount", source)?;
        return attach(&tree, &target).context("move a mount to", object);
    }
    if mount.flags & PROPAGATION != 0 {
        let propagation = Attributes { propagation: mount.flags & PROPAGATION, ..Attributes::default() };
        return change(&target, recursive, propagation).context("change the propagation of", object);
    }
    let operation = format!("mount {} on", mount.fs_type.display());
    let mut paths = Paths { walk, held: Vec::new() };
    let (source, data) = (paths.source(&mount.source)?, paths.layers(mount)?);
    let objection = Cell::new(None);
    let attempt = |target: &CStr| {
        let mounted = call(mount, &source, target, &data);
        if mounted == Err(Errno::INVAL) {
            objection.set(ask_for_objection(&mount.fs_type, data.as_bytes()));
        }
        mounted
    };
    let mounted = match paths.held.is_empty() {
        true => within(&target, &|| attempt(c".")),
        false => by_name(&target, &attempt),
    };
    mounted.map_err(|errno| match (errno, objection.take()) {
        (Errno::NODEV, _) => Error::new(&operation, object, "this kernel has no such filesystem (ENODEV)"),
        (_, Some(why)) => Error::os(&operation, format_args!("{object}: {}", paths.named(why)), errno),
        _ => Error::os(&operation, object, errno),
    })
}

/// What the kernel says against the options of a mount, in its own words; `None` if it says nothing. The
/// options are set again in a context of fsopen(2), without a mount.
fn ask_for_objection(fs_type: &OsStr, data: &[u8]) -> Option<String> {
    let context = fsopen(&*c_string(fs_type), FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    for option in separated(data, b',').filter(|option| !option.is_empty()) {
        let mut parts = option.splitn(2, |&byte| byte == b'=').map(|part| c_string(OsStr::from_bytes(part)));
        let key = parts.next().unwrap_or_default();
        let set = match parts.next() {
            Some(value) => fsconfig_set_string(&context, &*key, &*value),
            None => fsconfig_set_flag(&context, &*key),
        };
        if set.is_err() {
            break;
        }
    }
    let mut line = [0; 512];
    // Each line is an error, a warning or information.
    while let Ok(length) = rustix::io::read(&context, &mut line) {
        if let Some(text) = line.get(..length).and_then(|line| line.strip_prefix(b"e ")) {
            return Some(String::from_utf8_lossy(text).trim_end().to_owned());
        }
    }
    None
}

/// The paths that the kernel itself walks for a mount.
struct Paths<'a> {
    walk: &'a Walk,
    /// Directories that were opened because others can change their paths, with these paths.
    held: Vec<(OwnedFd, PathBuf)>,
}

impl Paths<'_> {
    /// The path, or a name in procfs that leads to its target.
    fn steady(&mut self, path: PathBuf) -> Result<OsString> {
        match self.walk.is_steady(&path) {
            true => Ok(path.into()),
            false => self.hold(path),
        }
    }

    /// A name in procfs that leads to the target of a path.
    fn hold(&mut self, path: PathBuf) -> Result<OsString> {
        let opened = walked(self.walk.open_mount(&path), "mount", &path)?;
        let name = descriptor_name(&opened);
        self.held.push((opened, path));
        Ok(name.into())
    }

    /// A message of the kernel, with paths instead of such names.
    fn named(&self, mut sentence: String) -> String {
        for (opened, path) in self.held.iter().rev() {
            let name = descriptor_name(opened);
            if let Some(at) = sentence.find(&*name) {
                sentence.replace_range(at..at + name.len(), &path.to_string_lossy());
            }
        }
        sentence
    }

    /// As [`Self::steady`], for a source. For most filesystem types the source is only a name for the mount
    /// table.
    fn source(&mut self, source: &OsStr) -> Result<OsString> {
        let path = Path::new(source);
        match !path.is_absolute() || self.walk.lacks(path) {
            true => Ok(source.to_owned()),
            false => self.steady(path.to_owned()),
        }
    }

    /// The options of a mount. The layers of an overlay get such names as well.
    fn layers(&mut self, mount: &MountRequest) -> Result<OsString> {
        if mount.fs_type != "overlay" {
            return Ok(mount.data.clone());
        }
        let mut all = Vec::new();
        for option in separated(mount.data.as_bytes(), b',') {
            let at = option.iter().position(|&byte| byte == b'=').map_or(0, |at| at + 1);
            let (key, value) = option.split_at(at);
            let is_list = key == b"lowerdir=";
            let is_escaped = is_list || matches!(key, b"upperdir=" | b"workdir=");
            let has_layers = is_escaped || matches!(key, b"lowerdir+=" | b"datadir+=");
            all.extend(key);
            for layer in separated(value, if is_list { b':' } else { b',' }) {
                let plain = if is_escaped { &*unescaped(layer) } else { layer };
                // A relative path would start from the directory that is mounted on.
                let path = || absolute(OsStr::from_bytes(plain).as_ref());
                match has_layers && !layer.is_empty() {
                    true if plain == layer => all.extend(self.steady(path())?.as_bytes()),
                    true => all.extend(self.hold(path())?.as_bytes()),
                    false => all.extend(layer),
                }
                all.push(b':');
            }
            all.pop();
            all.push(b',');
        }
        all.pop();
        Ok(OsString::from_vec(all))
    }
}

/// The parts of a text between separators. A separator after a backslash does not count.
fn separated(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_escaped = false;
    text.split(move |&byte| {
        let separates = byte == separator && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        separates
    })
}

/// A text without the backslashes that escape the next character.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut is_escape = false;
    let is_kept = |&byte: &u8| {
        is_escape = byte == b'\\' && !is_escape;
        !is_escape
    };
    text.iter().copied().filter(is_kept).collect()
}

/// Binds a copy of a tree. Its flags are set before any process can see it: a read-only bind mount is never
/// writable.
///
/// # Errors
/// The step that failed, and its object.
fn bind(mount: &MountRequest, target: &OwnedFd, walk: &Walk, recursive: bool) -> Result<()> {
    let source = Path::new(&mount.source);
    let source = walked(walk.open_mount(source), "bind", source)?;
    let copy = |more| {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        open_tree(&source, c"", flags | more)
    };
    let one = if recursive { Err(Errno::INVAL) } else { copy(OpenTreeFlags::empty()) };
    // In a user namespace, nobody may uncover what the host has mounted below: it has to come along, with the
    // same flags.
    let (tree, recursive) = match one {
        Err(Errno::INVAL) => (copy(OpenTreeFlags::AT_RECURSIVE), true),
        one => (one, false),
    };
    let tree = tree.context("bind: copy", mount.source.display())?;
    let flags = attributes(mount.flags);
    if flags != Attributes::default() {
        change(&tree, recursive, flags).context("bind: set the flags of", mount.source.display())?;
    }
    attach(&tree, target).context("bind to", mount.target.display())
}

/// Mounts a tree that is mounted nowhere (move_mount(2)). Both are given by descriptor, so no path is walked.
///
/// # Errors
/// As move_mount(2).
pub fn attach(tree: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// mount(2).
fn call(mount: &MountRequest, source: &OsStr, target: &CStr, data: &OsStr) -> rustix::io::Result<()> {
    let flags = MountFlags::from_bits_retain(mount.flags as u32);
    let (source, fs_type, data) = (c_string(source), c_string(&mount.fs_type), c_string(data));
    let data = Some(data.as_c_str()).filter(|data| !data.is_empty());
    unless_busy(|| rustix::mount::mount(&*source, target, &*fs_type, flags, data))
}

/// Changes a mount, and those below it if `recursive`; waits while it is busy.
pub(super) fn change(mount: &OwnedFd, recursive: bool, attributes: Attributes) -> Result<(), Cause> {
    unless_busy(|| set_attributes(mount, recursive, attributes)).map_err(|errno| match errno {
        Errno::NOSYS => Cause::Because(NEEDS_5_12.into()),
        errno => errno.into(),
    })
}

/// Waits for up to [`BUSY_LIMIT`] while a mount is busy ([`retry`]).
fn unless_busy(call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    retry::while_passing(Errno::BUSY, BUSY_LIMIT, call)
}

/// Runs `work` in another working directory, and returns to the present one.
fn within(directory: &OwnedFd, work: &dyn Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let back = rustix::fs::open(c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    fchdir(directory)?;
    let result = work();
    fchdir(back)?;
    result
}

/// The flags of a bind mount in the form of mount_setattr(2).
///
/// Flags that are not named stay as they are, as with mount(8): a remount must not remove a restriction by
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

/// Unmounts a mount, with all mounts below it if that was asked for.
///
/// # Errors
/// The mount that could not be unmounted; EBUSY if it stays in use.
pub fn umount(umount: &Umount, walk: &Walk) -> Result<()> {
    let flags = UnmountFlags::from_bits_retain(umount.flags) | UnmountFlags::NOFOLLOW;
    let target = &umount.target;
    let unmount = |path: &Path| unmount_at(path, flags, walk);
    // MNT_DETACH includes the mounts below, and works without /proc.
    if umount.recursive && !flags.contains(UnmountFlags::DETACH) {
        let mounts = mountinfo::parse(&files::read_mountinfo().context("umount: read", files::MOUNTINFO)?);
        for below in mountinfo::below(&mounts, &lexical(target)) {
            unmount(below)?;
        }
    }
    unmount(target)
}

/// Calls umount2(2) from inside the directory of the mount point, which is opened like any target, so that no
/// link in the path can lead to another mount. (If the working directory were the mount itself, the mount
/// would be busy.)
fn unmount_at(target: &Path, flags: UnmountFlags, walk: &Walk) -> Result<()> {
    let target = lexical(target);
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return unmount(c"/", flags).context("umount", "/");
    };
    let parent = walked(walk.open_mount(parent), "umount", parent)?;
    let name = c_string(name);
    within(&parent, &|| unless_busy(|| unmount(&*name, flags))).context("umount", target.display())
}

/// Unmounts the mount that was watched at a path. The path of a mount in the table has no symbolic links, so
/// a path with one leads elsewhere by now.
///
/// # Errors
/// EINVAL if the mount with that ID is not there any more. Nothing was unmounted then.
pub fn umount_watched(path: &Path, id: u64, flags: UnmountFlags) -> Result<()> {
    let file = c_string(path.as_os_str());
    let opened = openat2(CWD, file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let mount = match opened {
        Err(Errno::LOOP) => {
            let reason = "not unmounted: by now a symbolic link is on the way, to what was not watched";
            return Err(Error::new("umount", path.display(), reason));
        }
        opened => opened.context("umount: open", path.display())?,
    };
    let unmounted = by_name(&mount, &|name: &CStr| {
        // The filesystem itself is not asked, because it may hang.
        let info = files::read_file(&format!("self/fdinfo/{}", mount.as_raw_fd()))?;
        let is_it = |line: &[u8]| line == format!("mnt_id:\t{id}").as_bytes();
        match info.split(|&byte| byte == b'\n').any(is_it) {
            true => unmount(name, flags),
            false => Err(Errno::INVAL),
        }
    });
    unmounted.context("umount", path.display())
}

/// Runs `work` with a name for an open file. The name is one in procfs, and leads to that file only, whatever
/// others rename.
///
/// # Errors
/// There is no procfs; or the error of `work`.
pub fn by_name(fd: &OwnedFd, work: &dyn Fn(&CStr) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let proc = detached("proc").or_else(|_| files::open_proc())?;
    within(&proc, &|| work(&c_string(descriptor_name(fd).as_ref())))
}

/// The mount that an open file is on, by the mount table of this process.
pub fn mount_of(file: BorrowedFd<'_>) -> Option<Mount> {
    let info = files::read_file(&format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let info = String::from_utf8_lossy(&info);
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok())?;
    mountinfo::parse(&files::read_mountinfo().ok()?).into_iter().find(|mount| mount.id == id)
}

/// The name in procfs for an open file of this process.
fn descriptor_name(fd: &OwnedFd) -> String {
    format!("self/fd/{}", fd.as_raw_fd())
}

/// Makes `pivot.new_root` the root and the working directory.
///
/// # Errors
/// A message for each of the kernel's many reasons for EINVAL (pivot_root(2)); or a link in the path is
/// refused.
pub fn pivot_root(pivot: &PivotRoot, walk: &Walk) -> Result<()> {
    let object = format_args!("{} {}", pivot.new_root.display(), pivot.put_old.display()).to_string();
    let failed = |errno| match explain(pivot, errno) {
        Some(reason) => Error::new("pivot_root", &object, reason),
        None => Error::os("pivot_root", &object, errno),
    };
    let open = |path: &Path| match walk.open(path, path::DIRECTORY) {
        Err(Cause::Os(errno)) => Err(failed(errno)),
        opened => opened.context("pivot_root", &object),
    };
    let (new, put_old, old) = (open(&pivot.new_root)?, open(&pivot.put_old)?, open(Path::new("/"))?);
    // The old root is put on top of the new one, and moved from there. By their paths, the two directories
    // may have been replaced by now.
    let pivoted = fchdir(&new).and_then(|()| rustix::process::pivot_root(c".", c"."));
    if let Err(errno) = pivoted {
        let _ = fchdir(&old);
        return Err(failed(errno));
    }
    match lexical(&pivot.put_old) == lexical(&pivot.new_root) {
        // Once only the new root can be reached, the old one could not be detached any more, but `/..` would
        // lead to it.
        true => {
            let detached = fchdir(&old).and_then(|()| unmount(c".", UnmountFlags::DETACH));
            detached.and_then(|()| fchdir(&new)).context("pivot_root: detach", "the old root")
        }
        false => attach(&old, &put_old).context("pivot_root: move the old root to", pivot.put_old.display()),
    }
}

/// The reason for an error of pivot_root(2), if it can be found out.
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
        // For a plain directory of the present root, the kernel's error is EBUSY.
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

/// Whether a path is a mount point. Before Linux 5.8 the kernel does not tell, and this returns true.
fn is_mount_root(path: &Path) -> bool {
    let root = StatxAttributes::MOUNT_ROOT;
    statx(CWD, c_string(path.as_os_str()), AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
        .is_ok_and(|stat| stat.stx_attributes.contains(root) || !stat.stx_attributes_mask.contains(root))
}

/// Makes all mounts of this namespace private: they began as copies of mounts that may be shared.
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

/// A new instance of a filesystem without a source, mounted nowhere.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN (fsopen(2), fsmount(2)).
pub fn detached(fs_type: &str) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, plain)
}
