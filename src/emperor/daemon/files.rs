//! The files that an emperor writes: its log, and its pid file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, ftruncate, stat};
use rustix::io::Errno;

use crate::emperor::instance::socket_file::{id, remove, tell_once};
use crate::error::{Context, Described, Error, Result};
use crate::files;
use crate::log;
use crate::path::Walk;
use crate::sys::fd::write_all;

/// Makes a file the standard output and error of the emperor, and thereby of the vassals. The lines of both
/// programs and of the apps are appended to it. If another program truncates the file (logrotate's
/// `copytruncate`), the next line goes to its beginning.
///
/// # Errors
/// open(2); ENXIO for a fifo without a reader.
pub fn log_to(path: &Path) -> Result<()> {
    let failed = || path.display();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    // Opening a fifo must not wait for a reader. The descriptor itself must block, because apps expect that.
    let file =
        Walk::default().open_to_change(path, flags | OFlags::NONBLOCK, mode).context("open", failed())?;
    let blocking = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    blocking.context("open", failed())?;
    rustix::stdio::dup2_stdout(&file).context("log to", failed())?;
    rustix::stdio::dup2_stderr(&file).context("log to", failed())
}

/// Whether a file is the log already, as after an upgrade. The emperor may have become another user since,
/// who cannot open the file again.
pub fn is_log(path: &Path) -> bool {
    let (log, there) = (fstat(rustix::stdio::stdout()), stat(path));
    log.and_then(|log| there.map(|there| (log.st_dev, log.st_ino) == (there.st_dev, there.st_ino)))
        == Ok(true)
}

/// The file with the emperor's pid. It is removed when the emperor ends.
pub struct PidFile {
    path: PathBuf,
    /// Why it could not be made anew, as logged.
    trouble: Option<Error>,
}

impl PidFile {
    /// Writes the file, over an older one if necessary. A file with the right pid is from before an upgrade,
    /// and may belong to root.
    ///
    /// # Errors
    /// open(2), write(2); or it is not a regular file: a fifo would block the emperor until a reader comes.
    pub fn new(path: &Path) -> Result<Self> {
        let file = Self { path: path.to_owned(), trouble: None };
        if !file.is_ours() {
            file.write()?;
        }
        Ok(file)
    }

    /// Writes the file anew if it is gone. A file that another emperor has written there stays.
    pub fn renew(&mut self) {
        if matches!(stat(&self.path), Err(Errno::NOENT | Errno::NOTDIR)) {
            let missing = format!("the pid file {} was missing", self.path.display());
            match self.write() {
                Ok(()) => log!("{missing}: made anew"),
                Err(error) => tell_once(&mut self.trouble, &missing, error),
            }
        }
    }

    fn write(&self) -> Result<()> {
        let path = &self.path;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let opened = Walk::default().open_to_change(path, flags, mode).context("open", path.display())?;
        let status = fstat(&opened).context("look at", path.display())?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::new("write a pid to", path.display(), "it is not a regular file"));
        }
        // An older content is cut off last, so that the new one has room on a full disk.
        let text = content();
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

    /// Whether the file has this emperor's pid: another emperor may have written its own.
    fn is_ours(&self) -> bool {
        let text = files::open_file(&self.path).and_then(files::read_all);
        text.is_ok_and(|text| text == content().as_bytes())
    }

    /// Removes the file of the program before the upgrade if the new one is elsewhere.
    pub fn moves(before: &[u8], now: Option<&Path>) {
        let before = Path::new(OsStr::from_bytes(before));
        if now != Some(before) {
            drop(Self { path: before.to_owned(), trouble: None });
        }
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

fn content() -> String {
    format!("{}\n", std::process::id())
}
