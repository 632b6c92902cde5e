//! Memory files. Of a sealed one every process with the descriptor can read, map or execute the bytes, and
//! none can change them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    MemfdFlags, Mode, SealFlags, SeekFrom, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create,
    seek,
};
use rustix::io::{Errno, pread};

use super::fd::write_all;

/// Whether a memory file may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Data only.
    Read,
    /// A program.
    Execute,
}

/// `F_SEAL_EXEC` (Linux 6.3): the execute permissions cannot be changed. rustix has no name for it.
const SEAL_EXEC: SealFlags = SealFlags::from_bits_retain(0x20);

/// Copies `bytes` into a sealed, close-on-exec memory file, positioned at its beginning. `/proc` shows it as
/// `name` (memfd_create(2)).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM; EACCES for a program if `vm.memfd_noexec` is 2.
pub fn sealed(name: &str, bytes: &[u8], usage: Use) -> Result<OwnedFd, Errno> {
    let fd = create(name, MemfdFlags::ALLOW_SEALING, usage)?;
    write_all(fd.as_fd(), bytes)?;
    seek(&fd, SeekFrom::Start(0))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    if usage == Use::Execute {
        // A user who cannot read a program can neither trace a process that runs it, from its first
        // instruction on (PR_SET_DUMPABLE), nor reach the file through that process. A user who cannot write
        // it cannot open it for writing, which would prevent its execution (ETXTBSY).
        fchmod(&fd, Mode::XUSR | Mode::XGRP | Mode::XOTH)?;
        if fcntl_add_seals(&fd, seals | SEAL_EXEC).is_ok() {
            return Ok(fd);
        }
    }
    fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// The bytes of a sealed memory file at its beginning; `None` if it is another file, or has more than `max`.
/// Never waits: the kernel asks no filesystem whether a file is sealed.
pub fn content(fd: &OwnedFd, max: usize) -> Option<Vec<u8>> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    fcntl_get_seals(fd).ok().filter(|has| has.contains(seals))?;
    let size = usize::try_from(fstat(fd).ok()?.st_size).ok().filter(|size| *size <= max)?;
    let mut bytes = vec![0; size];
    (pread(fd, &mut bytes, 0) == Ok(size)).then_some(bytes)
}

fn create(name: &str, flags: MemfdFlags, usage: Use) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC;
    let exec = if usage == Use::Execute { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    match memfd_create(name, flags | exec) {
        // Before Linux 6.3 the flag did not exist.
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn can_be_read_but_not_changed() {
        let mut file = File::from(sealed("test", b"bytes", Use::Read).unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn a_program_can_only_be_executed() {
        let file = File::from(sealed("test", b"bytes", Use::Execute).unwrap());
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o111);
        let seals = fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SEAL), "{seals:?}");
        // The kernel has the other seal if it has the flag.
        if memfd_create("test", MemfdFlags::EXEC).is_ok() {
            assert!(seals.contains(SEAL_EXEC), "{seals:?}");
            assert_eq!(fchmod(&file, Mode::RUSR), Err(Errno::PERM));
        }
    }
}
