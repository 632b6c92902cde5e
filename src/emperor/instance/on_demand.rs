//! Vassals on demand: at which address the first connection is waited for, and the socket that is there.
//!
//! The emperor only listens. It accepts nothing: the instance inherits the socket, and the app accepts the
//! connections that wait there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, fstat, lstat};
use rustix::io::Errno;
use rustix::net::listen;

use super::socket_file::{self, Bound};
use crate::config;
use crate::config::plan::{Address, OnDemand};
use crate::emperor::core::vassal_file::{VassalFile, as_file_name, vassal_name};
use crate::error::{Cause, Context, Error, Result};
use crate::files;

/// Connections that wait while an instance starts.
const BACKLOG: i32 = 1024;

/// More than an address needs.
pub const ADDRESS_MAX: usize = 4096;

/// The address of the vassal whose file is at `path`; `None` if it is not on demand. In tyrant mode
/// (`is_tyrant`) no user may say where the emperor, which is root, binds a socket, nor take the socket of
/// another user's vassal by a file of the same name.
///
/// # Errors
/// The file that names it cannot be read, is not root's, or holds no address.
pub fn address(rule: &OnDemand, path: &VassalFile, is_tyrant: bool) -> Result<Option<Address>> {
    let text = match rule {
        // A command takes its time: see [`crate::emperor::commands::on_demand_exec`].
        OnDemand::Command(_) => return Ok(None),
        OnDemand::Directory(directory) => {
            let mut name = match is_tyrant {
                true => OsString::from_vec(as_file_name(path.name())),
                false => vassal_name(path.file()).to_owned(),
            };
            name.push(".socket");
            return Ok(Some(Address::file(directory.join(name))));
        }
        OnDemand::Extension(extension) => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(extension);
            let beside = Path::new(&beside);
            let file = match files::open_file(beside) {
                Err(Cause::Os(Errno::NOENT)) => return Ok(None),
                file => file.context("open", beside.display())?,
            };
            let opened = fstat(&file).context("look at", beside.display())?;
            // A link of a user's would have the emperor read, and quote in its log, a file that the user may
            // not read.
            let is_itself =
                lstat(beside).is_ok_and(|there| socket_file::id(&there) == socket_file::id(&opened));
            if is_tyrant && !(opened.st_uid == 0 && is_itself) {
                let reason = "with emperor-tyrant it must be root's, and no link";
                return Err(Error::new("take an address from", beside.display(), reason));
            }
            files::read_all(file).context("read", beside.display())?
        }
    };
    parse(&text, path).map(Some)
}

/// The address in the first line that a file or a command has for the vassal whose file is at `path`.
///
/// # Errors
/// The line is not an address.
pub fn parse(text: &[u8], path: &Path) -> Result<Address> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let line = line.get(..ADDRESS_MAX).unwrap_or(line);
    config::address(line).map_err(|why| Error::new("take an address for", path.display(), why))
}

/// A socket that listens at an address, and its file. Any user may connect that may reach the file: the
/// clients of the vassal are not the emperor's user.
///
/// # Errors
/// Another process listens there, or something else is there; as socket(2), bind(2).
pub fn open(address: &Address) -> Result<Bound> {
    // The mode is not changed by the path afterwards: in a user's directory that may lead to another file by
    // then.
    let before = rustix::process::umask(Mode::XUSR | Mode::XGRP | Mode::XOTH);
    let bound = socket_file::listen_on(address, false);
    rustix::process::umask(before);
    let bound = bound?;
    listen(&bound.socket, BACKLOG).context("listen on", &address.name)?;
    Ok(bound)
}
