//! Sealed memory files: bytes that whoever gets the descriptor can read, map or execute, and nobody can
//! change.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create, seek};
use rustix::io::Errno;

use super::fd::write_all;

/// Whether a memory file may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Data only.
    Read,
    /// A program.
    Execute,
}

/// Copies `bytes` into a sealed, close-on-exec memory file that stands at its beginning; `name` is what
/// `/proc` shows (memfd_create(2)).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM; EACCES for a program where `vm.memfd_noexec` is 2.
pub fn sealed(name: &str, bytes: &[u8], usage: Use) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let exec = if usage == Use::Execute { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let fd = match memfd_create(name, flags | exec) {
        // Before Linux 6.3 there was no such choice.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    write_all(fd.as_fd(), bytes)?;
    seek(&fd, SeekFrom::Start(0))?;
    fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn can_be_read_but_not_changed() {
        let mut file = File::from(sealed("test", b"bytes", Use::Read).unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }
}
