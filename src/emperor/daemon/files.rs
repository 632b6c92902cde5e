//! The files that an emperor writes: the log, and its pid.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open, stat};

use crate::emperor::instance::socket_file::remove;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::sys::fd::write_all;

/// Makes a file our standard output and error, and thereby that of the vassals: ours, theirs and their apps' lines are
/// appended to it. A file that is truncated by somebody else (logrotate's `copytruncate`) goes on from its beginning.
///
/// # Errors
/// open(2); ENXIO for a fifo that nobody reads.
pub fn log_to(path: &Path) -> Result<()> {
    let failed = || path.display();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    // Nothing is waited for while opening; but apps expect a descriptor that waits.
    let file = open(path, flags | OFlags::NONBLOCK, mode).context("open", failed())?;
    let blocking = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    blocking.context("open", failed())?;
    rustix::stdio::dup2_stdout(&file).context("log to", failed())?;
    rustix::stdio::dup2_stderr(&file).context("log to", failed())
}

/// Whether that file is our log already, as in an emperor that was upgraded: another user than at first, it may not be
/// able to open it again.
pub fn is_log(path: &Path) -> bool {
    let (log, there) = (fstat(rustix::stdio::stdout()), stat(path));
    log.and_then(|log| there.map(|there| (log.st_dev, log.st_ino) == (there.st_dev, there.st_ino)))
        == Ok(true)
}

/// The file with our pid; it goes with us.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it, over whatever was there. One that says so already was ours before an upgrade, and maybe root's.
    ///
    /// # Errors
    /// open(2), write(2); something else has its name: a fifo would have us wait for a reader.
    pub fn new(path: &Path) -> Result<Self> {
        let file = Self(path.to_owned());
        if file.is_ours() {
            return Ok(file);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let opened = open(path, flags | OFlags::NONBLOCK, mode).context("open", path.display())?;
        let status = fstat(&opened).context("look at", path.display())?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::new("write a pid to", path.display(), "it is not a regular file"));
        }
        write_all(rustix::fd::AsFd::as_fd(&opened), content().as_bytes()).context("write", path.display())?;
        Ok(file)
    }

    /// Another emperor may have written its own into it.
    fn is_ours(&self) -> bool {
        let text = files::open_file(&self.0).and_then(files::read_all);
        text.is_ok_and(|text| text == content().as_bytes())
    }

    /// Removes the one that the program in whose place we are has written, if it is to be somewhere else now.
    pub fn moves(before: &[u8], now: Option<&Path>) {
        let before = Path::new(OsStr::from_bytes(before));
        if now != Some(before) {
            drop(Self(before.to_owned()));
        }
    }

    /// Its path, for a program that takes our place.
    pub fn save(&self) -> Vec<u8> {
        self.0.as_os_str().as_bytes().to_vec()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            remove(&self.0);
        }
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}
