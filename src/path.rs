//! Paths that may not be trusted: walked below a root that no symbolic link leads out of.
//!
//! The kernel does it (openat2(2), RESOLVE_IN_ROOT), but gives up with EAGAIN when anything on the machine is
//! renamed or mounted while it walks over a `..`: it can no longer tell whether the directory above is still
//! below the root. It is called again for a short time; then the path is walked here, one component at a
//! time. A `..` goes back to the directory that the walk came from, which is held open, so a rename has no
//! influence on it.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::{Errno, Result, fcntl_dupfd_cloexec};

use crate::retry;
use crate::sys::exec::c_string;

/// How long the kernel is asked again before the path is walked here.
const KERNEL_LIMIT: Duration = Duration::from_millis(5);
/// Symbolic links followed in one walk, as in the kernel (MAXSYMLINKS, path_resolution(7)).
const LINKS_MAX: u32 = 40;
/// The longest path that the kernel takes, with its terminating NUL (PATH_MAX).
const PATH_MAX: usize = 4096;

/// Opens a path (O_PATH) as a process sees it whose root directory is `root`: absolute paths and links begin
/// at `root`, and `..` stops there. Magic links of procfs are not followed.
///
/// # Errors
/// As openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, but never EAGAIN.
pub fn open_in_root(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let root = root.as_fd();
    let by_kernel = || openat2_in_root(root, path);
    match retry::while_passing(Errno::AGAIN, KERNEL_LIMIT, by_kernel) {
        Err(Errno::AGAIN) => walk_in_root(root, path),
        result => result,
    }
}

fn openat2_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, c_string(path.as_os_str()), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The walk of [`open_in_root`] without the kernel's RESOLVE_IN_ROOT.
fn walk_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let path = c_string(path.as_os_str());
    match path.as_bytes().len() {
        0 => return Err(Errno::NOENT),
        PATH_MAX.. => return Err(Errno::NAMETOOLONG),
        _ => {}
    }
    let mut walk = Walk { root, directories: Vec::new(), rest: Vec::new(), links: 0 };
    walk.enter(path.as_bytes());
    while let Some(part) = walk.rest.pop() {
        match part {
            Part::Root => walk.directories.clear(),
            Part::Here => walk.may_search()?,
            Part::Up => {
                walk.may_search()?;
                walk.directories.pop();
            }
            Part::Name(name) => match walk.look_up(&name)? {
                Found::Link(link) => walk.follow(&name, &link)?,
                Found::Other(file) => walk.directories.push(file),
            },
            Part::Slash if walk.is_in_directory()? => {}
            Part::Slash => return Err(Errno::NOTDIR),
        }
    }
    match walk.directories.pop() {
        Some(file) => Ok(file),
        None => fcntl_dupfd_cloexec(root, 0),
    }
}

/// A walk by hand that has come to a directory.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// From below the root to where the walk is, which can be a file only at its end.
    directories: Vec<OwnedFd>,
    /// What is left to walk, the next part last.
    rest: Vec<Part>,
    /// How many links were followed.
    links: u32,
}

/// A part of a path.
enum Part {
    /// A leading slash.
    Root,
    /// `.`
    Here,
    /// `..`
    Up,
    /// A name in the directory.
    Name(CString),
    /// A slash at the end: what was found must be a directory.
    Slash,
}

/// What has a name.
enum Found {
    Link(OwnedFd),
    Other(OwnedFd),
}

impl Walk<'_> {
    /// Puts the parts of a path in front of what is left.
    fn enter(&mut self, path: &[u8]) {
        let mut parts = Vec::new();
        if path.starts_with(b"/") {
            parts.push(Part::Root);
        }
        for part in path.split(|&byte| byte == b'/') {
            match part {
                b"" => {}
                b"." => parts.push(Part::Here),
                b".." => parts.push(Part::Up),
                name => parts.push(Part::Name(c_string(OsStr::from_bytes(name)))),
            }
        }
        if path.ends_with(b"/") {
            parts.push(Part::Slash);
        }
        self.rest.extend(parts.into_iter().rev());
    }

    fn directory(&self) -> BorrowedFd<'_> {
        self.directories.last().map_or(self.root, AsFd::as_fd)
    }

    /// Fails unless the walk is in a directory that may be searched, as `.` and `..` have it.
    fn may_search(&self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(self.directory(), c".", flags, Mode::empty()).map(drop)
    }

    fn is_in_directory(&self) -> Result<bool> {
        Ok(FileType::from_raw_mode(fstat(self.directory())?.st_mode) == FileType::Directory)
    }

    /// Opens a name of the directory that the walk is in, without following a link.
    fn look_up(&self, name: &CStr) -> Result<Found> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let is_last = self.rest.is_empty();
        if !is_last {
            // O_DIRECTORY also mounts a filesystem that is mounted on demand (autofs).
            match openat(self.directory(), name, flags | OFlags::DIRECTORY, Mode::empty()) {
                Err(Errno::NOTDIR) => {}
                opened => return opened.map(Found::Other),
            }
        }
        let file = openat(self.directory(), name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Symlink => Ok(Found::Link(file)),
            _ if !is_last => Err(Errno::NOTDIR),
            _ => Ok(Found::Other(file)),
        }
    }

    /// Puts the text of a link in front of what is left.
    fn follow(&mut self, name: &CStr, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        self.may_follow(name)?;
        let text = readlinkat(link, c"", Vec::new())?;
        self.enter(text.as_bytes());
        Ok(())
    }

    /// Asks the kernel about links that are not to be followed: magic ones and those of a mount with
    /// `nosymfollow` (ELOOP); at the end of the path, those of other users in a sticky directory (EACCES,
    /// `fs.protected_symlinks` in proc_sys_fs(5)).
    fn may_follow(&self, name: &CStr) -> Result<()> {
        let is_last = self.rest.iter().all(|part| matches!(part, Part::Slash));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(self.directory(), name, flags, Mode::empty(), resolve) {
            Err(Errno::LOOP) => Err(Errno::LOOP),
            Err(Errno::ACCESS) if is_last => Err(Errno::ACCESS),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    /// An empty directory that is removed in the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vassal-path-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// Which file was found.
    fn identity(found: Result<OwnedFd>) -> Result<(u64, u64)> {
        fstat(found?).map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// The kernel's answer. Other tests rename and mount meanwhile: it is asked until it has one.
    fn oracle(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
        retry::while_passing(Errno::AGAIN, Duration::from_secs(60), || openat2_in_root(root, path))
    }

    fn compare(root: BorrowedFd<'_>, path: &Path) -> Result<(u64, u64)> {
        let (kernel, ours) = (identity(oracle(root, path)), identity(walk_in_root(root, path)));
        assert_eq!(kernel, ours, "{}: the kernel, and the walk by hand", path.display());
        ours
    }

    /// A generator of numbers that are the same in every run (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit
        }

        /// A path of up to `parts` parts that is likely to lead somewhere in a tree of the names `a` to `d`.
        fn path(&mut self, parts: usize) -> String {
            const PARTS: [&str; 9] = ["a", "b", "c", "d", "a", "..", "..", ".", "missing"];
            let mut path = String::from(["", "", "", "/", "//"][self.below(5)]);
            for part in 0..=self.below(parts) {
                if part > 0 {
                    path.push_str(["/", "/", "/", "//"][self.below(4)]);
                }
                path.push_str(PARTS[self.below(PARTS.len())]);
            }
            path.push_str(["", "", "", "/", "/."][self.below(5)]);
            path
        }
    }

    #[test]
    fn the_walk_by_hand_finds_what_the_kernel_finds() {
        let mut random = Random(0x5eed_2026_1129_0001);
        let (mut found, mut failed) = (0, 0);
        for round in 0..60 {
            let tree = Tree::new("random");
            let mut directories = vec![tree.0.clone()];
            for _ in 0..20 {
                let parent = directories[random.below(directories.len())].clone();
                let path = parent.join(["a", "b", "c", "d"][random.below(4)]);
                match random.below(10) {
                    0..=3 if fs::create_dir(&path).is_ok() => directories.push(path),
                    4 => drop(File::create_new(&path)),
                    _ => drop(symlink(random.path(4), &path)),
                }
            }
            // Once with the whole tree below the root, and once with a part of it above.
            for directory in [&directories[0], &directories[random.below(directories.len())]] {
                let root = root(directory);
                for _ in 0..100 {
                    match compare(root.as_fd(), Path::new(&random.path(8))) {
                        Ok(_) => found += 1,
                        Err(_) => failed += 1,
                    }
                }
            }
            assert!(round < 10 || found > round && failed > round, "{found} found, {failed} not");
        }
    }

    #[test]
    fn the_walk_by_hand_has_the_limits_of_the_kernel() {
        let tree = Tree::new("limits");
        let at = |name: &str| tree.0.join(name);
        fs::create_dir(at("dir")).unwrap();
        File::create_new(at("file")).unwrap();
        symlink("dir", at("link-1")).unwrap();
        for number in 2..=42 {
            symlink(format!("link-{}", number - 1), at(&format!("link-{number}"))).unwrap();
        }
        symlink("loop", at("loop")).unwrap();
        symlink("file/", at("file-slash")).unwrap();
        symlink("x".repeat(4000), at("long")).unwrap();
        symlink("/../../dir/..//../file", at("climb")).unwrap();
        let root = root(&tree.0);
        // In a directory where everybody may write, links of others are not followed
        // (`fs.protected_symlinks`).
        fs::create_dir(at("sticky")).unwrap();
        fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("../dir", at("sticky/link")).unwrap();
        if rustix::process::geteuid().is_root() {
            lchown(at("sticky/link"), Some(1), Some(1)).unwrap();
        }
        let compare = |path: &str| compare(root.as_fd(), Path::new(path)).err();
        compare("sticky/link");
        compare("sticky/link/");
        assert_eq!(compare("sticky/link/."), None);
        assert_eq!((compare("link-40"), compare("link-41")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("link-40/."), compare("link-21/../link-21/")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("link-20/../link-20"), compare("loop/..")), (None, Some(Errno::LOOP)));
        assert_eq!((compare("climb"), compare("climb/..")), (None, Some(Errno::NOTDIR)));
        for path in ["file/", "file/.", "file/..", "file/x", "file-slash", "link-1/../file/"] {
            assert_eq!(compare(path), Some(Errno::NOTDIR), "{path}");
        }
        for path in ["", "x/..", "x/", "link-3/x/."] {
            assert_eq!(compare(path), Some(Errno::NOENT), "{path}");
        }
        for path in ["long".to_owned(), "y".repeat(256), "dir/../".repeat(600)] {
            assert_eq!(compare(&path), Some(Errno::NAMETOOLONG));
        }
        for path in ["/", ".", "..", "//", "/..//", "dir/", "dir/../..", &"dir/../".repeat(585)] {
            assert_eq!(compare(path), None, "{path}");
        }
    }

    #[test]
    fn the_walk_by_hand_follows_links_of_procfs_that_have_a_text() {
        let root = root(Path::new("/proc"));
        let compare = |path: &str| compare(root.as_fd(), Path::new(path)).err();
        for path in ["self/status", "mounts", "thread-self/../../status", "self/../self/comm"] {
            assert_eq!(compare(path), None, "{path}");
        }
        for path in ["self/exe", "self/cwd/..", "self/root", "self/fd/0", "self/ns/mnt"] {
            assert_eq!(compare(path), Some(Errno::LOOP), "{path}");
        }
    }

    /// Runs `work` while another thread renames as fast as it can.
    fn among_renames(tree: &Tree, work: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (tree.0.join("one"), tree.0.join("two"));
                File::create_new(&one).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(&one, &two).unwrap();
                    fs::rename(&two, &one).unwrap();
                }
            });
            work();
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn renames_elsewhere_do_not_fail_a_walk() {
        let (tree, elsewhere) = (Tree::new("walked"), Tree::new("elsewhere"));
        fs::create_dir(tree.0.join("dir")).unwrap();
        symlink("dir/../".repeat(500), tree.0.join("climb")).unwrap();
        let (root, path) = (root(&tree.0), Path::new("climb/dir"));
        let wanted = identity(oracle(root.as_fd(), path)).unwrap();
        among_renames(&elsewhere, || {
            let deadline = Instant::now() + Duration::from_secs(60);
            while openat2_in_root(root.as_fd(), path).err() != Some(Errno::AGAIN) {
                assert!(Instant::now() < deadline, "the kernel never says EAGAIN: this test shows nothing");
            }
            for _ in 0..200 {
                assert_eq!(identity(open_in_root(&root, path)), Ok(wanted));
            }
        });
    }
}
