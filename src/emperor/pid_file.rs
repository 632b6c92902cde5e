//! The file with the emperor's pid.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, ftruncate};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use crate::emperor::deputy::Deputy;
use crate::emperor::instance::socket_file::{id, remove, tell_once};
use crate::error::{Context, Described, Error, Result};
use crate::files;
use crate::log;
use crate::path::Walk;
use crate::sys::fd::write_all;

/// The file with the emperor's pid. It is removed when this value is dropped, which may hang.
pub struct PidFile {
    path: PathBuf,
    /// The emperor, also in a deputy that removes the file.
    emperor: Pid,
    /// Why it could not be made anew, as logged.
    trouble: Option<Error>,
}

impl PidFile {
    /// The file of this emperor, which is written already.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), emperor: getpid(), trouble: None }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in that a deputy has written the file anew, or not.
    pub fn renewed(&mut self, written: Result<()>) {
        let missing = format!("the pid file {} was missing", self.path.display());
        match written {
            Ok(()) => {
                log!("{missing}: made anew");
                self.trouble = None;
            }
            Err(error) => tell_once(&mut self.trouble, &missing, error),
        }
    }

    /// Whether the file has this emperor's pid: another emperor may have written its own.
    fn is_ours(&self) -> bool {
        has(&self.path, self.emperor)
    }

    /// Removes the file of the program before the upgrade if the new one is elsewhere. A deputy does that,
    /// since the path may hang.
    pub fn moves(before: &[u8], now: Option<&Path>) {
        let before = Path::new(OsStr::from_bytes(before));
        if now == Some(before) || before.as_os_str().is_empty() {
            return;
        }
        let mut file = Some(Self::at(before));
        if let Err(error) = Deputy::start(c"emperor-remover", |_link| drop(file.take())) {
            log!("{error}: {} is left", before.display());
        }
        std::mem::forget(file);
    }

    /// The path, for the next program.
    pub fn save(&self) -> Vec<u8> {
        self.path.as_os_str().as_bytes().to_vec()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            remove(&self.path, &|_| true);
        }
    }
}

/// Writes the emperor's pid to a file, unless it is there already: such a file is from before an upgrade, and
/// may belong to root.
///
/// # Errors
/// open(2), write(2); or it is not a regular file: a fifo would block until a reader comes.
pub fn write_anew(path: &Path, emperor: Pid) -> Result<()> {
    if has(path, emperor) { Ok(()) } else { write(path, emperor) }
}

/// Writes a pid to a file, over an older content if necessary.
fn write(path: &Path, pid: Pid) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let opened = Walk::default().open_to_change(path, flags, mode).context("open", path.display())?;
    let status = fstat(&opened).context("look at", path.display())?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::new("write a pid to", path.display(), "it is not a regular file"));
    }
    // An older content is cut off last, so that the new one has room on a full disk.
    let text = content(pid);
    let written = write_all(opened.as_fd(), text.as_bytes());
    let written = written.and_then(|()| ftruncate(&opened, text.len() as u64));
    if written.is_err() && status.st_size == 0 {
        remove(path, &|there| id(there) == id(&status));
    }
    written.map_err(|errno| match errno {
        Errno::NOSPC => {
            let what = format!("{}: make room there, or have it elsewhere", Described(errno));
            Error::new("write", path.display(), what)
        }
        errno => Error::os("write", path.display(), errno),
    })
}

fn has(path: &Path, pid: Pid) -> bool {
    let text = files::open_file(path).and_then(files::read_all);
    text.is_ok_and(|text| text == content(pid).as_bytes())
}

fn content(pid: Pid) -> String {
    format!("{pid}\n")
}
