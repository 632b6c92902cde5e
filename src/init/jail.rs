//! What a child of the vassal gets: root directory, working directory, umask, environment, identity; and what the
//! namespaces around it are.

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use crate::identity::Identity;
use crate::init::child::launch::Workdir;
use crate::init::watch::procfs::Procfs;
use crate::mount::ops::Walk;
use crate::protocol::FileOwner;
use crate::sys::signal;

/// The surroundings of the vassal's processes.
pub struct Jail {
    /// What mounts must not be led astray by.
    pub(in crate::init) walk: Walk,
    /// Where children run; ours is the root directory once the app's user matters.
    pub(in crate::init) workdir: Workdir,
    /// The working directory at the privilege drop, where a reload starts from.
    pub(in crate::init) jail_workdir: Workdir,
    /// Whether the root directory is another than at the start.
    pub(in crate::init) is_inside: bool,
    /// File mode creation mask of everything that comes later.
    pub(in crate::init) umask: Option<u32>,
    pub(in crate::init) environment: Vec<(OsString, OsString)>,
    /// Whom children become from `as-user` on.
    pub(in crate::init) identity: Option<Identity>,
    /// The namespaces this process was created in (`CLONE_NEW*` bits).
    pub(in crate::init) namespaces: u64,
    /// The owner of the vassal's file, in tyrant mode.
    pub(in crate::init) owner: Option<FileOwner>,
    /// The cgroup that the emperor has made; empty for none.
    pub(in crate::init) cgroup: PathBuf,
    /// Signal mask and dispositions for the app.
    pub(in crate::init) signals: signal::Inherited,
    /// The FUSE connections that were there before the first hook, if that is known: they are others' too.
    pub(in crate::init) foreign_fuse: Option<Vec<u64>>,
    pub(in crate::init) procfs: Rc<Procfs>,
}
