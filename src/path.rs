//! The one walk along paths that root acts on.
//!
//! Root must not be led to a place that its operator did not write. So a path is walked once, and the result
//! is a descriptor, or a name in a directory that was opened; all work is done with these. If the path has no
//! symbolic link, the kernel walks it (openat2(2), RESOLVE_NO_SYMLINKS). Otherwise it is walked here, one
//! component at a time:
//!
//! | component | result |
//! |---|---|
//! | a directory, whoever owns it | entered by descriptor |
//! | a link of root's or of this process's user, in a directory that others cannot change | followed |
//! | any other link | refused |
//! | a link below a new root in preparation | stays below it; refused if the path leads to no mount |
//! | a link while the old root can be reached | refused |
//! | a file to be changed, in a directory that others can change | refused if it may belong to others |
//!
//! Others can change the names below a directory that they own or may write to. They can change all of a FUSE
//! filesystem, whose daemon makes up the owners. In a directory with the sticky bit they cannot rename
//! directories of this process's user.
//!
//! A `..` returns to the directory that the walk came from. That directory is kept open, so renaming it has
//! no effect on the walk. A process with the rights of the user only ([`Walk::as_user`]) cannot be led
//! further than the user could go anyway, and walks as the kernel does.
//!
//! In a user namespace the files of root of the host belong to a user without a number, as those of everybody
//! else do: a process outside tells them apart ([`Owner`]). Where there is none, nobody without a number is
//! trusted.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, StatFs, StatxFlags,
    fstat, fstatfs, openat, openat2, readlinkat, stat, statx,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{fchdir, getegid, geteuid};

use crate::error::Cause;
use crate::files;
use crate::outside::Owner;
use crate::sys::environment::working_directory;
use crate::sys::exec::c_string;

type Result<T, E = Cause> = std::result::Result<T, E>;

/// The mount option `nosymfollow` (statfs(2)).
const ST_NOSYMFOLLOW: FsWord = 0x2000;
/// The most symbolic links that one walk follows, as in the kernel (MAXSYMLINKS, path_resolution(7)).
const LINKS_MAX: u32 = 40;
/// The longest path that the kernel takes, with its terminating NUL (PATH_MAX).
const PATH_MAX: usize = 4096;
/// The type of a FUSE filesystem in statfs(2).
const FUSE: FsWord = 0x6573_5546;
/// Flags to open a directory for walking on, or for acting on it.
pub const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Where a walk takes place, which decides which links may be followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The directory in which a new root is prepared, before it is entered. The files below it belong to the
    /// tenant.
    pub new_root: Option<PathBuf>,
    /// The place of the old root, after the new one was entered.
    pub old_root: Option<PathBuf>,
    /// Whether the new root was entered. It may be a filesystem of the tenant's.
    pub is_inside: bool,
    /// Whether this process has the rights of the user only.
    pub as_user: bool,
}

impl Walk {
    /// Opens the file at a path, with O_PATH or for reading.
    ///
    /// # Errors
    /// As open(2); a message for a link that is refused.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.find(path, flags, false)
    }

    /// Opens a mount point, or the source of a bind mount. A link below the new root is followed as it will
    /// be seen from inside.
    ///
    /// # Errors
    /// As [`Walk::open`].
    pub fn open_mount(&self, path: &Path) -> Result<OwnedFd> {
        self.find(&lexical(path), OFlags::PATH, true)
    }

    /// Opens the directory in which a name is to be made or removed.
    ///
    /// # Errors
    /// As [`Walk::open`]; EINVAL for a path that does not end in a name.
    pub fn entry(&self, path: &Path) -> Result<(OwnedFd, CString)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Ok((self.open(parent, DIRECTORY)?, c_string(name)))
    }

    /// Opens a file that is to be changed. In a directory that others can change, the file must be new, or it
    /// must be a file to which others could not have given the name, and no mount: it could be a file of
    /// someone else.
    ///
    /// # Errors
    /// As [`Walk::open`].
    pub fn open_to_change(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        if self.as_user {
            return Ok(openat(CWD, c_string(path.as_os_str()), flags | OFlags::CLOEXEC, mode)?);
        }
        let opened = self.entry(path).and_then(|(parent, name)| {
            let (file, is_new) = create_or_open(&parent, &name, flags, mode)?;
            Ok((file, (!is_new).then_some(parent)))
        });
        let is_link =
            |file| fstat(file).is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Symlink);
        let Arrival { directory, file } = match opened {
            Ok((file, None)) => return Ok(file),
            Ok((file, Some(directory))) if !is_link(&file) => Arrival { directory, file },
            // A link, or the root directory.
            Ok(_) | Err(Cause::Os(Errno::LOOP | Errno::INVAL)) => {
                self.by_hand(path, flags, mode, false)?.end()?
            }
            Err(cause) => return Err(cause),
        };
        may_change(&directory, &file)?;
        Ok(file)
    }

    /// A path for system calls that take no descriptor and do not follow the last name. If others can change
    /// the path to its directory, this process enters the directory, and the result is the name alone.
    ///
    /// # Errors
    /// As [`Walk::entry`].
    pub fn approach(&self, path: &Path) -> Result<PathBuf> {
        if self.as_user {
            return Ok(path.to_owned());
        }
        if path.parent().is_some_and(|parent| self.is_steady(parent)) {
            return Ok(path.to_owned());
        }
        let (directory, name) = self.entry(path)?;
        fchdir(directory)?;
        Ok(Path::new(".").join(OsStr::from_bytes(name.to_bytes())))
    }

    /// Whether the kernel reaches the same place when it is given the path, because others cannot change the
    /// path.
    pub fn is_steady(&self, path: &Path) -> bool {
        self.steady(path).is_ok_and(|found| found.is_some())
    }

    /// Whether others can change neither a file nor the path to it. `there` is the file that was found at the
    /// path.
    pub fn is_ours_alone(&self, path: &Path, there: &Stat) -> bool {
        let is_it = |(owner, found): (Owner, Stat)| {
            owner.is_ours && (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino)
        };
        there.st_mode & 0o022 == 0 && self.steady(path).is_ok_and(|found| found.is_some_and(is_it))
    }

    /// The file that the kernel finds at a path, with its owner; `None` if others can change the path.
    fn steady(&self, path: &Path) -> Result<Option<(Owner, Stat)>> {
        let below = self.below_new_root(path);
        if below.as_ref().is_some_and(|(root, _)| !Self::default().is_steady(root)) {
            return Ok(None);
        }
        let mut walk = self.by_hand(path, OFlags::PATH, Mode::empty(), true)?;
        // Below a new root the kernel does not know where links start from.
        if below.is_some() && walk.links > 0 {
            return Ok(None);
        }
        let last = walk.directories.pop();
        let (owner, there) = look_at(last.as_ref().map_or(&walk.root, |(_, file)| file))?;
        let is_steady = last.is_none() || walk.stranger(owner.is_ours)?.is_none();
        Ok(is_steady.then_some((owner, there)))
    }

    /// Whether nothing exists at a path, and others cannot create something there.
    pub fn lacks(&self, path: &Path) -> bool {
        let there = path.ancestors().find_map(|above| Some((above, stat(c_string(above.as_os_str())).ok()?)));
        there.is_some_and(|(above, there)| above != path && self.is_ours_alone(above, &there))
    }

    fn find(&self, path: &Path, flags: OFlags, is_mount: bool) -> Result<OwnedFd> {
        let (all, mode) = (flags | OFlags::CLOEXEC, Mode::empty());
        if self.as_user {
            return Ok(openat(CWD, c_string(path.as_os_str()), all, mode)?);
        }
        let found = match self.below_new_root(path) {
            Some((root, rest)) => {
                let root = Self::default().open(root, DIRECTORY)?;
                let rest = c_string(rest.as_os_str());
                openat2(root.as_fd(), rest, all, mode, ResolveFlags::NO_SYMLINKS | ResolveFlags::IN_ROOT)
            }
            None => openat2(CWD, c_string(path.as_os_str()), all, mode, ResolveFlags::NO_SYMLINKS),
        };
        match found {
            // A link; a rename or mount by others during a walk with a '..'; or a kernel without openat2.
            Err(Errno::LOOP | Errno::AGAIN | Errno::NOSYS | Errno::PERM) => {
                Ok(self.by_hand(path, flags, mode, is_mount)?.end()?.file)
            }
            found => Ok(found?),
        }
    }

    /// The new root, and the rest of a path below it. Other spellings of the same path count, too.
    fn below_new_root(&self, path: &Path) -> Option<(&Path, PathBuf)> {
        let root = self.new_root.as_deref()?;
        let (real_root, meant) = (lexical(root), lexical(path));
        let rest = meant.strip_prefix(real_root).ok()?;
        let absolute = absolute(path);
        let rest = absolute.strip_prefix(root).unwrap_or(rest);
        Some((root, if rest.as_os_str().is_empty() { ".".into() } else { rest.to_owned() }))
    }

    /// The walk without the kernel's help.
    fn by_hand(&self, path: &Path, flags: OFlags, mode: Mode, is_mount: bool) -> Result<Walker> {
        let below = self.below_new_root(path);
        let refused = match &below {
            Some(_) if !is_mount => Some("below a root that is not entered yet"),
            None if self.old_root.is_some() => Some("while the old root can be reached through it"),
            _ => None,
        };
        let (start, rest) = below.unwrap_or_else(|| (Path::new("/"), absolute(path)));
        let root = match start == Path::new("/") {
            true => openat(CWD, c"/", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            false => Self::default().open(start, DIRECTORY)?,
        };
        let walker = Walker {
            root,
            start: start.to_owned(),
            trusts_root: !self.is_inside,
            refused,
            directories: Vec::new(),
            rest: Vec::new(),
            links: 0,
        };
        walker.walk(&rest, flags, mode)
    }
}

/// As [`Walk::open_to_change`], in a directory that a walk has found. No link is followed.
///
/// # Errors
/// As open(2), ELOOP for a link; a message for a file that may be somebody else's.
pub fn open_to_change_in(directory: &OwnedFd, name: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let (file, is_new) = create_or_open(directory, name, flags, mode)?;
    if !is_new {
        may_change(directory, &file)?;
    }
    Ok(file)
}

/// Opens a file, and tells whether it was made for that. No link is followed.
fn create_or_open(
    directory: &OwnedFd,
    name: &CStr,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<(OwnedFd, bool)> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if flags.contains(OFlags::CREATE) {
        match openat(directory, name, flags | OFlags::EXCL, mode) {
            Err(Errno::EXIST) => {}
            made => return Ok((made?, true)),
        }
    }
    Ok((openat(directory, name, flags, mode)?, false))
}

/// Refuses a file that may be another one than intended, in a directory that others can change.
fn may_change(directory: &OwnedFd, file: &OwnedFd) -> Result<()> {
    let ((parent_owner, parent), (owner, there)) = (look_at(directory)?, look_at(file)?);
    let Some(who) = stranger_in(parent_owner, &parent, true) else { return Ok(()) };
    if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
        return Ok(());
    }
    // Before Linux 5.8 the kernel does not tell.
    let mount = |fd: &OwnedFd| {
        statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok().map(|stat| stat.stx_mnt_id)
    };
    // The name that others gave to a file may be gone by the time of this check.
    let is_the_strangers = (there.st_uid, owner.uid) == (parent.st_uid, parent_owner.uid) && !owner.is_ours;
    let what = match there.st_nlink {
        1 if parent.st_dev != there.st_dev || mount(directory) != mount(file) => "is a mount".to_owned(),
        1 if is_the_strangers || only_its_owner_could_link(&there) => return Ok(()),
        1 => format!("is of user {}, and could have had another name", owner.uid),
        names => format!("has {names} names"),
    };
    let why = "it may be a file of somebody else's: have it in a directory of root's";
    Err(Cause::Because(format!("it {what}, in a directory that {who} can change: {why}").into()))
}

/// Whether only the owner of a file could have given it a name. With `fs.protected_hardlinks` (proc(5))
/// others need write access to a regular file for that.
fn only_its_owner_could_link(there: &Stat) -> bool {
    let is_protected = files::open_proc().and_then(|proc| {
        // In a jail, `/proc` may be controlled by a tenant.
        files::read_file_at(proc, "sys/fs/protected_hardlinks")
    });
    let is_regular = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
    is_protected.is_ok_and(|text| text.starts_with(b"1")) && (!is_regular || there.st_mode & 0o022 == 0)
}

/// The owner and the rest of what stat(2) tells of a file.
fn look_at(file: &OwnedFd) -> Result<(Owner, Stat)> {
    let there = fstat(file)?;
    Ok((Owner::of(file, there.st_uid), there))
}

/// Which other user can change the names in a directory, if any. In the middle of a path only the next
/// directory matters, which the sticky bit protects from being renamed.
fn stranger_in(owner: Owner, directory: &Stat, is_last: bool) -> Option<String> {
    let mode = directory.st_mode;
    // Many users have a group without other members. Root has none.
    let is_own_group = mode & 0o020 != 0
        && directory.st_gid == getegid().as_raw()
        && (!geteuid().is_root() || files::is_user_alone());
    let others = if is_own_group { 0o002 } else { 0o022 };
    if !owner.is_ours {
        Some(format!("user {}", owner.uid))
    } else if mode & others != 0 && (is_last || mode & libc::S_ISVTX == 0) {
        Some("others".to_owned())
    } else {
        None
    }
}

/// The path, starting from the root directory.
pub fn absolute(path: &Path) -> PathBuf {
    match path.is_absolute() {
        true => path.to_owned(),
        false => working_directory().unwrap_or_else(|_| "/".into()).join(path),
    }
}

/// The absolute path without `.` and `..`, computed from its text alone.
pub fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in absolute(path).as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                out.pop();
            }
            part => out.push(OsStr::from_bytes(part)),
        }
    }
    out
}

/// A walk by hand that has reached a directory, or its end.
struct Walker {
    root: OwnedFd,
    /// The path of the root, for error messages.
    start: PathBuf,
    /// Whether the filesystem of the root belongs to the host, though it may be FUSE.
    trusts_root: bool,
    /// Why links are not followed, if they are not.
    refused: Option<&'static str>,
    /// The directories from below the root to the present place, which can be a file only at the end.
    directories: Vec<(CString, OwnedFd)>,
    /// The rest of the path, in reverse order.
    rest: Vec<Part>,
    /// How many links were followed.
    links: u32,
}

/// The end of a walk. The root directory counts as being in itself.
struct Arrival {
    /// The directory that the file is in.
    directory: OwnedFd,
    /// The file.
    file: OwnedFd,
}

/// A part of a path.
enum Part {
    /// A leading slash.
    Root,
    /// `.`
    Here,
    /// `..`
    Up,
    /// A name in the directory.
    Name(CString),
    /// A slash at the end: what was found must be a directory.
    Slash,
}

/// The type of a file that was found under a name.
enum Found {
    Link(OwnedFd),
    Other(OwnedFd),
}

impl Walker {
    /// Walks like a process whose root directory is `root`: absolute paths and links start there, and `..`
    /// stops there. The file at the end of the path is opened with `flags`.
    fn walk(mut self, path: &Path, flags: OFlags, mode: Mode) -> Result<Self> {
        let path = c_string(path.as_os_str());
        match path.as_bytes().len() {
            0 => return Err(Errno::NOENT.into()),
            PATH_MAX.. => return Err(Errno::NAMETOOLONG.into()),
            _ => {}
        }
        self.enter(path.as_bytes());
        let mut is_opened = false;
        while let Some(part) = self.rest.pop() {
            is_opened = false;
            match part {
                Part::Root => self.directories.clear(),
                Part::Here => self.may_search()?,
                Part::Up => {
                    self.may_search()?;
                    self.directories.pop();
                }
                Part::Name(name) => match self.look_up(&name, flags, mode)? {
                    Found::Link(link) => {
                        if let Some(file) = self.follow(&name, &link, flags)? {
                            self.directories.push((name, file));
                            is_opened = true;
                        }
                    }
                    Found::Other(file) => {
                        self.directories.push((name, file));
                        is_opened = self.rest.is_empty();
                    }
                },
                Part::Slash if self.is_in_directory()? => {}
                Part::Slash => return Err(Errno::NOTDIR.into()),
            }
        }
        match is_opened || flags.contains(OFlags::PATH) {
            true => Ok(self),
            false => Err(Errno::ISDIR.into()),
        }
    }

    /// The file that the walk has reached.
    fn end(mut self) -> Result<Arrival> {
        let file = self.directories.pop();
        let (_, directory) = self.directories.pop().unwrap_or((CString::default(), self.root));
        match file {
            Some((_, file)) => Ok(Arrival { directory, file }),
            None => Ok(Arrival { file: fcntl_dupfd_cloexec(&directory, 0)?, directory }),
        }
    }

    /// Inserts the parts of a path before the rest.
    fn enter(&mut self, path: &[u8]) {
        let mut parts = Vec::new();
        if path.starts_with(b"/") {
            parts.push(Part::Root);
        }
        for part in path.split(|&byte| byte == b'/') {
            match part {
                b"" => {}
                b"." => parts.push(Part::Here),
                b".." => parts.push(Part::Up),
                name => parts.push(Part::Name(c_string(OsStr::from_bytes(name)))),
            }
        }
        if path.ends_with(b"/") {
            parts.push(Part::Slash);
        }
        self.rest.extend(parts.into_iter().rev());
    }

    fn directory(&self) -> BorrowedFd<'_> {
        self.directories.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd())
    }

    /// Fails unless the present directory may be searched, which `.` and `..` require as well.
    fn may_search(&self) -> Result<()> {
        openat(self.directory(), c".", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(())
    }

    fn is_in_directory(&self) -> Result<bool> {
        Ok(FileType::from_raw_mode(fstat(self.directory())?.st_mode) == FileType::Directory)
    }

    /// Opens a name in the present directory without following a link; with `flags` if it is the last name.
    fn look_up(&self, name: &CStr, flags: OFlags, mode: Mode) -> Result<Found> {
        // O_DIRECTORY also triggers an automount (autofs).
        let flags = if self.rest.is_empty() { flags } else { DIRECTORY };
        let open = |flags| openat(self.directory(), name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode);
        let (file, failed) = match open(flags) {
            Ok(file) if flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY) => (file, None),
            // It may be a link.
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => (open(OFlags::PATH)?, Some(errno)),
            opened => return Ok(Found::Other(opened?)),
        };
        match (FileType::from_raw_mode(fstat(&file)?.st_mode), failed) {
            (FileType::Symlink, _) => Ok(Found::Link(file)),
            // The name has another file by now.
            (FileType::Directory, _) if flags.contains(OFlags::PATH) => Ok(Found::Other(file)),
            (_, Some(errno)) => Err(errno.into()),
            (_, None) => Ok(Found::Other(file)),
        }
    }

    /// Inserts the text of a link before the rest. A link of procfs to an open file has no valid text. It is
    /// opened instead, if it is the last component and not for O_PATH (`/dev/stdout`).
    fn follow(&mut self, name: &CStr, link: &OwnedFd, flags: OFlags) -> Result<Option<OwnedFd>> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        self.may_be_led(name, link)?;
        if self.is_magic(name, link) {
            let is_of_proc = fstatfs(link)?.f_type == PROC_SUPER_MAGIC;
            if !is_of_proc || flags.contains(OFlags::PATH) || !self.rest.is_empty() {
                return Err(Errno::LOOP.into());
            }
            return Ok(Some(openat(self.directory(), name, flags | OFlags::CLOEXEC, Mode::empty())?));
        }
        let text = readlinkat(link, c"", Vec::new())?;
        self.enter(text.as_bytes());
        Ok(None)
    }

    /// Refuses a link that others have made, or could have made.
    fn may_be_led(&self, name: &CStr, link: &OwnedFd) -> Result<()> {
        let (Owner { uid: owner, is_ours }, _) = look_at(link)?;
        let names = self.directories.iter().map(|(name, _)| &**name).chain([name]);
        let path: PathBuf =
            names.fold(self.start.clone(), |path, name| path.join(OsStr::from_bytes(name.to_bytes())));
        let path = path.display();
        let why = match (self.refused, self.stranger(false)?) {
            (Some(when), _) => {
                format!("a symbolic link on the way: refused {when}; {path} is of user {owner}")
            }
            (None, Some(who)) => {
                format!("{path} is a symbolic link of user {owner}, where {who} can change the way")
            }
            (None, None) if is_ours => return Ok(()),
            (None, None) => format!("{path} is a symbolic link of user {owner}"),
        };
        Err(Cause::Because(format!("{why}: write what it leads to instead").into()))
    }

    /// Which other user can change the path to the present place, and the next name there. With
    /// `is_ours_next` that name may be a directory of this process's user.
    fn stranger(&self, is_ours_next: bool) -> Result<Option<String>> {
        let ways = [&self.root].into_iter().chain(self.directories.iter().map(|(_, directory)| directory));
        let roots = if self.trusts_root { Some(fstat(&self.root)?.st_dev) } else { None };
        for (number, directory) in ways.enumerate() {
            let (owner, stat) = look_at(directory)?;
            let is_last = number == self.directories.len() && !is_ours_next;
            if let Some(who) = stranger_in(owner, &stat, is_last) {
                return Ok(Some(who));
            }
            if Some(stat.st_dev) != roots && fstatfs(directory)?.f_type == FUSE {
                return Ok(Some("a FUSE daemon".to_owned()));
            }
        }
        Ok(None)
    }

    /// Whether the kernel says that a link has no valid text, or must not be followed (`nosymfollow`). For
    /// that the kernel walks to the end of the link. If others rename meanwhile, it starts again and keeps
    /// counting links. So it is not asked where neither case is possible, because there may be many links.
    fn is_magic(&self, name: &CStr, link: &OwnedFd) -> bool {
        let is_plain = |it: StatFs| it.f_type != PROC_SUPER_MAGIC && it.f_flags & ST_NOSYMFOLLOW == 0;
        if fstatfs(link).is_ok_and(is_plain) {
            return false;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(self.directory(), name, flags, Mode::empty(), resolve).err() == Some(Errno::LOOP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use crate::retry;

    /// An empty directory, which is removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            // What a user has on the stage, where / and /tmp may be of a user without a number.
            Self(tempfile::Builder::new().prefix(name).tempdir_in("/run").unwrap().keep())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// The identity of a file that was found.
    fn identity(found: Result<OwnedFd, Errno>) -> Result<(u64, u64), Errno> {
        fstat(found?).map(|stat| (stat.st_dev, stat.st_ino))
    }

    fn openat2_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, c_string(path.as_os_str()), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The kernel's result. Other tests rename and mount meanwhile, so it is asked until it has one.
    fn oracle(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
        retry::while_passing(Errno::AGAIN, Duration::from_secs(60), || openat2_in_root(root, path))
    }

    fn walk_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
        let walker = Walker {
            root: root.try_clone_to_owned().unwrap(),
            start: "/".into(),
            trusts_root: true,
            refused: None,
            directories: Vec::new(),
            rest: Vec::new(),
            links: 0,
        };
        let found = walker.walk(path, OFlags::PATH, Mode::empty()).and_then(Walker::end);
        found.map(|arrival| arrival.file).map_err(errno)
    }

    fn errno(cause: Cause) -> Errno {
        match cause {
            Cause::Os(errno) => errno,
            Cause::Because(why) => panic!("refused: {why}"),
        }
    }

    fn compare(root: BorrowedFd<'_>, path: &Path) -> Result<(u64, u64), Errno> {
        let ours = identity(walk_in_root(root, path));
        let mut kernel = identity(oracle(root, path));
        // A walk that the kernel starts again, because others rename, keeps counting links.
        for _ in 0..1000 {
            if kernel == ours || kernel != Err(Errno::LOOP) {
                break;
            }
            kernel = identity(oracle(root, path));
        }
        assert_eq!(kernel, ours, "{}: the kernel, and the walk by hand", path.display());
        ours
    }

    /// A generator of numbers that are the same in every run (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit
        }

        /// A path of up to `parts` parts that probably exists in a tree of the names `a` to `d`.
        fn path(&mut self, parts: usize) -> String {
            const PARTS: [&str; 9] = ["a", "b", "c", "d", "a", "..", "..", ".", "missing"];
            let mut path = String::from(["", "", "", "/", "//"][self.below(5)]);
            for part in 0..=self.below(parts) {
                if part > 0 {
                    path.push_str(["/", "/", "/", "//"][self.below(4)]);
                }
                path.push_str(PARTS[self.below(PARTS.len())]);
            }
            path.push_str(["", "", "", "/", "/."][self.below(5)]);
            path
        }
    }

    #[test]
    fn the_walk_by_hand_finds_what_the_kernel_finds() {
        let mut random = Random(0x5eed_2026_1129_0001);
        let (mut found, mut failed) = (0, 0);
        for round in 0..60 {
            let tree = Tree::new("random");
            let mut directories = vec![tree.0.clone()];
            for _ in 0..20 {
                let parent = directories[random.below(directories.len())].clone();
                let path = parent.join(["a", "b", "c", "d"][random.below(4)]);
                match random.below(10) {
                    0..=3 if fs::create_dir(&path).is_ok() => directories.push(path),
                    4 => drop(File::create_new(&path)),
                    _ => drop(symlink(random.path(4), &path)),
                }
            }
            // First with the whole tree below the root, then with a part of it above the root.
            for directory in [&directories[0], &directories[random.below(directories.len())]] {
                let root = root(directory);
                for _ in 0..100 {
                    match compare(root.as_fd(), Path::new(&random.path(8))) {
                        Ok(_) => found += 1,
                        Err(_) => failed += 1,
                    }
                }
            }
            assert!(round < 10 || found > round && failed > round, "{found} found, {failed} not");
        }
    }

    #[test]
    fn the_walk_by_hand_has_the_limits_of_the_kernel() {
        let tree = Tree::new("limits");
        let at = |name: &str| tree.0.join(name);
        fs::create_dir(at("dir")).unwrap();
        File::create_new(at("file")).unwrap();
        symlink("dir", at("link-1")).unwrap();
        for number in 2..=42 {
            symlink(format!("link-{}", number - 1), at(&format!("link-{number}"))).unwrap();
        }
        symlink("loop", at("loop")).unwrap();
        symlink("file/", at("file-slash")).unwrap();
        symlink("x".repeat(4000), at("long")).unwrap();
        symlink("/../../dir/..//../file", at("climb")).unwrap();
        let root = root(&tree.0);
        let compare = |path: &str| compare(root.as_fd(), Path::new(path)).err();
        assert_eq!((compare("link-40"), compare("link-41")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("link-40/."), compare("link-21/../link-21/")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("link-20/../link-20"), compare("loop/..")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("climb"), compare("climb/..")), (None, Some(Errno::NOTDIR)));
        for path in ["file/", "file/.", "file/..", "file/x", "file-slash", "link-1/../file/"] {
            assert_eq!(compare(path), Some(Errno::NOTDIR), "{path}");
        }
        for path in ["", "x/..", "x/", "link-3/x/."] {
            assert_eq!(compare(path), Some(Errno::NOENT), "{path}");
        }
        for path in ["long".to_owned(), "y".repeat(256), "dir/../".repeat(600)] {
            assert_eq!(compare(&path), Some(Errno::NAMETOOLONG));
        }
        for path in ["/", ".", "..", "//", "/..//", "dir/", "dir/../..", &"dir/../".repeat(585)] {
            assert_eq!(compare(path), None, "{path}");
        }
    }

    #[test]
    fn the_walk_by_hand_follows_links_of_procfs_that_have_a_text() {
        let root = root(Path::new("/proc"));
        let compare = |path: &str| compare(root.as_fd(), Path::new(path)).err();
        for path in ["self/status", "mounts", "thread-self/../../status", "self/../self/comm"] {
            assert_eq!(compare(path), None, "{path}");
        }
        for path in ["self/exe", "self/cwd/..", "self/root", "self/fd/0", "self/ns/mnt"] {
            assert_eq!(compare(path), Some(Errno::LOOP), "{path}");
        }
    }

    /// Runs `work` while another thread renames as fast as it can.
    fn among_renames(tree: &Tree, work: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (tree.0.join("one"), tree.0.join("two"));
                File::create_new(&one).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(&one, &two).unwrap();
                    fs::rename(&two, &one).unwrap();
                }
            });
            work();
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn renames_elsewhere_do_not_fail_a_walk() {
        let (tree, elsewhere) = (Tree::new("walked"), Tree::new("elsewhere"));
        fs::create_dir(tree.0.join("dir")).unwrap();
        symlink("dir/../".repeat(500), tree.0.join("climb")).unwrap();
        let (root, path) = (root(&tree.0), Path::new("climb/dir"));
        let wanted = identity(oracle(root.as_fd(), path)).unwrap();
        let walk = Walk { new_root: Some(tree.0.clone()), ..Walk::default() };
        among_renames(&elsewhere, || {
            let deadline = Instant::now() + Duration::from_secs(60);
            while openat2_in_root(root.as_fd(), path).err() != Some(Errno::AGAIN) {
                assert!(Instant::now() < deadline, "the kernel never says EAGAIN: this test shows nothing");
            }
            for _ in 0..200 {
                let found = walk.open_mount(&tree.0.join(path)).map_err(errno);
                assert_eq!(identity(found), Ok(wanted));
            }
        });
    }

    /// The result of a walk: nothing, an error number, or the reason of a refusal.
    fn outcome(found: Result<OwnedFd>) -> String {
        found.map_or_else(|cause| cause.to_string(), |_| String::new())
    }

    #[test]
    fn a_link_is_followed_only_where_nobody_else_could_have_made_it() {
        assert!(geteuid().is_root(), "this test gives files to others");
        let tree = Tree::new("links");
        let at = |name: &str| tree.0.join(name);
        File::create_new(at("file")).unwrap();
        for (directory, owner, mode) in [
            ("ours", 0, 0o755),
            ("theirs", 7, 0o755),
            ("open", 0, 0o777),
            ("group", 0, 0o775),
            ("sticky", 0, 0o1777),
        ] {
            fs::create_dir_all(at(directory).join("below")).unwrap();
            for place in [directory.to_owned(), format!("{directory}/below")] {
                for (name, owner) in [("link", 0), ("foreign", 7)] {
                    let link = at(&place).join(name);
                    symlink(at("file"), &link).unwrap();
                    lchown(&link, Some(owner), None).unwrap();
                }
            }
            chown(at(directory), Some(owner), None).unwrap();
            fs::set_permissions(at(directory), Permissions::from_mode(mode)).unwrap();
        }
        let walk = Walk::default();
        for (path, says) in [
            ("ours/link", ""),
            ("ours/below/link", ""),
            ("sticky/below/link", ""),
            ("theirs/../ours/link", ""),
            ("ours/foreign", "ours/foreign is a symbolic link of user 7: write what"),
            ("sticky/below/foreign", "sticky/below/foreign is a symbolic link of user 7: write what"),
            ("theirs/link", "theirs/link is a symbolic link of user 0, where user 7 can change the way"),
            ("theirs/below/link", "theirs/below/link is a symbolic link of user 0, where user 7 can"),
            ("open/link", "open/link is a symbolic link of user 0, where others can change the way"),
            ("open/below/link", "open/below/link is a symbolic link of user 0, where others can"),
            ("group/link", "group/link is a symbolic link of user 0, where others can"),
            ("sticky/link", "sticky/link is a symbolic link of user 0, where others can"),
        ] {
            for outcome in [
                outcome(walk.open(&at(path), OFlags::PATH)),
                outcome(walk.open_to_change(&at(path), OFlags::RDONLY, Mode::empty())),
            ] {
                assert!(outcome.contains(says) && outcome.is_empty() == says.is_empty(), "{path}: {outcome}");
            }
        }
        let user = Walk { as_user: true, ..Walk::default() };
        assert_eq!(outcome(user.open(&at("theirs/link"), OFlags::PATH)), "");
        let inside = Walk { old_root: Some("/old".into()), ..Walk::default() };
        assert!(outcome(inside.open(&at("ours/link"), OFlags::PATH)).contains("refused while the old root"));
        let below = Walk { new_root: Some(tree.0.clone()), ..Walk::default() };
        assert!(outcome(below.open(&at("ours/link"), OFlags::PATH)).contains("refused below a root"));
        assert_eq!(below.open_mount(&at("ours/link")).map_err(errno).err(), Some(Errno::NOENT));
        for path in ["ours/below/new", "ours/new"] {
            assert_eq!(walk.approach(&at(path)).ok(), Some(at(path)), "the path itself");
        }
    }

    #[test]
    fn a_file_with_two_names_is_not_changed_where_others_could_have_given_it_one() {
        assert!(geteuid().is_root(), "this test gives files to others");
        let tree = Tree::new("names");
        let at = |name: &str| tree.0.join(name);
        for (directory, owner) in [("ours", 0), ("theirs", 7)] {
            fs::create_dir(at(directory)).unwrap();
            chown(at(directory), Some(owner), None).unwrap();
            for name in ["one", "two"] {
                File::create_new(at(directory).join(name)).unwrap();
            }
            fs::hard_link(at("ours/two"), at(directory).join("three")).unwrap();
        }
        let change = |path: &str| {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            outcome(Walk::default().open_to_change(&at(path), flags, Mode::RUSR))
        };
        // Others may link to files that they may write to, and the name can be gone when the file is checked.
        for (name, owner, mode) in
            [("own", 7, 0o666), ("lent", 0, 0o660), ("kept", 0, 0o644), ("else", 8, 0o602)]
        {
            File::create_new(at("theirs").join(name)).unwrap();
            chown(at("theirs").join(name), Some(owner), None).unwrap();
            fs::set_permissions(at("theirs").join(name), Permissions::from_mode(mode)).unwrap();
        }
        let own = ["theirs/own", "theirs/kept"];
        for path in ["ours/one", "ours/two", "theirs/one", "theirs/new"].into_iter().chain(own) {
            assert_eq!(change(path), "", "{path}");
        }
        for (path, owner) in [("theirs/lent", 0), ("theirs/else", 8)] {
            let refused = change(path);
            let says = format!("it is of user {owner}, and could have had another name, in a directory that");
            assert!(refused.starts_with(&says), "{refused}");
        }
        let refused = change("theirs/three");
        assert!(refused.starts_with("it has 3 names, in a directory that user 7 can change"), "{refused}");
    }

    #[test]
    fn what_is_open_is_written_to_by_its_name_in_proc() {
        let log = Walk::default().open_to_change(Path::new("/proc/self/fd/2"), OFlags::WRONLY, Mode::empty());
        assert_eq!(fstat(log.unwrap()).unwrap().st_ino, fstat(rustix::stdio::stderr()).unwrap().st_ino);
        let error = Walk::default().open(Path::new("/proc/self/fd/2"), OFlags::PATH);
        assert_eq!(error.map_err(errno).err(), Some(Errno::LOOP));
    }

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for path in ["/ufs/x", "//ufs//x/", "/ns/../ufs/./x", "/../ufs/x"] {
            assert_eq!(lexical(Path::new(path)), Path::new("/ufs/x"), "{path}");
        }
        assert!(lexical(Path::new("x")).is_absolute());
    }
}
