//! The ini that a uWSGI app reads from us, and reads again.
//!
//! uWSGI reloads by executing itself with the same arguments, so it reads the same `fd://N` once more; but that
//! descriptor stands where the first reading left it, at the end. We share its position, so we put it back, once it
//! has stood at the end for a while: never while somebody reads.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::SeekFrom;

use crate::error::{Context, Result};
use crate::sys::memfd::{self, Use};

/// How often the position is looked at. It has to stand at the end twice.
pub const LOOK: Duration = Duration::from_secs(1);

/// The ini, in a memory file that uWSGI inherits.
#[derive(Debug)]
pub struct Ini {
    file: OwnedFd,
    size: u64,
    looked: Instant,
    was_read: bool,
}

impl Ini {
    /// A memory file with this text.
    ///
    /// # Errors
    /// No memory, no descriptor.
    pub fn new(text: &[u8], now: Instant) -> Result<Self> {
        let file = memfd::sealed("vassal.ini", text, Use::Read).context("create", "the ini of uwsgi")?;
        Ok(Self { file, size: text.len() as u64, looked: now, was_read: false })
    }

    /// What uWSGI calls it: `fd://6`.
    pub fn url(&self) -> String {
        format!("fd://{}", self.file.as_raw_fd())
    }

    /// The file, to be inherited.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// When to [look](Self::look) next.
    pub fn due(&self) -> Instant {
        self.looked + LOOK
    }

    /// Puts the position back if everything was read, and that not just now.
    pub fn look(&mut self, now: Instant) {
        if now < self.due() {
            return;
        }
        self.looked = now;
        let is_read = rustix::fs::tell(&self.file).is_ok_and(|position| position >= self.size);
        if is_read && self.was_read {
            // Cannot fail on a memory file.
            let _ = rustix::fs::seek(&self.file, SeekFrom::Start(0));
        }
        self.was_read = is_read && !self.was_read;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_again_a_while_after_it_was_read() {
        let start = Instant::now();
        let mut ini = Ini::new(b"[uwsgi]\n", start).unwrap();
        let read = |ini: &Ini| rustix::io::read(&ini.file, &mut [0; 64]).unwrap();
        ini.look(start + LOOK);
        assert_eq!((read(&ini), read(&ini)), (8, 0));
        ini.look(start + LOOK * 2);
        assert_eq!(read(&ini), 0, "put back too soon");
        ini.look(start + LOOK * 3);
        assert_eq!(read(&ini), 8);
    }
}
