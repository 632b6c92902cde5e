//! Removes the files of sockets that nobody keeps any more. Without that a socket of another user, in a
//! directory with the sticky bit, could never have the name.
//!
//! The way to a file may hang, also by the will of a tenant, so a process of its own goes it, for the files
//! of each tenant another one. Nothing waits for it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::kept_sockets::Left;
use super::socket_file::remove;
use crate::error::Error;
use crate::log;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::fd;

/// The pause between two looks whether all are done.
const PAUSE: Duration = Duration::from_millis(2);

/// The processes that remove files.
#[derive(Default)]
pub struct FileRemoval(Vec<Pid>);

impl FileRemoval {
    /// Begins to remove files. What has the name of one by now stays.
    pub fn begin(&mut self, mut left: Vec<Left>) {
        while let Some(owner) = left.last().map(|last| last.owner) {
            let parent = rustix::process::getpid();
            match clone3(0) {
                Ok(Side::Parent(child)) => self.0.push(child.pid),
                Ok(Side::Child) => {
                    if clone::die_with(parent).is_ok() {
                        // A socket that is closed must not stay open here.
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

    /// A child has ended that is not an instance. Returns whether it was one of these.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let known = self.0.iter().position(|known| *known == pid);
        known.map(|index| self.0.swap_remove(index)).is_some()
    }

    /// Whether there is nothing to do.
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
