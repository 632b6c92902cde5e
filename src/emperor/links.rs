//! Links that lead to other directories, each of which may hang.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2, readlinkat};
use rustix::io::Errno;

/// How many links the kernel follows one after another (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Follows a file that is a link, or is mounted: link after link, since each of them may be on another
/// filesystem that hangs. Before anything is looked at in another directory, `goes_on` says whether that may
/// be done. Returns whether it may be done everywhere on the way.
pub fn follow(path: &Path, goes_on: &mut dyn FnMut(&Path) -> bool) -> bool {
    let mut file = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(target) = target(&file) else { return true };
        let is_mount = target == file;
        let place = if is_mount { Some(&*target) } else { target.parent() };
        let other = place.filter(|place| Some(*place) != file.parent());
        if other.is_some_and(|place| !goes_on(place)) {
            return false;
        }
        if is_mount {
            return true;
        }
        file = target;
    }
    true
}

/// The path that a file is a link to; or the file, if it is a mount of its own. `None` if it is in the
/// directory of its name. Nothing is looked at but that.
fn target(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?;
    let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    match openat2(&held, path.file_name()?, itself, Mode::empty(), ResolveFlags::NO_XDEV) {
        Ok(file) => {
            let target = readlinkat(file, "", Vec::new()).ok()?;
            Some(directory.join(OsStr::from_bytes(target.as_bytes())))
        }
        Err(Errno::XDEV) => Some(path.to_owned()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_other_directory_on_the_way_is_asked_for_before_it_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
        link("file", "beside");
        link("/a/b/c.ini", "far");
        link("far", "twice");
        link("d/../e.ini", "relative");
        link("loop2", "loop");
        link("loop", "loop2");
        for (path, places) in [
            (path("file"), vec![]),
            (path("missing"), vec![]),
            (path("beside"), vec![]),
            (path("far"), vec!["/a/b".into()]),
            (path("twice"), vec!["/a/b".into()]),
            (path("relative"), vec![path("d/..")]),
            (path("loop"), vec![]),
            ("/proc".into(), vec!["/proc".into()]),
        ] {
            let mut asked = Vec::new();
            let mut ask = |place: &Path| {
                asked.push(place.to_owned());
                true
            };
            assert!(follow(&path, &mut ask));
            assert_eq!(asked, places, "{}", path.display());
            assert_eq!(follow(&path, &mut |_| false), places.is_empty(), "{}", path.display());
        }
    }
}
