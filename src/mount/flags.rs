//! The names of mount and unmount flags: those of uWSGI (its `core/mount.c`), and those of mount(8).
//!
//! Names are searched and shown in this order.

use libc::{
    MS_BIND, MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_MOVE, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC,
    MS_NOSUID, MS_NOSYMFOLLOW, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_SHARED, MS_SILENT,
    MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};

use crate::names;
use crate::names::Names;

/// The bit for `rec` among the flags of an unmount, as in uWSGI. umount2(2) does not use it.
pub const UMOUNT_RECURSIVE: u64 = MS_REC;

/// Other users than the daemon's may use the filesystem (allow_other, mount.fuse(8)). The kernel then checks
/// their rights.
pub const FUSE_ALLOW_OTHER: u64 = 1 << 60;
/// The kernel checks the rights of files (default_permissions, mount.fuse(8)).
pub const FUSE_DEFAULT_PERMISSIONS: u64 = 1 << 61;

/// The options of a FUSE mount. mount(2) does not use the last two bits.
#[rustfmt::skip]
pub static FUSE: Names<u64> = names![
    ("allow_other", FUSE_ALLOW_OTHER),
    ("default_permissions", FUSE_DEFAULT_PERMISSIONS),
    ("noatime", MS_NOATIME),
    ("noexec", MS_NOEXEC),
    ("ro", MS_RDONLY),
];

/// Flags of mount(2) in the form in which a value removes them: shifted to the upper half, which mount(2)
/// does not use.
const fn no(flags: u64) -> u64 {
    flags << 32
}

/// The flags that a value removes.
pub fn taken_away(flags: u64) -> u64 {
    flags >> 32
}

/// The flags of mount(2), as `MS_*` bits. The opposite of a flag removes it if the mount exists already
/// (`remount,bind`). Otherwise it names the default, and has no effect.
#[rustfmt::skip]
pub static MOUNT: Names<u64> = names![
    ("async", 0),
    ("atime", no(MS_NOATIME)),
    ("bind", MS_BIND),
    ("defaults", 0),
    ("dev", no(MS_NODEV)),
    ("dirsync", MS_DIRSYNC),
    ("exec", no(MS_NOEXEC)),
    ("lazytime", MS_LAZYTIME),
    ("mand", MS_MANDLOCK),
    ("mandlock", MS_MANDLOCK),
    ("move", MS_MOVE),
    ("noatime", MS_NOATIME),
    ("nodev", MS_NODEV),
    ("nodiratime", MS_NODIRATIME),
    ("noexec", MS_NOEXEC),
    ("nosuid", MS_NOSUID),
    ("nosymfollow", MS_NOSYMFOLLOW),
    ("private", MS_PRIVATE),
    ("rbind", MS_BIND | MS_REC),
    ("rdonly", MS_RDONLY),
    ("readonly", MS_RDONLY),
    ("rec", MS_REC),
    ("recursive", MS_REC),
    ("relatime", MS_RELATIME),
    ("remount", MS_REMOUNT),
    ("ro", MS_RDONLY),
    ("rprivate", MS_PRIVATE | MS_REC),
    ("rshared", MS_SHARED | MS_REC),
    ("rslave", MS_SLAVE | MS_REC),
    ("runbindable", MS_UNBINDABLE | MS_REC),
    ("rw", no(MS_RDONLY)),
    ("shared", MS_SHARED),
    ("silent", MS_SILENT),
    ("slave", MS_SLAVE),
    ("strictatime", MS_STRICTATIME),
    ("suid", no(MS_NOSUID)),
    ("sync", MS_SYNCHRONOUS),
    ("unbindable", MS_UNBINDABLE),
];

/// The flags of umount2(2), as `MNT_*` and `UMOUNT_*` bits, and [`UMOUNT_RECURSIVE`].
///
/// There is no `expire`: its first call always fails and only marks the mount.
#[rustfmt::skip]
pub static UMOUNT: Names<u64> = names![
    ("detach", libc::MNT_DETACH as u64),
    ("force", libc::MNT_FORCE as u64),
    ("lazy", libc::MNT_DETACH as u64),
    ("nofollow", libc::UMOUNT_NOFOLLOW as u64),
    ("rec", UMOUNT_RECURSIVE),
    ("recursive", UMOUNT_RECURSIVE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order_and_every_flag_says_something() {
        for table in [&MOUNT, &UMOUNT] {
            assert!(table.names().is_sorted_by(|a, b| a < b));
            for (name, bits) in table.lines.lines().zip(table.meanings) {
                let is_default = ["async", "defaults"].contains(&name);
                assert_eq!(*bits == 0, is_default, "{name}");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
            }
        }
    }

    #[test]
    fn the_halves_do_not_mix() {
        for (name, bits) in MOUNT.lines.lines().zip(MOUNT.meanings) {
            assert!(taken_away(*bits) == 0 || *bits == no(taken_away(*bits)), "{name}");
        }
    }

    #[test]
    fn recursion_is_no_flag_of_the_kernel() {
        let names = UMOUNT.lines.lines().zip(UMOUNT.meanings);
        for (name, bits) in names.filter(|(name, _)| !name.starts_with("rec")) {
            assert_eq!(bits & UMOUNT_RECURSIVE, 0, "{name}");
        }
    }
}
