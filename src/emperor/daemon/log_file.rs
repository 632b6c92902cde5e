//! The file that an emperor writes its log to.

use std::path::Path;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, stat};

use crate::error::{Context, Result};
use crate::path::Walk;

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
