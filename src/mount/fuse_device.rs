//! A FUSE mount that PID 1 makes before it starts the daemon, which gets the open `/dev/fuse`. So no set-uid
//! `fusermount` is needed. libfuse accepts `/dev/fd/N` as the mountpoint since 3.3.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fstat};

use super::flags::{FUSE_ALLOW_OTHER, FUSE_DEFAULT_PERMISSIONS};
use super::ops::{self, walked};
use super::request::{Fuse, MountRequest};
use crate::error::{Context, Error, Result};
use crate::path::Walk;

const DEVICE: &str = "/dev/fuse";
/// The device number (Documentation/admin-guide/devices.txt of the kernel).
const NUMBER: libc::dev_t = libc::makedev(10, 229);

/// Mounts for a daemon of this user, and returns the descriptor for the daemon.
///
/// # Errors
/// There is no such device, or the mount fails.
pub fn mount(fuse: &Fuse, (uid, gid): (u32, u32), walk: &Walk) -> Result<OwnedFd> {
    // In a tree of the tenant's a link could lead to another device, and opening a device may have effects.
    let path = Path::new(DEVICE);
    let device = walked(walk.open(path, OFlags::RDWR | OFlags::NOCTTY), "fuse", path)?;
    if fstat(&device).context("look at", DEVICE)?.st_rdev != NUMBER {
        return Err(Error::new("fuse:", DEVICE, "it is another device, or none"));
    }
    let number = device.as_raw_fd();
    let mut data = format!("fd={number},rootmode=40000,user_id={uid},group_id={gid}");
    if fuse.flags & FUSE_ALLOW_OTHER != 0 {
        data.push_str(",allow_other");
    }
    if fuse.flags & (FUSE_ALLOW_OTHER | FUSE_DEFAULT_PERMISSIONS) != 0 {
        data.push_str(",default_permissions");
    }
    let request = MountRequest {
        fs_type: "fuse".into(),
        source: "fuse".into(),
        target: fuse.target.clone(),
        flags: fuse.flags | libc::MS_NOSUID | libc::MS_NODEV,
        data: data.into(),
    };
    ops::mount(&request, walk)?;
    Ok(device)
}
