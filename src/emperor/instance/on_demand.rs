//! Vassals on demand: at which address the first connection is waited for, and the socket that is there.
//!
//! The emperor only listens. It accepts nothing: the instance inherits the socket, and the app accepts the
//! connections that wait there.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, fstat, lstat};
use rustix::io::Errno;
use rustix::net::listen;

use super::socket_file::{self, Bound};
use crate::config;
use crate::config::plan::Address;
use crate::emperor::core::vassal_file::{VassalFile, as_file_name, vassal_name};
use crate::error::{Cause, Context, Error, Result};
use crate::files;

/// Connections that wait while an instance starts.
const BACKLOG: i32 = 1024;

/// More than an address needs.
pub const ADDRESS_MAX: usize = 4096;

/// The socket in this directory of the vassal whose file is at `path`. In tyrant mode (`is_tyrant`) no user
/// may take the socket of another user's vassal by a file of the same name.
pub fn in_directory(directory: &Path, path: &VassalFile, is_tyrant: bool) -> Address {
    let mut name = match is_tyrant {
        true => OsString::from_vec(as_file_name(path.name())),
        false => vassal_name(path.file()).to_owned(),
    };
    name.push(".socket");
    Address::file(directory.join(name))
}

/// Opens the file at `path` that names the address of a vassal; `None` if it is not there. In tyrant mode
/// (`is_tyrant`) no user may say where the emperor, which is root, binds a socket.
///
/// # Errors
/// open(2); it is not root's.
pub fn open_file(path: &Path, is_tyrant: bool) -> Result<Option<OwnedFd>> {
    let file = match files::open_file(path) {
        Err(Cause::Os(Errno::NOENT)) => return Ok(None),
        file => file.context("open", path.display())?,
    };
    let opened = fstat(&file).context("look at", path.display())?;
    // A link of a user's would have the emperor read, and quote in its log, a file that the user may not
    // read.
    let is_itself = lstat(path).is_ok_and(|there| socket_file::id(&there) == socket_file::id(&opened));
    if is_tyrant && !(opened.st_uid == 0 && is_itself) {
        let reason = "with emperor-tyrant it must be root's, and no link";
        return Err(Error::new("take an address from", path.display(), reason));
    }
    Ok(Some(file))
}

/// The address in the copy of such a file, for the vassal whose file is at `path`.
///
/// # Errors
/// As read(2), and [`parse`].
pub fn in_file(copy: Option<OwnedFd>, path: &Path) -> Result<Option<Address>> {
    let Some(copy) = copy else { return Ok(None) };
    let text = files::read_all(copy).context("read the address of", path.display())?;
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
