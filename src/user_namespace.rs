//! User namespaces: which IDs outside are which inside, how a new namespace gets them, and why a machine
//! makes none (user_namespaces(7)).
//!
//! A process in a new user namespace has every capability there, but no ID. With the first exec it would
//! lose them all. So it waits at a [`Gate`] until its parent, which is outside, has given it its IDs.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, CWD, FsWord, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstatfs, open, openat2,
};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, getegid, geteuid, getpid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};

use crate::accounts::{Accounts, User, free_from, shared, subordinate};
use crate::command;
use crate::config::plan::{Id, IdMap, IdRange, Located, MapsPlan};
use crate::error::{Cause, Context, Error, Result};
use crate::files;
use crate::log;
use crate::mount::ops;
use crate::outside;
use crate::sys::{creds, fd, mount};

/// The kernel takes less text than that for a map (user_namespaces(7)).
const TEXT_MAX: usize = 4096;
/// The mount option `nosuid` (statfs(2)).
const ST_NOSUID: FsWord = 0x2;

/// The IDs of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maps {
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
}

impl Maps {
    /// The maps of a plan. Without any, this process's user and group are root inside.
    ///
    /// # Errors
    /// `auto`, and the user has no ranges; or /etc/subuid or /etc/subgid cannot be read.
    pub fn of(plan: &MapsPlan) -> Result<Self> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let user = Accounts::read().user(&Id::Number(uid))?;
        let groups = if plan.groups.is_empty() { &plan.users } else { &plan.groups };
        Ok(Self {
            users: ranges(&plan.users, uid, "/etc/subuid", &user)?,
            groups: ranges(groups, gid, "/etc/subgid", &user)?,
        })
    }

    /// The maps divided into parts of `count` IDs. What is left of a range is in none.
    pub fn parts(&self, count: u32) -> Vec<Self> {
        let parts = |ranges: &[IdRange]| {
            let mut all = Vec::new();
            for range in ranges {
                let starts = (0..range.count / count).map(|number| range.outside + number * count);
                all.extend(starts.map(|outside| IdRange { inside: 0, outside, count }));
            }
            all
        };
        let both = parts(&self.users).into_iter().zip(parts(&self.groups));
        both.map(|(user, group)| Self { users: vec![user], groups: vec![group] }).collect()
    }

    /// Whether an ID outside is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let meet = |ours: &[IdRange], theirs: &[IdRange]| {
            ours.iter().any(|one| theirs.iter().any(|other| one.meets_outside(other)))
        };
        meet(&self.users, &other.users) || meet(&self.groups, &other.groups)
    }

    /// The maps of the user namespace of a process; `None` if they cannot be read.
    pub fn read(pid: Pid) -> Option<Self> {
        let read = |file: &str| {
            let text = files::read_file(&format!("/proc/{}/{file}", pid.as_raw_pid())).ok()?;
            String::from_utf8_lossy(&text).lines().map(range).collect::<Option<Vec<_>>>()
        };
        Some(Self { users: read("uid_map")?, groups: read("gid_map")? })
    }

    /// Gives the IDs to the user namespace that the process was created in.
    ///
    /// The kernel lets a process without privileges only map its own IDs. For others it takes newuidmap(1)
    /// and newgidmap(1), which have the privilege, and follow /etc/subuid and /etc/subgid. No other code may
    /// reap children while these run.
    ///
    /// # Errors
    /// EPERM if this process may not give such IDs; or the programs are missing, or refuse.
    pub fn give(&self, pid: Pid) -> Result<()> {
        for ranges in [&self.users, &self.groups] {
            if ranges.len() > IdRange::MOST || lines(ranges).len() >= TEXT_MAX {
                let reason = format_args!(
                    "the kernel takes {} at most, in less than {TEXT_MAX} bytes of text: join some",
                    IdRange::MOST
                );
                return Err(Error::new("map", format_args!("{} ranges of IDs", ranges.len()), reason));
            }
        }
        let Some(are_own) = self.writable() else {
            give_by("newuidmap", "/etc/subuid", pid, &self.users)?;
            return give_by("newgidmap", "/etc/subgid", pid, &self.groups);
        };
        let write = |file: &str, text: &str| {
            let path = format!("/proc/{}/{file}", pid.as_raw_pid());
            let opened = open(&*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            opened.and_then(|file| fd::write_all(file.as_fd(), text.as_bytes())).context("write", path)
        };
        if are_own {
            // Otherwise a process could leave a group that takes rights away.
            write("setgroups", "deny")?;
        }
        write("uid_map", &lines(&self.users))?;
        write("gid_map", &lines(&self.groups))
    }

    /// Whether this process writes the maps only with the right that everybody has on its own IDs. `None` if
    /// it cannot write them.
    fn writable(&self) -> Option<bool> {
        let has = capabilities(None).map_or(CapabilitySet::empty(), |has| has.effective);
        let is_own =
            |ranges: &[IdRange], id: u32| matches!(ranges, [one] if one.outside == id && one.count == 1);
        let are_own = is_own(&self.users, geteuid().as_raw()) && is_own(&self.groups, getegid().as_raw());
        match has.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
            true => Some(false),
            false => are_own.then_some(true),
        }
    }
}

/// Becomes root of this user namespace. Groups of the starter's would be rights outside; where the kernel
/// keeps them, they are those of the very user.
fn become_root() -> Result<(), Errno> {
    match creds::set_groups(&[]) {
        Err(Errno::PERM) => {}
        result => result?,
    }
    creds::set_gid(0)?;
    creds::set_uid(0)
}

/// The ranges of one kind of ID.
fn ranges(plan: &[Located<IdMap>], own: u32, path: &'static str, user: &User) -> Result<Vec<IdRange>> {
    let mut ranges = Vec::new();
    for entry in plan {
        match entry.value {
            IdMap::Range(range) => ranges.push(range),
            IdMap::Auto => {
                let granted = subordinate(path, user)?;
                if granted.is_empty() {
                    return Err(none_granted(entry, path, user));
                }
                not_of_others(entry, path, user, &granted)?;
                let mut inside = 0;
                // Root of the machine is nobody in there. Any other user needs its own files.
                if user.uid != 0 {
                    ranges.push(IdRange { inside: 0, outside: own, count: 1 });
                    inside = 1;
                }
                for (outside, count) in granted {
                    let range = IdRange { inside, outside, count };
                    // A line may stand there by name and by number.
                    if ranges.iter().all(|other| !range.meets_outside(other))
                        && let Some(next) = inside.checked_add(count)
                    {
                        ranges.push(range);
                        inside = next;
                    }
                }
            }
        }
    }
    if ranges.is_empty() {
        ranges.push(IdRange { inside: 0, outside: own, count: 1 });
    }
    Ok(ranges)
}

/// Refuses IDs of root of the machine, and tells of those that somebody else has too.
fn not_of_others(
    entry: &Located<IdMap>,
    path: &'static str,
    user: &User,
    granted: &[(u32, u32)],
) -> Result<()> {
    if user.uid == 0 && granted.iter().any(|(first, _)| *first == 0) {
        let reason = format_args!("{path} grants root 0, which is root of the machine: take it out");
        return Err(Error::new(&format!("{}: {}", entry.at, entry.key), "auto", reason));
    }
    if let Some((id, other)) = shared(path, user, granted) {
        log!(
            "{path} grants {id} to {} and to '{other}': processes that have it there can touch a vassal's",
            name_of(user)
        );
    }
    Ok(())
}

fn none_granted(entry: &Located<IdMap>, path: &'static str, user: &User) -> Error {
    let name = name_of(user);
    let option = if path == "/etc/subuid" { "uids" } else { "gids" };
    let (lowest, count) = if user.uid == 0 { (100_000_000, 100_000_000) } else { (100_000, 65_536) };
    let free = match free_from(path, lowest).checked_add(count) {
        Some(end) => format!("{}-{}", end - count, end - 1),
        None => "FIRST-LAST".to_owned(),
    };
    let reason = format_args!("{path} grants {name} none: as root, usermod --add-sub{option} {free} {name}");
    Error::new(&format!("{}: {}", entry.at, entry.key), "auto", reason)
}

fn name_of(user: &User) -> String {
    user.name.clone().unwrap_or_else(|| user.uid.to_string())
}

/// A range as the files of the kernel have it.
fn range(line: &str) -> Option<IdRange> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
    let mut number = || numbers.next()?.ok();
    Some(IdRange { inside: number()?, outside: number()?, count: number()? })
}

/// Ranges as the files of the kernel have them.
fn lines(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for IdRange { inside, outside, count } in ranges {
        let _ = writeln!(text, "{inside} {outside} {count}");
    }
    text
}

/// Has a set-user-id program of the package uidmap give the IDs.
fn give_by(program: &str, granted: &str, pid: Pid, ranges: &[IdRange]) -> Result<()> {
    let ranges = lines(ranges).replace('\n', " ");
    let missing = "is missing: install the package uidmap";
    let pid = pid.as_raw_pid();
    let line = format!(
        "exec 2>&1; command -v {program} >/dev/null || {{ echo '{program}: {missing}'; exit 1; }}\n\
         exec {program} {pid} {ranges}"
    );
    let given = command::succeed(OsStr::new(&line)).map_err(|cause| match cause {
        Cause::Because(why) if why.ends_with("not allowed") => {
            Cause::Because(format!("{why}: see {granted}").into())
        }
        cause => cause,
    });
    given.context("map", "IDs")
}

/// Puts directories into the mount namespace of a process as id-mapped mounts: their files belong to the IDs
/// of its user namespace there. This process enters that mount namespace and returns to its own. It has to
/// end if that fails.
///
/// A vassal's root is root of the machine for the files in there. So the directory has to be on a mount with
/// `nosuid`, where set-user-ID bits and file capabilities give nobody here a right.
///
/// # Errors
/// The step that failed, with the directory.
pub fn map_trees(pid: Pid, trees: &[Located<PathBuf>]) -> Result<()> {
    if trees.is_empty() {
        return Ok(());
    }
    let of_process = |pid: Pid, name: &str| {
        let path = format!("/proc/{}/ns/{name}", pid.as_raw_pid());
        open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", path)
    };
    let (users, mounts, own) =
        (of_process(pid, "user")?, of_process(pid, "mnt")?, of_process(getpid(), "mnt")?);
    // No link is followed: in a tree a tenant makes links of root's.
    let opened = |path: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let directory = found.map_err(|errno| match errno {
            Errno::LOOP => Cause::Because("a symbolic link on the way: write what it leads to".into()),
            errno => errno.into(),
        });
        directory.context("map-tree: open", path.display())
    };
    let mapped = |tree: &Located<PathBuf>| {
        let source = opened(&tree.value)?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let name = tree.value.display();
        if !fstatfs(&source).is_ok_and(|there| there.f_flags & ST_NOSUID != 0) {
            let reason = format_args!(
                "others here could execute what a vassal makes set-user-ID root in it: \
                 mount --bind -o nosuid {name} {name}"
            );
            return Err(Error::new("map-tree:", &name, reason));
        }
        let copy = open_tree(&source, c"", flags).context("map-tree: copy", &name)?;
        let set = mount::map_ids(&copy, users.as_fd()).map_err(|errno| match errno {
            Errno::INVAL => Cause::Because("its filesystem has no id-mapped mounts".into()),
            errno => errno.into(),
        });
        set.context("map-tree: map the IDs of", name).map(|()| copy)
    };
    let copies = trees.iter().map(mapped).collect::<Result<Vec<_>>>()?;
    let enter = |mounts: OwnedFd, whose: &str| {
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
            .context("map-tree: enter", format_args!("{whose} mount namespace"))
    };
    enter(mounts, "the vassal's")?;
    for (tree, copy) in trees.iter().zip(copies) {
        let target = opened(&tree.value)?;
        ops::attach(&copy, &target).context("map-tree: mount", tree.value.display())?;
    }
    enter(own, "the emperor's")
}

/// Where a process in a new user namespace waits for its IDs. Afterwards it asks there whose a file is
/// ([`outside`]).
#[derive(Debug)]
pub struct Gate {
    inside: OwnedFd,
    outside: OwnedFd,
}

impl Gate {
    /// A closed gate.
    ///
    /// # Errors
    /// EMFILE, ENFILE (socketpair(2)).
    pub fn new() -> Result<Self> {
        let (inside, outside) = outside::connection()?;
        Ok(Self { inside, outside })
    }

    /// The end for the new process.
    pub fn inside(&self) -> &OwnedFd {
        &self.inside
    }

    /// In the new process: waits until it has its IDs, and becomes root of its user namespace. That clears a
    /// parent death signal. Returns the end for its questions.
    ///
    /// # Errors
    /// It does not get them; or its parent has ended.
    pub fn wait(self) -> Result<OwnedFd> {
        drop(self.outside);
        Self::wait_at(self.inside)
    }

    /// As [`Gate::wait`], for a process that has no other end than the one for it.
    ///
    /// # Errors
    /// As [`Gate::wait`].
    pub fn wait_at(inside: OwnedFd) -> Result<OwnedFd> {
        let mut told = [0; 1024];
        let count = retry_on_intr(|| read(&inside, &mut told)).context("wait for", "the IDs")?;
        match told.get(..count) {
            Some([]) | None => Err(Error::os("wait for", "the IDs", Errno::PIPE)),
            Some([0]) => become_root().context("become", "root of the user namespace").map(|()| inside),
            Some(error) => {
                Err(Error::from_bytes(error).unwrap_or_else(|| Error::os("wait for", "the IDs", Errno::IO)))
            }
        }
    }

    /// In its parent: the end by which it is opened.
    pub fn outside(self) -> OwnedFd {
        self.outside
    }

    /// Lets the process inside go on with its IDs, or tells it why it has none.
    pub fn open(outside: &OwnedFd, given: &Result<()>) {
        let told = match given {
            Ok(()) => vec![0],
            Err(error) => error.to_bytes(),
        };
        let _ = fd::write_all(outside.as_fd(), &told);
    }
}

/// The error of a change to these IDs. If this user namespace lacks one, with those that it has.
pub fn explain_id(errno: Errno, ids: &[u32], map: &str) -> Cause {
    let Ok(text) = files::read_file(&format!("/proc/self/{map}")) else { return errno.into() };
    let text = String::from_utf8_lossy(&text);
    let ranges: Vec<_> = text.lines().filter_map(range).collect();
    let has =
        |id: &u32| ranges.iter().any(|range| id.checked_sub(range.inside).is_some_and(|at| at < range.count));
    let Some(lacking) = ids.iter().find(|id| !has(id)) else { return errno.into() };
    let mut known = String::new();
    for IdRange { inside, count, .. } in ranges {
        let between = if known.is_empty() { "" } else { ", " };
        let _ = match count {
            1 => write!(known, "{between}{inside}"),
            _ => write!(known, "{between}{inside} to {}", inside + (count - 1)),
        };
    }
    Cause::Because(format!("this user namespace has no {lacking}, only {known}: see map-users").into())
}

/// Changes the owner of a file that may have been opened with O_PATH.
///
/// # Errors
/// As chown(2).
pub fn chown(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Cause> {
    let owner = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(file, c"", owner.0, owner.1, AtFlags::EMPTY_PATH).map_err(|errno| {
        match explain_id(errno, uid.as_slice(), "uid_map") {
            Cause::Os(errno) => explain_id(errno, gid.as_slice(), "gid_map"),
            explained => explained,
        }
    })
}

/// What is known about the error of a call that failed, in or for a new process or new namespaces
/// (`CLONE_NEW*` bits): the limits, or the setting of this machine, that are its cause. The settings below
/// `kernel` for user namespaces are Debian's and Ubuntu's.
pub fn explain(errno: Errno, namespaces: u64) -> Option<String> {
    if errno == Errno::AGAIN {
        let limits = "no more processes by pids.max, kernel.pid_max, kernel.threads-max or RLIMIT_NPROC";
        return Some(limits.to_owned());
    }
    if namespaces & libc::CLONE_NEWUSER as u64 == 0 {
        return None;
    }
    let number = |path: &str| -> Option<u32> {
        let text = files::read_file(path).ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    };
    let is_refused = matches!(errno, Errno::PERM | Errno::ACCESS);
    let setting = if matches!(errno, Errno::NOSPC | Errno::USERS) {
        "user.max_user_namespaces allows no more of them"
    } else if is_refused && number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        "kernel.unprivileged_userns_clone = 0 lets only root make them"
    } else if is_refused && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        "kernel.apparmor_restrict_unprivileged_userns = 1 lets only programs with a profile use them"
    } else {
        return None;
    };
    Some(format!("the sysctl {setting}; root can change it"))
}
