//! Removes the files of sockets that are no longer kept. Otherwise another user could not use the name of a
//! socket file in a directory with the sticky bit.
//!
//! The path of a file may hang, even on purpose. So separate processes remove the files, each those of one
//! tenant, and nothing waits for them. A tenant of whom `MAX` processes hang gets no others.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::kept_sockets::{Group, LeftFile};
use super::socket_file::remove;
use crate::emperor::deputy::Deputy;
use crate::error::Error;
use crate::log;

/// The pause between two checks for the end of all processes.
const PAUSE: Duration = Duration::from_millis(2);

/// How many processes remove files of one group at a time. When so many hang, further files are left.
const MAX: usize = 8;

/// The processes that remove files, with the groups of the files.
#[derive(Default)]
pub struct FileRemoval(Vec<(Pid, Group)>);

impl FileRemoval {
    /// Starts to remove files. A path that has another file by now is left alone.
    pub fn begin(&mut self, mut left: Vec<LeftFile>) {
        while let Some(group) = left.last().map(|last| last.group) {
            let life = |_link| {
                for one in left.iter().filter(|one| one.group == group) {
                    remove(&one.path, &|there| one.is_it(there));
                }
            };
            let deputy = match self.can_begin(group) {
                true => Deputy::start(c"emperor-remover", life),
                false => Err(Error::os("create", "a process", Errno::AGAIN)),
            };
            match deputy {
                Ok(deputy) => self.0.push((deputy.pid(), group)),
                Err(error) => {
                    for one in left.iter().filter(|one| one.group == group) {
                        log!("{error}: {} is left", one.path.display());
                    }
                }
            }
            left.retain(|one| one.group != group);
        }
    }

    fn can_begin(&self, group: Group) -> bool {
        self.0.iter().filter(|(_, other)| *other == group).count() < MAX
    }

    /// Called for each child that has ended and is not an instance. Returns whether it was one of these
    /// processes.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let known = self.0.iter().position(|(known, _)| *known == pid);
        known.map(|index| self.0.swap_remove(index)).is_some()
    }

    /// Whether no process runs.
    pub fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until everything is removed, or the time is over.
    pub fn finish(&mut self, until: Instant) {
        while !self.0.is_empty() && Instant::now() < until {
            self.0.retain(|(pid, _)| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::owner::Owner;
    use crate::emperor::instance::kept_sockets::Kept;
    use crate::place::Place;
    use crate::protocol::{KeptSocket, SocketId};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    /// A socket of this user's that is no longer kept.
    fn left(path: &Path, uid: u32) -> Vec<LeftFile> {
        let place = Place::File(path.to_owned());
        let id = SocketId { place, file: None, is_on_demand: false };
        let mut kept = Kept::default();
        let fd = UnixListener::bind(path).unwrap().into();
        kept.keep(KeptSocket { id, fd, is_lent: false }, Owner { uid, gid: uid }).unwrap();
        kept.close();
        kept.take_left().files
    }

    #[test]
    fn a_tenant_whose_files_hang_gets_no_more_processes_and_delays_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let mut removal = FileRemoval::default();
        let of = |name: &str, uid| left(&directory.path().join(name), uid);
        let (one, other) = (of("one", 1000), of("other", 1001));
        let (group, others) = (one[0].group, other[0].group);
        removal.0 = vec![(rustix::process::getpid(), group); MAX];
        removal.begin(one);
        assert_eq!(removal.0.len(), MAX);
        assert!(removal.can_begin(others));
        // It can begin when one of them has ended.
        assert!(removal.ended(rustix::process::getpid()) && removal.can_begin(group));
    }
}
