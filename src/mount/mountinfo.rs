//! The mount table (`/proc/self/mountinfo`, proc_pid_mountinfo(5)) as values. Pure: bytes in, mounts out.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount, with the fields that are needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its ID, which the kernel reuses after an unmount.
    pub id: u64,
    /// The ID of the mount that it is mounted on.
    parent: u64,
    /// The device number of its filesystem, major and minor.
    pub device: (u32, u32),
    /// Where it is mounted, relative to the reader's root.
    pub mount_point: PathBuf,
    /// Filesystem type, with the subtype: `fuse.fuse-zip`.
    pub fs_type: String,
    /// The options of the filesystem, as the filesystem prints them.
    super_options: String,
}

/// The identity under which a filesystem answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

impl Mount {
    /// The identity under which this mount can be judged.
    ///
    /// FUSE answers only processes whose real, effective and saved IDs are those of the user who mounted it,
    /// unless it was mounted with `allow_other`. All others get EACCES, whether it is dead or alive. Other
    /// filesystems answer root.
    pub fn owner(&self) -> Owner {
        let root = Owner { uid: 0, gid: 0 };
        if !self.is_fuse() || self.option("allow_other").is_some() {
            return root;
        }
        let id = |name| self.option(name)?.parse().ok();
        match (id("user_id"), id("group_id")) {
            (Some(uid), Some(gid)) => Owner { uid, gid },
            _ => root,
        }
    }

    /// The user who mounted it, for a FUSE filesystem.
    pub fn user(&self) -> Option<u32> {
        self.option("user_id")?.parse().ok()
    }

    /// Whether it is served by a process, which can die or hang.
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type == "fuseblk" || self.fs_type.starts_with("fuse.")
    }

    /// Whether it is known to be served by a process or another machine, which may not answer.
    pub fn is_served(&self) -> bool {
        const OF_MACHINES: [&str; 9] =
            ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "lustre"];
        self.is_fuse() || OF_MACHINES.contains(&&*self.fs_type)
    }

    /// Whether it is served, or what is yet to be mounted there may be. Where systemd runs, an autofs for
    /// `binfmt_misc` is always below `/proc`.
    pub fn may_wait(&self) -> bool {
        self.is_served() || self.fs_type == "autofs" && !self.mount_point.starts_with("/proc")
    }

    /// Whether it is known that this kernel serves it alone, from memory or from a block device: neither
    /// another machine nor a process can keep it from answering.
    pub fn is_local(&self) -> bool {
        matches!(
            &*self.fs_type,
            "ext2"
                | "ext3"
                | "ext4"
                | "xfs"
                | "btrfs"
                | "f2fs"
                | "zfs"
                | "bcachefs"
                | "jfs"
                | "reiserfs"
                | "nilfs2"
                | "ubifs"
                | "jffs2"
                | "vfat"
                | "exfat"
                | "ntfs3"
                | "tmpfs"
                | "ramfs"
                | "rootfs"
                | "devtmpfs"
                | "overlay"
                | "proc"
                | "hugetlbfs"
        )
    }

    /// The number of its FUSE connection, if it has one.
    pub fn connection(&self) -> Option<u64> {
        self.is_fuse().then(|| number(self.device))
    }

    /// Whether it is an overlay of the kernel's, which answers for its root whatever becomes of its layers.
    pub fn is_overlay(&self) -> bool {
        self.fs_type == "overlay"
    }

    /// The value of a filesystem option, empty for one without a value.
    fn option(&self, name: &str) -> Option<&str> {
        self.super_options.split(',').find_map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key == name).then_some(value)
        })
    }
}

/// A device number in the kernel's own form, which is also the number of a FUSE connection.
pub fn number((major, minor): (u32, u32)) -> u64 {
    u64::from(major) << 20 | u64::from(minor)
}

/// Whether a connection is numbered after a block device (`fuseblk`). Other connections have numbers of their
/// own.
pub fn is_of_block_device(connection: u64) -> bool {
    connection >> 20 != 0
}

/// Reads all mounts, in the order of the file: of two mounts on one mount point, the later one is on top.
/// Lines that do not parse are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// The topmost mount on exactly this path.
pub fn topmost<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.mount_point == path)
}

/// The mount on exactly this path that a walk reaches: the topmost one, if no later mount covers a directory
/// above it.
pub fn visible<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let mut reached: Option<&Mount> = None;
    let places: Vec<_> = path.ancestors().collect();
    for place in places.into_iter().rev() {
        // Of several mounts on one mount point, each is mounted on the one before, so one turn for each mount
        // is enough.
        for _ in mounts {
            let is_next = |mount: &&Mount| match reached {
                Some(below) => mount.parent == below.id && mount.id != below.id,
                None => mounts.iter().all(|other| other.id != mount.parent || other.id == mount.id),
            };
            let next = mounts.iter().filter(|mount| mount.mount_point == place).find(is_next);
            if next.is_none() {
                break;
            }
            reached = next;
        }
    }
    reached.filter(|mount| mount.mount_point == path)
}

/// The mount that contains a path, if no part of the path is a symbolic link.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    path.ancestors().find_map(|path| topmost(mounts, path))
}

/// The mounts below a path, deepest first: the order in which they can be unmounted.
pub fn below<'a>(mounts: &'a [Mount], path: &Path) -> Vec<&'a Path> {
    let points = mounts.iter().map(|mount| mount.mount_point.as_path());
    let mut points: Vec<_> = points.filter(|point| *point != path && point.starts_with(path)).collect();
    // The kernel lists mounts in the order of their creation, and a mount that was moved may be on a younger
    // one. A deeper mount has a longer path than the one it is on.
    points.sort_unstable_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    points
}

/// `36 35 98:0 /root /mount\040point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mount_point = fields.nth(1)?;
    // Mount options, then any number of optional fields up to a lone hyphen.
    fields.find(|&field| field == b"-")?;
    let fs_type = fields.next()?;
    let super_options = fields.nth(1).unwrap_or_default();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(Mount {
        id,
        parent,
        device,
        mount_point: OsString::from_vec(unescape(mount_point)).into(),
        fs_type: text(fs_type),
        super_options: text(super_options),
    })
}

/// Undoes the kernel's octal escapes: `\040` for a space, `\011`, `\012`, `\134`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'\\'
            && let Some((digits, after)) = tail.split_first_chunk::<3>()
            && let Some(value) = octal(digits)
        {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    out
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

/// A path in the form of mountinfo, as far as its text shows it: without `.`, and without doubled or trailing
/// slashes.
pub fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    out.extend(path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter_map(|part| match part {
        b"" | b"." => None,
        part => Some(OsString::from_vec(part.to_vec())),
    }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        40 22 0:35 / /app ro,nosuid,nodev,relatime - fuse.fuse-zip fuse-zip ro,user_id=1000,group_id=1001\n\
        41 22 0:36 / /with\\040space\\134 rw shared:9 master:2 - tmpfs none rw\n\
        42 40 0:37 / /app rw - fuse x rw,user_id=1000,group_id=1000,default_permissions,allow_other\n\
        garbage\n\
        43 22 0:38 / /short rw - tmpfs\n";

    #[test]
    fn reads_types_points_and_escapes() {
        let mounts = parse(TEXT);
        let ids: Vec<_> = mounts.iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [22, 40, 41, 42, 43]);
        assert_eq!(mounts[2].mount_point, Path::new("/with space\\"));
        assert_eq!(mounts[1].fs_type, "fuse.fuse-zip");
        let connections: Vec<_> = mounts.iter().map(Mount::connection).collect();
        assert_eq!(connections, [None, Some(35), None, Some(37), None]);
    }

    #[test]
    fn what_others_serve_is_never_local() {
        for (fs_type, is_served, is_local) in [
            ("nfs4", true, false),
            ("fuse.sshfs", true, false),
            ("fuseblk", true, false),
            ("virtiofs", true, false),
            ("ext4", false, true),
            ("autofs", false, false),
        ] {
            let mount = parse(format!("1 0 0:1 / /a rw - {fs_type} a rw").as_bytes()).pop().unwrap();
            assert_eq!((mount.is_served(), mount.is_local()), (is_served, is_local), "{fs_type}");
        }
    }

    #[test]
    fn the_later_mount_is_on_top() {
        let mounts = parse(TEXT);
        assert_eq!(topmost(&mounts, Path::new("/app")).unwrap().id, 42);
        assert_eq!(topmost(&mounts, Path::new("/ap")), None);
    }

    #[test]
    fn what_is_covered_is_not_visible() {
        let text = b"1 0 0:1 / / rw - t t rw\n2 1 0:2 / /a/b rw - t t rw\n3 2 0:3 / /a/b rw - t t rw\n\
            4 2 0:4 / /a/b/c rw - t t rw\n5 1 0:5 / /d/e rw - t t rw\n6 1 0:6 / /d rw - t t rw\n\
            7 1 0:7 / /g rw - t t rw\n8 7 0:8 / /g/h rw - t t rw\n";
        let mounts = parse(text);
        let seen = |path: &str| visible(&mounts, Path::new(path)).map(|mount| mount.id);
        let paths = ["/", "/a/b", "/a/b/c", "/d/e", "/d", "/g/h", "/a", "/g/h/i"];
        let expected = [Some(1), Some(3), None, None, Some(6), Some(8), None, None];
        assert_eq!(paths.map(seen), expected);
        // In another root directory, whose own mount is not listed.
        assert_eq!(visible(&mounts[6..], Path::new("/g/h")).unwrap().id, 8);
        assert!(
            visible(&parse(b"1 2 0:1 / / rw - t t rw\n2 1 0:1 / / rw - t t rw\n"), Path::new("/")).is_none()
        );
    }

    #[test]
    fn a_path_is_held_by_the_nearest_mount() {
        let mounts = parse(TEXT);
        let ids =
            ["/app", "/app/x/y", "/apple", "/"].map(|path| holding(&mounts, Path::new(path)).unwrap().id);
        assert_eq!(ids, [42, 42, 22, 22]);
        assert_eq!(holding(&[], Path::new("/x")), None);
    }

    #[test]
    fn what_is_below_comes_deepest_first() {
        let text = b"1 0 0:1 / /a rw - t t rw\n2 1 0:2 / /a/b rw - t t rw\n3 2 0:3 / /a/b/c rw - t t rw\n\
            4 1 0:4 / /ab rw - t t rw\n";
        let mut mounts = parse(text);
        let expected = [Path::new("/a/b/c"), Path::new("/a/b")];
        assert_eq!(below(&mounts, Path::new("/a")), expected);
        // The order in which the kernel lists a mount that was moved onto a younger one.
        mounts.reverse();
        assert_eq!(below(&mounts, Path::new("/a")), expected);
    }

    #[test]
    fn a_private_fuse_mount_is_judged_as_its_owner() {
        let owners: Vec<_> = parse(TEXT).iter().map(Mount::owner).collect();
        let root = Owner { uid: 0, gid: 0 };
        assert_eq!(owners, [root, Owner { uid: 1000, gid: 1001 }, root, root, root]);
    }

    #[test]
    fn paths_are_compared_as_the_kernel_prints_them() {
        for (path, expected) in [("/app/", "/app"), ("//app/./x", "/app/x"), ("/", "/")] {
            assert_eq!(normalize(Path::new(path)), Path::new(expected));
        }
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\999\\777"), b"\\999\\777");
    }
}
