//! The machine, as far as a configuration may look at it that is read again while the app runs.
//!
//! The answers must be the same as in a fresh start. Inside a jail the paths belong to the tenant, so a file
//! that is read there may be one that the tenant has written. A look at a filesystem that others serve (FUSE,
//! NFS) may never end. Such paths are not looked at: a configuration that needs them takes a fresh start.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::config::{Host, Input, Status, World};
use crate::error::Cause;
use crate::mount::mountinfo::{self, Mount};
use crate::path;
use crate::transcript::Transcript;
use crate::world::{self, Machine, NoCommands};

/// Facts about the machine from the time when the configuration was first read.
#[derive(Debug)]
pub struct Start {
    cwd: PathBuf,
    /// The path of the text that the emperor sent, its status, and the path without links.
    file: Option<(PathBuf, Option<Status>, Option<PathBuf>)>,
    /// The variables that the file of an owner may see.
    environment: Vec<(OsString, OsString)>,
    /// What the inputs are read with after the change of identity, if there is an owner.
    transcript: Transcript,
}

impl Start {
    /// Looks at the machine before the first mount and the change of root.
    pub fn of(inputs: &[Input], transcript: Transcript) -> Self {
        let file = inputs.iter().find_map(|input| match input {
            Input::Text { path, .. } => Some((path.clone(), Machine.status(path), Machine.real_path(path))),
            Input::File(_) | Input::Option { .. } | Input::FromEmperor { .. } | Input::Replica(_) => None,
        });
        Self { cwd: Machine.cwd(), file, environment: Vec::new(), transcript }
    }

    /// Replaces the working directory of the start.
    pub fn begin_in(&mut self, directory: &Path) {
        self.cwd = directory.to_owned();
    }

    /// Restricts the file of an owner to these variables of the environment.
    pub fn leave_environment(&mut self, variables: Vec<(OsString, OsString)>) {
        self.environment = variables;
    }

    /// The variables that the file of an owner may see.
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// What the inputs are read with after the change of identity. It is needed once.
    pub fn take_transcript(&mut self) -> Transcript {
        std::mem::take(&mut self.transcript)
    }

    /// The working directory at the start.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }
}

/// The machine, as far as it may be looked at.
#[derive(Debug)]
pub struct Careful<'a> {
    start: &'a Start,
    /// The mounts; `None` if no file may be looked at.
    mounts: Option<Vec<Mount>>,
    /// Whether a tenant owns the vassal's file. A fresh start refuses commands in it, too.
    is_owned: bool,
    refused: RefCell<Option<String>>,
}

impl<'a> Careful<'a> {
    /// `mounts` are the mounts below the root directory of the start; `None` if the root has changed or the
    /// mounts are unknown.
    pub fn new(start: &'a Start, mounts: Option<Vec<Mount>>, is_owned: bool) -> Self {
        Self { start, mounts, is_owned, refused: RefCell::new(None) }
    }

    /// Why a path was not looked at. In that case nothing that was read counts.
    pub fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }

    /// The path to look at instead of `path`, which may be relative to the directory of the start.
    fn path(&self, path: &Path) -> Option<PathBuf> {
        let path = path::lexical(&self.start.cwd.join(path));
        let why = match &self.mounts {
            None => "it reads files, which cannot be seen from inside the jail".to_owned(),
            Some(mounts) if may_hang(mounts, &path) => {
                format!("it looks at {}, which is, or leads to, a filesystem that may hang", path.display())
            }
            Some(_) => return Some(path),
        };
        self.refuse(why);
        None
    }

    fn refuse(&self, why: String) {
        self.refused.borrow_mut().get_or_insert(why);
    }

    /// What was known at the start about the vassal's file.
    fn known(&self, path: &Path) -> Option<&(PathBuf, Option<Status>, Option<PathBuf>)> {
        self.start.file.as_ref().filter(|(known, ..)| known == path)
    }
}

/// Whether a look at a path may end in a filesystem that others serve, or have yet to mount (autofs). A
/// symbolic link counts as yes, because it may lead there.
fn may_hang(mounts: &[Mount], path: &Path) -> bool {
    if !mounts.iter().any(Mount::may_wait) {
        return false;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    path.ancestors().any(|path| mountinfo::topmost(mounts, path).is_some_and(Mount::may_wait))
        || openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).err() == Some(Errno::LOOP)
}

impl World for Careful<'_> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        self.path(path).map_or(Err(Errno::PERM.into()), |path| Machine.read(&path))
    }

    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        if self.is_owned {
            return NoCommands::Refused(&[]).resource(name);
        }
        // In the jail the command would be a program of the tenant's, run with the rights of PID 1.
        self.refuse("what a command prints may have changed".into());
        Err(Errno::PERM.into())
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        self.path(directory).map(|directory| Machine.names(&directory)).unwrap_or_default()
    }

    fn status(&self, path: &Path) -> Option<Status> {
        match self.known(path) {
            Some((_, status, _)) => *status,
            None => Machine.status(&self.path(path)?),
        }
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        match self.known(path) {
            Some((.., real_path)) => real_path.clone(),
            None => Machine.real_path(&self.path(path)?),
        }
    }

    fn trusts_cwd(&self) -> bool {
        !self.is_owned
    }

    fn cwd(&self) -> PathBuf {
        self.start.cwd.clone()
    }

    fn env(&self, name: &OsStr) -> Option<OsString> {
        if self.is_owned { world::variable(&self.start.environment, name) } else { Machine.env(name) }
    }

    fn host(&self) -> &dyn Host {
        &Machine
    }

    fn user_name(&self) -> OsString {
        self.path(Path::new("/etc/passwd")).map(|_| Machine.user_name()).unwrap_or_default()
    }

    fn group_name(&self) -> OsString {
        self.path(Path::new("/etc/group")).map(|_| Machine.group_name()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_serve_is_not_looked_at_nor_a_link_that_may_lead_there() {
        for (fs_type, at, path, may) in [
            ("nfs4", "/far", "/far/file", true),
            ("autofs", "/far", "/far/file", true),
            ("fuse.sshfs", "/far", "/far", true),
            ("ext4", "/far", "/far/file", false),
            ("nfs4", "/far", "/proc/self/status", true),
            ("autofs", "/far", "/proc/self/status", true),
            ("nfs4", "/far", "/proc/version", false),
            // Where systemd runs there always is one.
            ("autofs", "/proc/sys/fs/binfmt_misc", "/proc/self/status", false),
        ] {
            let text = format!("1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {at} rw - {fs_type} a rw\n");
            let mounts = mountinfo::parse(text.as_bytes());
            assert_eq!(may_hang(&mounts, Path::new(path)), may, "{fs_type} {path}");
        }
    }
}
