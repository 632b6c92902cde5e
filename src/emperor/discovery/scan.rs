//! Scans one vassal directory, and finds the changes since the last scan.
//!
//! A scan that fails half-way changes nothing: only complete listings are compared, so that a read error
//! never looks like the deletion of running vassals.

use std::cell::Cell;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, makedev, openat2, statx,
};
use rustix::io::Errno;

use super::followers::{Answer, Followers, Job, Target};
use super::identity::{Identity, MASK};
use super::patterns::{Allowance, CHANGES_MAX};
use crate::cli::{ends_with, refusal};
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::owner::Owners;
use crate::emperor::core::sorted_map::SortedMap;
use crate::error::{Context, Described, Result};
use crate::path::Walk;
use crate::sys::exec::c_string;

/// The vassal files of a directory, by name.
pub type Listing = SortedMap<OsString, Entry>;

/// One name that looks like a vassal file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File(Stamp),
    /// A file that cannot be a vassal, for this reason.
    Refused(&'static str),
    /// A file that could not be looked at.
    Unknown(Errno),
    /// A link to a file that takes long to be looked at.
    Late,
}

/// A file as a scan has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its version.
    pub version: FileVersion,
    /// Which file it is.
    pub identity: Identity,
    /// Whether the file may be elsewhere, because of a symbolic link. The watch of the directory does not
    /// report its changes then.
    pub elsewhere: bool,
    /// Whether the last listing had a dangling link instead.
    pub lost: bool,
}

/// How many files of other suffixes and hidden ones are reported for a directory.
const FOREIGN_MAX: usize = 100;

/// The reason for refusing a dangling link.
const NOTHING: &str = "a symbolic link to nothing";

/// What happened to a name between two listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A vassal file has appeared.
    Appeared,
    /// A vassal file was renamed to this name.
    Renamed {
        /// Its name before.
        before: OsString,
    },
    /// The version of the file has changed.
    Changed,
    /// The file is gone, or is no longer a vassal's.
    Removed,
    /// The file cannot be a vassal, for this reason.
    Refused(String),
    /// What was refused is gone.
    Gone,
}

/// Which files belong to vassals, and what counts as a change of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Suffixes that count besides `.ini` (`emperor-extra-extension`).
    pub extra_suffixes: Vec<OsString>,
    /// Whether the time of a symbolic link itself counts, not that of the file it leads to
    /// (`emperor-nofollow`).
    pub nofollow: bool,
    /// Which owner of a file counts (`emperor-tyrant`).
    pub owners: Owners,
}

impl Rules {
    /// Whether a file of that name is a vassal's: `*.ini`, except for the names of editors' temporary files.
    pub fn is_vassal(&self, name: &OsStr) -> bool {
        let ends = |suffix: &[u8]| ends_with(name, suffix);
        ends(b".ini") || self.extra_suffixes.iter().any(|suffix| ends(suffix.as_bytes()))
    }

    /// How many changes of one user's files are reported in a scan. Without tyrant mode all files belong to
    /// the operator.
    pub fn changes_max(&self) -> usize {
        if self.owners == Owners::Ignored { usize::MAX } else { CHANGES_MAX }
    }
}

/// The directory at a path, unless a user's link leads there: that may be the directory of another emperor.
/// Where cached facts are enough, the server of the filesystem is not asked.
pub fn directory_id(path: &Path) -> Option<FileId> {
    let directory = Walk::default().open(path, OFlags::PATH | OFlags::CLOEXEC).ok()?;
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
    let there = statx(directory, c"", flags, StatxFlags::INO).ok()?;
    Some(FileId { device: makedev(there.stx_dev_major, there.stx_dev_minor), inode: there.stx_ino })
}

/// Which mount something is on: its device and, since Linux 5.8, the number of the mount.
pub type Mount = (u64, u64);

/// The mount of an open directory.
fn mount_of(directory: &OwnedFd) -> Result<Mount, Errno> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
    let there = statx(directory, c"", flags, StatxFlags::MNT_ID)?;
    Ok((makedev(there.stx_dev_major, there.stx_dev_minor), there.stx_mnt_id))
}

/// The mount of the directory at a path, if there is one.
pub fn mount_at(path: &Path) -> Option<Mount> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    mount_of(&rustix::fs::open(path, flags, Mode::empty()).ok()?).ok()
}

/// Reads a directory completely and looks at the files whose names are `wanted`, with `followers` at those
/// that links lead to. Returns also which mount it is on.
///
/// # Errors
/// open(2), getdents(2), or too many names. Nothing is known about any file then.
pub fn list(
    directory: &Path,
    rules: &Rules,
    wanted: &dyn Fn(&OsStr) -> bool,
    followers: &mut Followers,
    allowance: &Allowance,
) -> Result<(Mount, Listing)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = || directory.display();
    let fd = rustix::fs::open(directory, flags, Mode::empty()).context("open directory", failed())?;
    let mount = mount_of(&fd).context("look at directory", failed())?;
    let entries = Dir::read_from(&fd).context("read directory", failed())?;
    let (mut files, mut far, mut foreign) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        allowance.take(false)?;
        let entry = entry.context("read directory", failed())?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !wanted(name) {
            continue;
        }
        let found = match rules.is_vassal(name) {
            true => {
                allowance.take(true)?;
                let kind = match entry.file_type() {
                    FileType::Unknown => kind_of(&fd, entry.file_name()).unwrap_or(FileType::Unknown),
                    kind => kind,
                };
                match look(&fd, entry.file_name(), kind, rules) {
                    Looked::At(found) => found,
                    Looked::Far => {
                        far.push(name.to_owned());
                        None
                    }
                }
            }
            false if foreign == FOREIGN_MAX => None,
            false => refusal(name).map(|why| {
                foreign += 1;
                Entry::Refused(why)
            }),
        };
        files.extend(found.map(|found| (name.to_owned(), found)));
    }
    files.extend(list_far(directory, &fd, far, rules, followers));
    let mut listing = Listing::default();
    listing.add(files);
    Ok((mount, listing))
}

/// Looks at vassals' files of a directory that were listed before, as [`list`] does. `None` if one of them is
/// not there any more, or cannot be a vassal.
pub fn list_again(
    directory: &Path,
    names: &[OsString],
    rules: &Rules,
    followers: &mut Followers,
    allowance: &Allowance,
) -> Option<Listing> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    let (mut files, mut far) = (Vec::new(), Vec::new());
    for name in names {
        allowance.take(true).ok()?;
        let file = c_string(name);
        match look(&fd, &file, kind_of(&fd, &file).ok()?, rules) {
            Looked::At(found) => files.push((name.clone(), found?)),
            Looked::Far => far.push(name.clone()),
        }
    }
    let count = files.len() + far.len();
    files.extend(list_far(directory, &fd, far, rules, followers));
    let is_known = files.len() == count && files.iter().all(|(_, found)| matches!(found, Entry::File(_)));
    let mut listing = Listing::default();
    listing.add(files);
    is_known.then_some(listing)
}

/// Has followers look at links that lead elsewhere.
fn list_far(
    directory: &Path,
    fd: &OwnedFd,
    links: Vec<OsString>,
    rules: &Rules,
    followers: &mut Followers,
) -> Vec<(OsString, Entry)> {
    let entry = |(name, answer): (OsString, Answer)| {
        let found = match answer {
            Some(target) => entry(fd, &c_string(&name), FileType::Symlink, target, rules)?,
            None => Entry::Late,
        };
        Some((name, found))
    };
    followers.follow(directory, links, Job::Look).into_iter().filter_map(entry).collect()
}

/// Whether a file is not in its directory, but behind a link to another mount.
pub fn is_far(path: &Path) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty());
    fd.is_ok_and(|fd| here(&fd, &c_string(name)).is_none())
}

/// The type of a name in a directory. Some filesystems do not list it.
fn kind_of(directory: &OwnedFd, name: &CStr) -> Result<FileType, Errno> {
    let file = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
    Ok(FileType::from_raw_mode(file.stx_mode.into()))
}

/// Whether a path below a directory is on the same mount as that. Yes if it cannot be looked at.
pub fn is_on_mount_of(base: &Path, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(base, flags, Mode::empty());
    fd.map_or(true, |fd| here(&fd, &c_string(path.as_os_str())).is_some())
}

/// What came of a look at a name.
enum Looked {
    /// This is there; `None` if it was deleted meanwhile.
    At(Option<Entry>),
    /// It leads to another mount, which may hang.
    Far,
}

/// Looks at one name in a directory, which is of this type.
fn look(directory: &OwnedFd, name: &CStr, kind: FileType, rules: &Rules) -> Looked {
    let file = match kind {
        FileType::RegularFile => statx(directory, name, AtFlags::empty(), MASK),
        _ => match here(directory, name) {
            Some(file) => file,
            None => return Looked::Far,
        },
    };
    Looked::At(entry(directory, name, kind, file.map(|file| Target::of(&file)), rules))
}

/// Looks at a file on the mount of its directory, also behind links. `None` if it is elsewhere, or the kernel
/// does not tell.
fn here(directory: &OwnedFd, name: &CStr) -> Option<Result<Statx, Errno>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(directory, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => None,
        file => Some(file.and_then(|file| statx(file, c"", AtFlags::EMPTY_PATH, MASK))),
    }
}

/// The entry of a name of this type, which leads to that file. `None` if it was deleted meanwhile.
fn entry(
    directory: &OwnedFd,
    name: &CStr,
    kind: FileType,
    file: Result<Target, Errno>,
    rules: &Rules,
) -> Option<Entry> {
    let (is_link, is_plain) = (kind == FileType::Symlink, kind == FileType::RegularFile);
    let file = match file {
        Err(Errno::NOENT | Errno::NOTDIR) if is_link => return Some(Entry::Refused(NOTHING)),
        Err(Errno::LOOP) => return Some(Entry::Refused("symbolic links in a circle")),
        Err(Errno::NOENT) => return None,
        Err(errno) => return Some(Entry::Unknown(errno)),
        Ok(file) => file,
    };
    if file.kind != FileType::RegularFile {
        return Some(Entry::Refused(not_a_file(file.kind)));
    }
    let Target { mut version, mut identity, .. } = file;
    if rules.nofollow || rules.owners == Owners::OfLinks {
        let itself = match statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, MASK) {
            Err(Errno::NOENT) => return None,
            Err(errno) => return Some(Entry::Unknown(errno)),
            Ok(itself) => Target::of(&itself),
        };
        let owner = if rules.owners == Owners::OfLinks { itself.version.owner } else { version.owner };
        if rules.nofollow {
            (version, identity) = (itself.version, itself.identity);
        }
        version.owner = owner;
    }
    if rules.owners == Owners::Ignored {
        version.owner = None;
    }
    let elsewhere = !rules.nofollow && !is_plain;
    Some(Entry::File(Stamp { version, identity, elsewhere, lost: false }))
}

/// Updates `old` from a complete listing and returns the changes.
///
/// A name that is `held` stays as it was, because its file is being written. So does a known file that could
/// not be looked at, and every name once no more changes are `left` to report. `name_before` knows names that
/// were changed in between, though another file has the new name by now, as after an edit.
pub fn commit<'a>(
    old: &mut Listing,
    new: Listing,
    held: &dyn Fn(&OsStr) -> bool,
    name_before: &dyn Fn(&OsStr) -> Option<&'a OsStr>,
    left: &Cell<usize>,
) -> Vec<(OsString, Change)> {
    let mut changes = Vec::new();
    if *old == new {
        return changes;
    }
    let renamed = renamed(old, &new, held, name_before, left.get());
    left.set(left.get() - renamed.len());
    // First, so that the vassals of old names end before other files of these names are found.
    for (before, now) in &renamed {
        changes.push((now.clone(), Change::Renamed { before: before.clone() }));
    }
    // Files whose new names are not acted on yet.
    let is_new = |name, stamp: &Stamp| !is_there(old.get(name), stamp) && held(name);
    let arriving: Vec<_> = new
        .iter()
        .filter_map(|(name, entry)| stamp_of(Some(entry)).filter(|stamp| is_new(name, stamp)))
        .map(|stamp| stamp.identity)
        .collect();
    let take = || left.get().checked_sub(1).map(|fewer| left.set(fewer)).is_some();
    old.retain(|name, entry| {
        if renamed.iter().any(|(before, _)| before == name) {
            return false;
        }
        let stays = |stamp: &Stamp| arriving.contains(&stamp.identity);
        if new.get(name).is_some() || held(name) || stamp_of(Some(entry)).is_some_and(stays) {
            return true;
        }
        let change = match entry {
            Entry::File(_) => Change::Removed,
            Entry::Refused(_) | Entry::Unknown(_) => Change::Gone,
            Entry::Late => return false,
        };
        if !take() {
            return true;
        }
        changes.push((name.clone(), change));
        false
    });
    let mut fresh = Vec::new();
    for (name, entry) in new.into_entries() {
        if held(&name) {
            continue;
        }
        let mut known = old.get_mut(&name);
        // Some editors move the old file away before they write the new one. For a file behind a link there
        // is no event.
        if let (Some(Entry::File(stamp)), Entry::Refused(NOTHING)) = (&mut known, &entry)
            && !stamp.lost
        {
            stamp.lost = true;
            continue;
        }
        let before = known.as_deref();
        let is_known_file = matches!(before, Some(Entry::File(_)));
        if before == Some(&entry)
            || is_known_file && matches!(entry, Entry::Unknown(_))
            || entry == Entry::Late
        {
            continue;
        }
        if !renamed.iter().any(|(_, now)| *now == name) {
            if !take() {
                continue;
            }
            let all = changes_to(&entry, is_known_file);
            changes.extend(all.into_iter().map(|change| (name.clone(), change)));
        }
        match known {
            Some(known) => *known = entry,
            None => fresh.push((name, entry)),
        }
    }
    old.add(fresh);
    changes
}

/// The files that were renamed: old name and new name, at most `max`. Either name may have been, or be by
/// now, that of another file. A name that has vanished is held for a moment, because its file may come back,
/// but not if its file has been found under the new name.
fn renamed<'a>(
    old: &Listing,
    new: &Listing,
    held: &dyn Fn(&OsStr) -> bool,
    name_before: &dyn Fn(&OsStr) -> Option<&'a OsStr>,
    max: usize,
) -> Vec<(OsString, OsString)> {
    let moved = |from: &Listing, to: &Listing| -> Vec<(OsString, Identity)> {
        let of = |(name, entry): &(OsString, Entry)| {
            let stamp = stamp_of(Some(entry)).filter(|stamp| !is_there(to.get(name), stamp))?;
            // What cannot be looked at may be what it was.
            let is_known = !matches!(to.get(name), Some(Entry::Unknown(_) | Entry::Late));
            is_known.then(|| (name.clone(), stamp.identity))
        };
        from.iter().filter_map(of).collect()
    };
    let mut gone = moved(old, new);
    if gone.is_empty() {
        return Vec::new();
    }
    let mut fresh = moved(new, old);
    fresh.retain(|(name, _)| !held(name));
    let mut found = Vec::new();
    for is_by_name in [false, true] {
        let mut find = |(before, identity): &(OsString, Identity)| {
            let is_it = |(name, other): &(OsString, Identity)| match is_by_name {
                // One that has its own name back, as after a change of mind, was replaced.
                true => name != before && name_before(name) == Some(before),
                false => other == identity,
            };
            let index = fresh.iter().position(is_it).filter(|_| found.len() < max)?;
            found.push((before.clone(), fresh.swap_remove(index).0));
            Some(())
        };
        gone.retain(|gone| find(gone).is_none());
    }
    found
}

fn stamp_of(entry: Option<&Entry>) -> Option<&Stamp> {
    match entry? {
        Entry::File(stamp) => Some(stamp),
        _ => None,
    }
}

/// Whether the file of an entry is the one with this stamp, whatever is in it.
fn is_there(entry: Option<&Entry>, stamp: &Stamp) -> bool {
    stamp_of(entry).is_some_and(|there| there.identity == stamp.identity)
}

/// The changes that a new entry means for a name, which may have been that of a known file.
fn changes_to(entry: &Entry, is_known_file: bool) -> Vec<Change> {
    match entry {
        Entry::File(_) if is_known_file => vec![Change::Changed],
        Entry::File(_) => vec![Change::Appeared],
        Entry::Unknown(errno) => vec![Change::Refused(Described(*errno).to_string())],
        Entry::Late => Vec::new(),
        Entry::Refused(why) if is_known_file => vec![Change::Removed, Change::Refused((*why).to_owned())],
        Entry::Refused(why) => vec![Change::Refused((*why).to_owned())],
    }
}

/// The type of a file that is not a regular one.
fn not_a_file(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory, not a file",
        FileType::Symlink => "a symbolic link, not a file",
        FileType::Fifo => "a fifo, not a file",
        FileType::Socket => "a socket, not a file",
        FileType::CharacterDevice | FileType::BlockDevice => "a device, not a file",
        FileType::Unknown => "of a kind we do not know, not a file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{FOREIGN, HIDDEN};

    fn file(version: i64) -> Entry {
        let version = FileVersion { modified: version, inode: 1, size: 2, ..FileVersion::default() };
        let id = FileId { device: 1, inode: version.modified as u64 };
        let identity = Identity { id, ..Identity::default() };
        Entry::File(Stamp { version, identity, elsewhere: false, lost: false })
    }

    fn listing(entries: &[(&str, Entry)]) -> Listing {
        let mut listing = Listing::default();
        listing.add(entries.iter().map(|(name, entry)| (OsString::from(name), entry.clone())).collect());
        listing
    }

    fn changes(old: &mut Listing, new: &[(&str, Entry)], held: &str) -> Vec<(String, Change)> {
        let changes = commit(old, listing(new), &|name| name == held, &|_| None, &Cell::new(usize::MAX));
        changes.into_iter().map(|(name, change)| (name.into_string().unwrap(), change)).collect()
    }

    #[test]
    fn only_ini_files_that_no_editor_made() {
        let rules = Rules { extra_suffixes: vec![".vassal".into()], ..Rules::default() };
        for name in ["a.ini", "a b.ini", "a.b.ini", "\u{1}.ini", "a.vassal"] {
            assert!(rules.is_vassal(OsStr::new(name)), "{name}");
        }
        for name in
            [".ini", ".a.ini", "a.ini~", "a.ini.swp", ".a.ini.swp", "#a.ini#", "#a.ini", "a.xml", "ini", ""]
        {
            assert!(!rules.is_vassal(OsStr::new(name)), "{name}");
        }
        for (name, why) in [
            ("a.xml", Some(FOREIGN)),
            ("a.conf", Some(FOREIGN)),
            ("A.INI", Some(FOREIGN)),
            ("a.yaml", Some(FOREIGN)),
            (".a.yml", None),
            ("a.txt", None),
            ("a.ini", None),
            (".a.ini", Some(HIDDEN)),
            (".ini", None),
            (".#a.ini", None),
            (".ansible_tmp1a.ini", None),
        ] {
            assert_eq!(refusal(OsStr::new(name)), why, "{name}");
        }
    }

    #[test]
    fn what_is_not_told_is_left_for_the_next_look() {
        let all = |number: usize| listing(&[("a", file(1)), ("b", file(2)), ("c", file(3))][..number]);
        let renamed = || listing(&[("A", file(1)), ("B", file(2)), ("c", file(4))]);
        let mut old = Listing::default();
        let mut counts = Vec::new();
        for new in [all(3), all(3), all(3), renamed(), renamed(), all(0), all(0), all(0)] {
            let left = Cell::new(2);
            let changes = commit(&mut old, new, &|_| false, &|_| None, &left);
            assert_eq!(changes.len() + left.get(), 2);
            counts.push(changes.len());
        }
        assert_eq!(counts, [2, 1, 0, 2, 1, 2, 1, 0]);
        assert!(old.is_empty());
    }

    #[test]
    fn files_appear_change_and_go() {
        let mut old = Listing::default();
        let to = |name: &str, change| (name.to_owned(), change);
        assert_eq!(
            changes(&mut old, &[("a.ini", file(1)), ("b.ini", file(1))], ""),
            [to("a.ini", Change::Appeared), to("b.ini", Change::Appeared)]
        );
        assert_eq!(
            changes(&mut old, &[("b.ini", file(2)), ("c.ini", file(3))], ""),
            [to("a.ini", Change::Removed), to("b.ini", Change::Changed), to("c.ini", Change::Appeared)]
        );
        assert_eq!(changes(&mut old, &[("b.ini", file(2)), ("c.ini", file(3))], ""), []);
    }

    #[test]
    fn a_file_with_another_name_is_told_at_once() {
        let mut old = listing(&[("a.ini", file(1)), ("b.ini", file(2))]);
        // A name that has vanished is held for a while, because the file may come back.
        let renamed = |before: &str| Change::Renamed { before: before.into() };
        let now = [("b.ini", file(2)), ("c.ini", file(1))];
        assert_eq!(changes(&mut old, &now, "a.ini"), [("c.ini".to_owned(), renamed("a.ini"))]);
        // A new name that is held is reported later.
        let now = [("b.ini", file(2)), ("d.ini", file(1))];
        assert_eq!(changes(&mut old, &now, "d.ini"), []);
        // With another file under the old name.
        let to = |name: &str, change| (name.to_owned(), change);
        let now = [("b.ini", file(3)), ("e.ini", file(2))];
        let told =
            [to("e.ini", renamed("b.ini")), to("c.ini", Change::Removed), to("b.ini", Change::Appeared)];
        assert_eq!(changes(&mut old, &now, ""), told);
        // Over another file; in exchange; and edited at once.
        assert_eq!(changes(&mut old, &[("e.ini", file(3))], ""), [to("e.ini", renamed("b.ini"))]);
        let mut old = listing(&[("a.ini", file(1)), ("b.ini", file(2))]);
        let told = [to("b.ini", renamed("a.ini")), to("a.ini", renamed("b.ini"))];
        assert_eq!(changes(&mut old, &[("a.ini", file(2)), ("b.ini", file(1))], ""), told);
        let Entry::File(mut stamp) = file(1) else { panic!("no file") };
        stamp.version.size = 77;
        let now = [("a.ini", file(2)), ("c.ini", Entry::File(stamp))];
        assert_eq!(changes(&mut old, &now, ""), [to("c.ini", renamed("b.ini"))]);
        // Several times, with a scan in between that must leave the new name alone.
        let now = [("a.ini", file(2)), ("d.ini", Entry::File(stamp))];
        assert_eq!(changes(&mut old, &now, "d.ini"), []);
        let now = [("a.ini", file(2)), ("e.ini", Entry::File(stamp))];
        assert_eq!(changes(&mut old, &now, ""), [to("e.ini", renamed("c.ini"))]);
    }

    #[test]
    fn a_file_that_is_replaced_after_it_has_its_name_back_is_changed() {
        let mut old = listing(&[("a.ini", file(1))]);
        let before = |name: &OsStr| (name == "a.ini").then_some(OsStr::new("a.ini"));
        let new = listing(&[("a.ini", file(2))]);
        let told = commit(&mut old, new, &|_| false, &before, &Cell::new(usize::MAX));
        assert_eq!(told, [("a.ini".into(), Change::Changed)]);
    }

    #[test]
    fn what_is_no_file_is_refused_once_and_ends_its_vassal() {
        let fifo = || Entry::Refused("a fifo");
        let refused = || ("a.ini".to_owned(), Change::Refused("a fifo".to_owned()));
        let mut old = Listing::default();
        assert_eq!(changes(&mut old, &[("a.ini", fifo())], ""), [refused()]);
        assert_eq!(changes(&mut old, &[("a.ini", fifo())], ""), []);
        assert_eq!(changes(&mut old, &[("a.ini", file(1))], ""), [("a.ini".to_owned(), Change::Appeared)]);
        assert_eq!(
            changes(&mut old, &[("a.ini", fifo())], ""),
            [("a.ini".to_owned(), Change::Removed), refused()]
        );
        assert_eq!(changes(&mut old, &[], ""), [("a.ini".to_owned(), Change::Gone)]);
        assert!(old.is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_stays_what_it_was() {
        let unknown = || Entry::Unknown(Errno::IO);
        let mut old = listing(&[("a.ini", file(1))]);
        let new = [("a.ini", unknown()), ("b.ini", unknown())];
        let why = Change::Refused("Input/output error (EIO)".to_owned());
        assert_eq!(changes(&mut old, &new, ""), [("b.ini".to_owned(), why)]);
        assert_eq!(changes(&mut old, &new, ""), []);
        let appeared = ("b.ini".to_owned(), Change::Appeared);
        assert_eq!(changes(&mut old, &[("a.ini", file(1)), ("b.ini", file(1))], ""), [appeared]);
    }

    #[test]
    fn what_a_link_leads_to_may_be_away_for_one_look() {
        let nothing = || Entry::Refused(NOTHING);
        let mut old = listing(&[("a.ini", file(1))]);
        assert_eq!(changes(&mut old, &[("a.ini", nothing())], ""), []);
        assert_eq!(changes(&mut old, &[("a.ini", file(1))], ""), [("a.ini".to_owned(), Change::Changed)]);
        assert_eq!(changes(&mut old, &[("a.ini", nothing())], ""), []);
        let refused = ("a.ini".to_owned(), Change::Refused(NOTHING.to_owned()));
        let gone = [("a.ini".to_owned(), Change::Removed), refused];
        assert_eq!(changes(&mut old, &[("a.ini", nothing())], ""), gone);
    }

    #[test]
    fn a_name_being_written_keeps_its_old_entry() {
        let mut old = listing(&[("a.ini", file(1))]);
        assert_eq!(changes(&mut old, &[("a.ini", file(2))], "a.ini"), []);
        assert_eq!(changes(&mut old, &[], "a.ini"), []);
        assert_eq!(changes(&mut old, &[("a.ini", file(3)), ("b.ini", file(1))], "b.ini").len(), 1);
        assert_eq!(old, listing(&[("a.ini", file(3))]));
    }

    #[test]
    fn a_missing_directory_is_an_error_not_an_empty_listing() {
        let error = list(
            Path::new("/nonexistent/vassals"),
            &Rules::default(),
            &|_| true,
            &mut Followers::new(Owners::Ignored),
            &Allowance::default(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "open directory /nonexistent/vassals: No such file or directory (ENOENT)"
        );
    }
}
