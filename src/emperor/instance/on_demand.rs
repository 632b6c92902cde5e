//! Vassals on demand: the address of the first connection, and the socket that listens there.
//!
//! The emperor only listens, and accepts nothing. The instance inherits the socket, and the app accepts the
//! connections that wait.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, fstat, lstat};
use rustix::io::Errno;
use rustix::net::listen;

use super::socket_file::{self, Bound, Clients};
use crate::config;
use crate::config::plan::Address;
use crate::emperor::core::vassal_file::{VassalFile, as_file_name, vassal_name};
use crate::error::{Cause, Context, Error, Result};
use crate::files;

/// How many connections may wait while an instance starts.
const BACKLOG: i32 = 1024;

/// How much of a file or of a command's output is read: more than an address needs.
pub const ADDRESS_MAX: usize = 4096;

/// The address in this directory of the vassal whose file is at `path`. In tyrant mode (`is_tyrant`) a user
/// must not get the socket of another user's vassal by a file of the same name.
pub fn in_directory(directory: &Path, path: &VassalFile, is_tyrant: bool) -> Address {
    let mut name = match is_tyrant {
        true => OsString::from_vec(as_file_name(path.name())),
        false => vassal_name(path.file()).to_owned(),
    };
    name.push(".socket");
    Address::file(directory.join(name))
}

/// Opens the file at `path` that contains the address of a vassal; `None` if there is no such file. In tyrant
/// mode (`is_tyrant`) the file must be root's: no user may choose where the emperor, which is root, binds a
/// socket.
///
/// # Errors
/// open(2); or the file belongs to another user.
pub fn open_file(path: &Path, is_tyrant: bool) -> Result<Option<OwnedFd>> {
    let file = match files::open_file(path) {
        Err(Cause::Os(Errno::NOENT)) => return Ok(None),
        file => file.context("open", path.display())?,
    };
    let opened = fstat(&file).context("look at", path.display())?;
    // Otherwise a user's link could make the emperor read, and quote in its log, a file that the user may not
    // read.
    let is_itself = lstat(path).is_ok_and(|there| socket_file::id(&there) == socket_file::id(&opened));
    if is_tyrant && !(opened.st_uid == 0 && is_itself) {
        let reason = "with emperor-tyrant it must be root's, and no link";
        return Err(Error::new("take an address from", path.display(), reason));
    }
    Ok(Some(file))
}

/// The address from the copy of such a file, for the vassal whose file is at `path`.
///
/// # Errors
/// As read(2), and [`parse`].
pub fn in_file(copy: Option<OwnedFd>, path: &Path) -> Result<Option<Address>> {
    let Some(copy) = copy else { return Ok(None) };
    let text = files::read_all(copy).context("read the address of", path.display())?;
    parse(&text, path).map(Some)
}

/// The address in the first line of a file or of a command's output, for the vassal whose file is at `path`.
///
/// # Errors
/// The line is not an address.
pub fn parse(text: &[u8], path: &Path) -> Result<Address> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let line = line.get(..ADDRESS_MAX).unwrap_or(line);
    config::address(line).map_err(|why| Error::new("take an address for", path.display(), why))
}

/// A socket that listens at an address, and its file. Every user who can reach the file may connect, because
/// the clients of the vassal are other users than the emperor's.
///
/// # Errors
/// Another process listens at the address, or the path has another kind of file; as socket(2), bind(2).
pub fn open(address: &Address) -> Result<Bound> {
    // By umask, not by chmod: in a user's directory the path may lead to another file afterwards.
    let before = rustix::process::umask(Mode::XUSR | Mode::XGRP | Mode::XOTH);
    let bound = socket_file::listen_on(address, Clients::OfApp);
    rustix::process::umask(before);
    let bound = bound?;
    listen(&bound.socket, BACKLOG).context("listen on", &address.name)?;
    Ok(bound)
}
