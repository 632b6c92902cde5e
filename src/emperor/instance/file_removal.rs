//! Removes the files of sockets that are no longer kept. Otherwise another user could not use the name of a
//! socket file in a directory with the sticky bit.
//!
//! The path of a file may hang, even on purpose. So a separate process removes the files, one process for
//! each tenant, and nothing waits for it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::kept_sockets::LeftFile;
use super::socket_file::remove;
use crate::error::Error;
use crate::log;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::fd;

/// The pause between two checks for the end of all processes.
const PAUSE: Duration = Duration::from_millis(2);

/// The processes that remove files.
#[derive(Default)]
pub struct FileRemoval(Vec<Pid>);

impl FileRemoval {
    /// Starts to remove files. A path that has another file by now is left alone.
    pub fn begin(&mut self, mut left: Vec<LeftFile>) {
        while let Some(owner) = left.last().map(|last| last.owner) {
            let parent = rustix::process::getpid();
            match clone3(0) {
                Ok(Side::Parent(child)) => self.0.push(child.pid),
                Ok(Side::Child) => {
                    if clone::die_with(parent).is_ok() {
                        // A closed socket must not stay open here.
                        fd::close_from(3);
                        for one in left.iter().filter(|one| one.owner == owner) {
                            remove(&one.path, &|there| one.is_it(there));
                        }
                    }
                    clone::exit(0)
                }
                Err(errno) => {
                    let error = Error::os("create", "a process", errno);
                    log!("{error}: the files of sockets that are closed are left");
                }
            }
            left.retain(|one| one.owner != owner);
        }
    }

    /// Called for each child that has ended and is not an instance. Returns whether it was one of these
    /// processes.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let known = self.0.iter().position(|known| *known == pid);
        known.map(|index| self.0.swap_remove(index)).is_some()
    }

    /// Whether no process runs.
    pub fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until everything is removed, or the time is over.
    pub fn finish(&mut self, until: Instant) {
        while !self.0.is_empty() && Instant::now() < until {
            self.0.retain(|pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
            std::thread::sleep(PAUSE);
        }
    }
}
